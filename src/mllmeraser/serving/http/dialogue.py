"""Requests in OpenAI's chat format, and the prompt built from them. Unknown fields are ignored: OpenAI may add some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, StrictBool, model_validator

from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.turns import render_messages
from mllmeraser.serving.engine import Prompt, Sampling
from mllmeraser.serving.engine.encoding import check_context
from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.http.pictures import from_url
from mllmeraser.serving.http.settings import ServeSettings

LONGEST_TEXT = 100_000
MESSAGES = 256
UNSUPPORTED = ("tools", "functions", "response_format", "logit_bias", "frequency_penalty", "presence_penalty")


class TextPart(BaseModel):
    """A piece of text."""

    type: Literal["text"]
    text: Annotated[str, Field(max_length=LONGEST_TEXT)]


class ImageAddress(BaseModel):
    """URL of a picture."""

    url: str


class ImagePart(BaseModel):
    """A picture; many clients send the URL alone."""

    type: Literal["image_url"]
    image_url: Annotated[ImageAddress, BeforeValidator(lambda url: {"url": url} if isinstance(url, str) else url)]


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(BaseModel):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(max_length=LONGEST_TEXT)] | list[Part] | None

    @model_validator(mode="after")
    def _says_something(self) -> Message:
        if self.content is None and self.role != "assistant":  # an assistant that called a tool said nothing
            raise ValueError(f"a message of the {self.role} has a text, or parts")
        return self

    def parts(self) -> list[TextPart | ImagePart]:
        """The content as a list of parts."""
        return [TextPart(type="text", text=self.content)] if isinstance(self.content, str) else list(self.content or ())

    def text(self) -> str:
        """All text, joined as templates do."""
        return "".join(part.text for part in self.parts() if isinstance(part, TextPart))


class StreamOptions(BaseModel):
    """Options of a stream."""

    include_usage: StrictBool = False


class ChatRequest(BaseModel):
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
        """Raise `Refusal` (400) for settings that the answer would ignore."""
        harmless = {"response_format": {"type": "text"}}
        for name in UNSUPPORTED:
            value = getattr(self, name)
            if value and value != harmless.get(name):
                raise Refusal(400, f"{name} is not supported: leave it out", "unsupported_parameter")

    def samplings(self, settings: ServeSettings) -> list[Sampling]:
        """Sampling settings of the ``n`` answers; decoding is greedy without a temperature."""
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


class TextRequest(BaseModel):
    """Body of ``POST /v1/completions``. A list of prompts has one."""

    model: Annotated[str, Field(max_length=512)]
    prompt: Annotated[str, Field(max_length=LONGEST_TEXT)] | Annotated[
        list[Annotated[str, Field(max_length=LONGEST_TEXT)]], Field(min_length=1, max_length=1)
    ]  # fmt: skip
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: Annotated[str, Field(min_length=1)] | Annotated[
        list[Annotated[str, Field(min_length=1)]], Field(max_length=4)
    ] | None = None  # fmt: skip
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    echo: StrictBool | None = None
    suffix: str | None = None
    best_of: int | None = None
    logprobs: int | None = None
    logit_bias: Any = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None

    def as_chat(self) -> ChatRequest:
        """The same request with the prompt as a message of the user; raises `Refusal` as `refuse_unsupported`."""
        asked = {"echo": self.echo, "suffix": self.suffix, "logprobs": self.logprobs is not None}  # 0 asks for them too
        for name, wanted in asked.items():
            if wanted:
                raise Refusal(400, f"{name} is not supported: leave it out", "unsupported_parameter")
        if self.best_of not in (None, self.n or 1):
            raise Refusal(400, "best_of is not supported: leave it out", "unsupported_parameter")
        text = self.prompt if isinstance(self.prompt, str) else self.prompt[0]
        same = self.model_dump(exclude={"prompt", "echo", "suffix", "best_of", "logprobs"})
        return ChatRequest(messages=[Message(role="user", content=text)], **same)


def prompt_of(messages: list[Message], model: MultimodalModel, settings: ServeSettings) -> Prompt:
    """Build the prompt of a conversation, in the checkpoint's own chat format.

    Cheap checks come first; pictures are read last. Raises `Refusal` (400) for control tokens, too many pictures and
    the like, and `InputError` if the chat format does not take the messages, or the model not as many tokens.
    """
    if messages[-1].role != "user":  # erasers decide on the question of the user
        raise Refusal(400, "the last message must be the user's", "invalid_value")
    length, most = sum(len(message.text()) for message in messages), settings.max_text_characters
    if length > most:
        raise Refusal(400, f"a conversation may have {most} characters, this one has {length}", "invalid_value")
    urls = _picture_urls(messages, settings.max_images if model.family.several else 1)
    text = _rendered(messages, model)
    check_context(model, text)
    return Prompt(text, tuple(from_url(url, settings) for url in urls))


def _picture_urls(messages: list[Message], most: int) -> list[str]:
    pictures = [(message.role, part) for message in messages for part in message.parts() if isinstance(part, ImagePart)]
    if any(role != "user" for role, _ in pictures):
        raise Refusal(400, "only the user's messages may have pictures", "invalid_value")
    if len(pictures) > most:
        allowed = "one picture" if most == 1 else f"{most} pictures"
        raise Refusal(400, f"a conversation with this model may have {allowed}", "invalid_value")
    return [part.image_url.url for _, part in pictures]


def _rendered(messages: list[Message], model: MultimodalModel) -> str:
    """Render the conversation in the chat format, without control tokens from the client.

    A control token may be assembled from pieces: by parts of a message, or by a template that trims or moves text. So
    the control tokens of the whole are compared with those of the same conversation without its words.
    """
    text = _templated(messages, model, str)
    bare = _templated(messages, model, lambda words: "x" if words.strip() else words)  # templates may omit blank text
    joined = [message.text() for message in messages]
    for token in _control_tokens(model):
        if text.count(token) > bare.count(token) or any(token in said for said in joined):
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
    return render_messages(model.processor, turns)


def _control_tokens(model: MultimodalModel) -> list[str]:
    tokenizer = model.processor.tokenizer
    marked = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return [t for t in {*marked, *tokenizer.all_special_tokens, model.family.image_token(model.processor)} if t]
