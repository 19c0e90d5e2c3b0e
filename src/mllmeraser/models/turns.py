"""The chat format of a checkpoint in token ids: where a user's turn begins, and where the answer to it begins.

A served prompt is a conversation, and a forward pass sees token ids alone. The marks are read off the chat template:
conversations of placeholder words are rendered, and the tokens between the words are the marks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mllmeraser.models.families import Family
from mllmeraser.models.families.base import tokenize
from mllmeraser.samples.errors import InputError

Mark = tuple[int, ...]
WORDS = ("zoqxa", "zoqxb", "zoqxc")
"""Placeholders for the text of turns; no template holds them."""


@dataclass(frozen=True)
class TurnFormat:
    """Marks in token ids.

    Attributes:
        user: What stands right before the text of a user's turn; several if it depends on what stands before.
        answer: What stands right before an answer.
        preamble: What stands before the first user's mark of a plain prompt: a begin token, a default system message.
        pronouns: Words that point to somebody (see `models.wording`).
        backward: Words that point to what was said before.
    """

    user: tuple[Mark, ...]
    answer: tuple[Mark, ...]
    preamble: Mark = ()
    pronouns: tuple[Mark, ...] = ()
    backward: tuple[Mark, ...] = ()


def turn_format(processor: Any) -> TurnFormat | None:
    """The marks of a chat template; None if it takes no conversation, or turns do not differ in tokens."""
    one, two, three = WORDS
    try:
        text = _rendered(processor, [("user", one), ("assistant", two), ("user", three)])
        plain = _rendered(processor, [("user", one)])
    except InputError:
        return None
    if [text.count(word) for word in WORDS] != [1, 1, 1] or plain.count(one) != 1:
        return None
    # Blanks at the end of a mark may be joined to the words after it.
    ends = [len(text[: text.index(word)].rstrip()) for word in WORDS]
    user = _common_end(text[: ends[0]], text[text.index(two) + len(two) : ends[2]])
    answer = _common_end(text[text.index(one) + len(one) : ends[1]], text[text.index(three) + len(three) :].rstrip())
    if not user.strip() or not answer.strip():
        return None
    closing = len(text.rstrip())
    users = [_span(processor, text, end - len(user), end) for end in (ends[0], ends[2])]
    answers = [_span(processor, text, end - len(answer), end) for end in (ends[1], closing)]
    # A prompt ends with the whole mark, blanks included.
    answers.append(_span(processor, text, closing - len(answer), len(text)))
    before = _span(processor, plain, 0, len(plain[: plain.index(one)].rstrip()) - len(user))
    return TurnFormat(_each_once(users), _each_once(answers), before) if all((*users, *answers)) else None


Reading = Literal["each turn", "one text", "nothing"]


def reading_of(hf: Any, family: Family) -> Reading:
    """How erasers read a conversation in a model.

    Linear attention carries earlier turns along in a state that no mask can take out: all turns count as one text. With
    flash attention no turn can be masked, so conversations are refused.
    """
    config = family.text_config(hf)
    if "flash" in str(config._attn_implementation):
        return "nothing"
    return "one text" if "linear_attention" in (getattr(config, "layer_types", None) or ()) else "each turn"


def render_messages(processor: Any, messages: Sequence[Mapping[str, Any]]) -> str:
    """Messages in the chat format of a checkpoint, up to the start of the answer; each content is a list of parts.

    Raises:
        InputError: The template refuses them, or leaves words of a user's or a system's message out.
    """
    text, marks = _templated(processor, messages), dict[str, str]()
    marked = [{**message, "content": [_marked(part, message, marks) for part in message["content"]]}
              for message in messages]  # fmt: skip
    shown = _templated(processor, marked).casefold()
    for mark, role in marks.items():
        if mark not in shown and role != "assistant":  # templates may drop a thought
            raise InputError(f"this model's chat format leaves out a message of the {role}")
    return text


def _marked(part: Mapping[str, Any], message: Mapping[str, Any], marks: dict[str, str]) -> Mapping[str, Any]:
    """The part with a mark of its own for its words: a template may trim, escape or join them."""
    if not (part.get("text") or "").strip():
        return part
    mark = f"zoq{len(marks)}xa"
    marks[mark] = message["role"]
    return {**part, "text": mark}


def _templated(processor: Any, messages: Sequence[Mapping[str, Any]]) -> str:
    try:
        return str(processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
    except Exception as error:  # templates raise errors of jinja2 for an order of roles that they do not take
        raise InputError(f"this model's chat format does not take these messages ({error})") from None


def _rendered(processor: Any, turns: Sequence[tuple[str, str]]) -> str:
    messages = [{"role": role, "content": [{"type": "text", "text": words}]} for role, words in turns]
    return _templated(processor, messages)


def _common_end(one: str, other: str) -> str:
    """The longest common end of two texts."""
    length = 0
    while length < min(len(one), len(other)) and one[-1 - length] == other[-1 - length]:
        length += 1
    return one[len(one) - length :]


def _span(processor: Any, text: str, start: int, stop: int) -> Mark:
    """Ids of the tokens that lie between two characters of a prompt."""
    ids = tokenize(processor, [text])[0]
    before = len(tokenize(processor, [text[:start]])[0]) if start else 0
    through = len(tokenize(processor, [text[:stop]])[0]) if stop < len(text) else len(ids)
    return tuple(ids[before:through])


def _each_once(marks: Sequence[Mark]) -> tuple[Mark, ...]:
    return tuple(dict.fromkeys(marks))
