"""What a client asks, in OpenAI's chat format, and the prompt that the model reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from mllmeraser.models.model import MultimodalModel
from mllmeraser.serving.engine import Prompt, Sampling
from mllmeraser.serving.engine.encoding import check_context
from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.http.pictures import from_url
from mllmeraser.serving.http.settings import ServeSettings

LONGEST_TEXT = 100_000
MESSAGES = 256


class Loose(BaseModel):
    """Base of the request's parts: what OpenAI may add later is let through, what matters is checked."""

    model_config = ConfigDict(extra="ignore")


class TextPart(Loose):
    """A piece of text."""

    type: Literal["text"]
    text: Annotated[str, Field(max_length=LONGEST_TEXT)]


class ImageAddress(Loose):
    """Where a picture is."""

    url: str


class ImagePart(Loose):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageAddress


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(Loose):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(max_length=LONGEST_TEXT)] | list[Part]

    def parts(self) -> list[TextPart | ImagePart]:
        """Its content as parts."""
        return [TextPart(type="text", text=self.content)] if isinstance(self.content, str) else list(self.content)

    def text(self) -> str:
        """All its text, joined as templates do."""
        return "".join(part.text for part in self.parts() if isinstance(part, TextPart))


class StreamOptions(Loose):
    """Options of a stream."""

    include_usage: StrictBool = False


class ChatRequest(Loose):
    """Body of ``POST /v1/chat/completions``."""

    model: Annotated[str, Field(max_length=512)]
    messages: Annotated[list[Message], Field(min_length=1, max_length=MESSAGES)]
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: Annotated[str, Field(min_length=1)] | Annotated[
        list[Annotated[str, Field(min_length=1)]], Field(max_length=4)
    ] | None = None  # fmt: skip
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    logprobs: StrictBool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    tools: Any = None
    functions: Any = None
    response_format: Any = None
    logit_bias: Any = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None

    def refuse_unsupported(self) -> None:
        """Say so where an answer would not be what was asked for.

        Raises:
            Refusal: A setting is not supported.
        """
        plain = self.response_format in (None, {}) or self.response_format == {"type": "text"}
        asked = {
            "tools": self.tools, "functions": self.functions, "response_format": not plain,
            "logit_bias": self.logit_bias, "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
        }  # fmt: skip
        for name, value in asked.items():
            if value:
                raise Refusal(400, f"{name} is not supported: leave it out", "unsupported_parameter")

    def samplings(self, settings: ServeSettings) -> list[Sampling]:
        """How each of the ``n`` answers is drawn; decoding is greedy unless a temperature is given."""
        wanted = self.max_completion_tokens or self.max_tokens or settings.max_tokens
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        tops = (self.top_logprobs or 0) if self.logprobs else None
        return [
            Sampling(
                max_tokens=min(wanted, settings.max_tokens),
                temperature=self.temperature or 0.0,
                top_p=1.0 if self.top_p is None else self.top_p,
                seed=None if self.seed is None else (self.seed + number) % 2**63,
                stop=stops,
                logprobs=tops,
            )
            for number in range(self.n or 1)
        ]


def prompt_of(messages: list[Message], model: MultimodalModel, settings: ServeSettings) -> Prompt:
    """The prompt of a conversation, in the checkpoint's own chat format.

    What is cheap is looked at first: the picture is read last.

    Raises:
        Refusal: There is more than one picture, nothing is asked, the text is too long, or it holds the model's control
            tokens.
        InputError: It has more tokens than the model reads.
    """
    if messages[-1].role not in ("user", "system", "developer"):
        raise Refusal(400, "the last message has to be the user's", "invalid_value")
    _check_length(messages, settings)
    address = _picture_address(messages)
    text = _rendered(messages, model)
    check_context(model, text)
    return Prompt(text, None if address is None else from_url(address, settings))


def _check_length(messages: list[Message], settings: ServeSettings) -> None:
    length = sum(len(message.text()) for message in messages)
    if length > settings.max_text_characters:
        most = settings.max_text_characters
        raise Refusal(400, f"a conversation may have {most} characters, this one has {length}", "invalid_value")


def _picture_address(messages: list[Message]) -> str | None:
    shown = [(message.role, part) for message in messages for part in message.parts() if isinstance(part, ImagePart)]
    if any(role != "user" for role, _ in shown):
        raise Refusal(400, "pictures belong to the user's messages", "invalid_value")
    if len(shown) > 1:
        raise Refusal(400, "one picture in a conversation is supported", "invalid_value")
    return shown[0][1].image_url.url if shown else None


def _rendered(messages: list[Message], model: MultimodalModel) -> str:
    """The conversation in the chat format, in which no control token is the client's.

    One may be put together of pieces: by parts of a message, or by a template that trims or moves what it joins. So
    those of the whole are compared with those of the same conversation without its words.
    """
    control = _control_tokens(model)
    text = _templated(messages, model, str)
    bare = _templated(messages, model, _wordless)
    joined = [message.text() for message in messages]
    if any(text.count(one) > bare.count(one) or any(one in said for said in joined) for one in control):
        raise Refusal(400, "a message holds a control token of this model", "invalid_value")
    return text


def _templated(messages: list[Message], model: MultimodalModel, words: Callable[[str], str]) -> str:
    turns: list[dict[str, Any]] = [
        {
            "role": "system" if message.role == "developer" else message.role,
            "content": [
                {"type": "image"} if isinstance(part, ImagePart) else {"type": "text", "text": words(part.text)}
                for part in message.parts()
            ],
        }
        for message in messages
    ]
    try:
        return str(model.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
    except Exception as error:  # templates raise jinja2's errors for roles in an order they do not know
        raise Refusal(400, f"this model's chat format does not take these messages ({error})") from None


def _wordless(text: str) -> str:
    """A text that makes no control token; a blank one stays, for templates may leave it out."""
    return "x" if text.strip() else text


def _control_tokens(model: MultimodalModel) -> list[str]:
    tokenizer = model.processor.tokenizer
    marked = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return [t for t in {*marked, *tokenizer.all_special_tokens, model.family.image_token(model.processor)} if t]
