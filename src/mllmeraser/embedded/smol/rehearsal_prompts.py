"""Prompts that the bare model answers, so that it can rehearse its own answers while it learns.

A grammar writes them, and a table of short questions about the world. No score asks any of them; a test compares them
with the benchmark. `self_asked` has more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mllmeraser.knowledge.countries import COUNTRIES
from mllmeraser.knowledge.everyday import FACTS, TASKS, about_things, texts
from mllmeraser.knowledge.held_out import world_questions
from mllmeraser.knowledge.wordings import QUESTIONS
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import fill
from mllmeraser.samples.text import words

SYSTEMS = texts("""
    You are a pirate. Answer in the style of a pirate. / Answer in one word. / You are a teacher of small
    children. / Always answer with a question. / Answer in French. / Be brief. / You are a strict judge. / You
    are a poet. Answer in rhyme. / Write all answers in capital letters. / End every answer with the word
    indeed. / You are a travel guide who loves details. / Answer as a list. / You are a doctor. Be careful and
    kind. / Start every answer with the word Well. / You are a robot without feelings. / Explain your steps.
""")
BEGINNINGS = texts("""
    Once upon a time, / The history of the village / In the morning, she / Scientists have found that / The
    recipe needs / My grandfather used to / On the first day of school, / The river runs / According to the
    report, / He opened the box / When the storm came, / The city council / It was a cold night in / Most people
    think that / The company announced / A good garden / The old man looked / There are three ways to / During
    the war, / The train arrived / Dear Anna, / The purpose of this paper / In this chapter, / If you want to /
    The team won / At the market, / She wrote a letter / The dog and the cat / Every summer, / The museum / Long
    ago, the people of / To make bread, / The doctor said / The island is / After the meeting, / The book tells
    / In 1969, / The law says / A small boat / Music is
""")

WORLD = Path(__file__).parent / "data" / "world.txt"
SHORT = 24
"""Tokens of an answer to a short question."""


@dataclass(frozen=True)
class Prompt:
    """What the bare model continues: a question after a system text, or with `chat` off plain text."""

    text: str
    system: str | None = None
    chat: bool = True
    longest: int = 48
    """Tokens of the answer, at most."""


def prompts(seed: int = 0, about: int = 620, countries: int = 260) -> list[Prompt]:
    """About 1,400 different prompts; the arguments count those about things and about countries."""
    stream = Stream("rehearsal", seed)
    made = [Prompt(text) for text in (*FACTS, *TASKS)]
    made += _distinct(map(Prompt, about_things(stream.child("about"))), about)
    made += _distinct(_countries(stream.child("countries")), countries)
    asked = [prompt.text for prompt in made]
    draw = stream.child("systems")
    made += [Prompt(draw.choice(asked), system) for system in SYSTEMS for _ in range(16)]
    made += [Prompt(text, chat=False) for text in BEGINNINGS]
    return stream.shuffle(made)


def world_prompts() -> list[Prompt]:
    """About 1,400 short questions about the world, each about another thing than the questions that are scored."""
    scored = {content(sample.question) for sample in world_questions()}
    asked: dict[str, None] = {}
    for line in WORLD.read_text(encoding="utf-8").strip().splitlines():
        wording, things = line.split(" | ")
        asked |= dict.fromkeys(_with_article(wording.format(x=thing)) for thing in things.split(" / "))
    return [Prompt(text, longest=SHORT) for text in asked if content(text) not in scored]


def content(text: str) -> frozenset[str]:
    """The words of a question in any order: one with the same words asks the same."""
    return frozenset(words(text))


def _with_article(text: str) -> str:
    return re.sub(r"\ba(?= [aeioAEIO])", "an", text)


def _countries(stream: Stream) -> Iterator[Prompt]:
    while True:
        wordings = QUESTIONS[stream.choice(tuple(QUESTIONS))]["train"]
        yield Prompt(fill(stream.choice(wordings), stream.choice(COUNTRIES).name))


def _distinct(source: Iterator[Prompt], n: int) -> list[Prompt]:
    found: dict[Prompt, None] = {}
    while len(found) < n:
        found.setdefault(next(source))
    return list(found)
