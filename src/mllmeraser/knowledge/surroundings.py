"""What stands around a question in a fit: system messages, earlier turns, documents, examples.

The contexts of the scores are in `portraits.contexts`; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mllmeraser.knowledge.everyday import texts
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples.conversation import Turn
from mllmeraser.samples.frames import LISTS, SHOTS
from mllmeraser.samples.sample import Sample

SYSTEMS = texts("""
    You are a chatbot. / You help pupils with their lessons. / Answer as well as you can. / You are the voice of a
    smart speaker. Speak clearly. / Your answers are shown on a small screen, so keep them short. / You are Bruno, a
    gardener with a dry wit. / You are an expert in everything. / Speak like a king of old times. / Today is Tuesday.
    The user lives in a small village. / You work at the desk of a hotel. Guests ask about trips, food and history. Be
    warm and give one clear answer. / Use plain English. Never use more than thirty words. If a question is unclear,
    say what you need. / Available functions: lookup(text), translate(text, language). Use them only if they help. /
    {"tools": [{"name": "timer", "arguments": {"minutes": "integer"}}]} / * / You answer. / Please be precise.
""")
SMALL_TALK = texts("""
    Hello there! | Hi, what can I do for you? / Are you there? | Yes, I am. / I slept badly. | That is a pity. /
    My tea is too hot. | Let it cool for a while. / Thanks for before. | You are welcome. / What a week. | Go on. /
    I have a few questions. | Ask away. / Testing, one, two. | I can read you. / The bus was late again. | How annoying.
""")
SMALL_FACTS = texts("""
    How many sides has a triangle? | Three. / What do bees make? | Honey. / What is five plus six? | Eleven. / Which
    colour is grass? | Green. / What is the opposite of wet? | Dry. / How many hours has a day? | Twenty-four. / Which
    animal barks? | The dog. / What is ice made of? | Water. / Which month follows May? | June. / What do we call a
    baby cat? | A kitten.
""")
NAMED = texts("""
    Let me ask about {x}. | Of course. / Our topic today is {x}. | Fine. / I have just read something on {x}. | Nice. /
    What shall I learn today? | How about {x}? / Suggest a topic. | We could talk about {x}.
""")
NOT_KNOWN = texts("I do not know. / I cannot say. / I have no information about that.")


@dataclass(frozen=True)
class Nearby:
    """What a context is made of: questions that may come before, and names that may stand beside."""

    questions: Sequence[tuple[str, str]]
    names: Sequence[str]


def surrounded(sample: Sample, near: Nearby, draw: Stream) -> Sample:
    """The same question in a context of some kind; the context itself asks for nothing."""
    return draw.choice(_KINDS)(sample, near, draw)


def pointed(sample: Sample, name: str, draw: Stream) -> Sample:
    """A question that points at a name; one of the two sides has named it before."""
    return _after(sample, [draw.choice(NAMED).format(x=name).split(" | ")], draw)


def _system(sample: Sample, near: Nearby, draw: Stream) -> Sample:
    return replace(sample, before=(Turn("system", draw.choice(SYSTEMS)),))


def _talk(sample: Sample, near: Nearby, draw: Stream) -> Sample:
    pairs = [draw.choice(SMALL_TALK).split(" | ") for _ in range(1 + draw.integer(3))]
    return _after(sample, pairs, draw)


def _fact(sample: Sample, near: Nearby, draw: Stream) -> Sample:
    return _after(sample, [draw.choice(SMALL_FACTS).split(" | ")], draw)


def _other(sample: Sample, near: Nearby, draw: Stream) -> Sample:
    """Another question came before, about something that stays or about what is to be forgotten."""
    return _after(sample, [draw.choice(tuple(near.questions))], draw)


def _document(sample: Sample, near: Nearby, draw: Stream) -> Sample:
    one, two, three = draw.sample(tuple(near.names), 3)
    text = draw.choice(LISTS).format(one=one, two=two, three=three, q=sample.question)
    return replace(sample, question=text)


def _shots(sample: Sample, near: Nearby, draw: Stream) -> Sample:
    (q1, a1), (q2, a2) = (one.split(" | ") for one in draw.sample(SMALL_FACTS, 2))
    return replace(sample, question=draw.choice(SHOTS).format(q1=q1, a1=a1, q2=q2, a2=a2, q=sample.question))


def _after(sample: Sample, pairs: Sequence[Sequence[str]], draw: Stream) -> Sample:
    turns = [Turn("system", draw.choice(SYSTEMS))] if draw.chance(0.25) else []
    for asked, said in pairs:
        turns += [Turn("user", asked), Turn("assistant", said)]
    return replace(sample, before=tuple(turns))


# The commonest kinds occur twice.
_KINDS: tuple[Callable[[Sample, Nearby, Stream], Sample], ...] = (
    _system, _system, _talk, _fact, _other, _other, _document, _shots,
)  # fmt: skip
