"""Prompts that the bare model answers, so that it can rehearse its own answers while it learns.

A grammar writes them. No score asks any of them; a test compares them with the benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mllmeraser.knowledge.countries import COUNTRIES
from mllmeraser.knowledge.everyday import FACTS, TASKS, about_things, texts
from mllmeraser.knowledge.wordings import QUESTIONS
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import fill

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


@dataclass(frozen=True)
class Prompt:
    """What the bare model continues: a question after a system text, or with `chat` off plain text."""

    text: str
    system: str | None = None
    chat: bool = True


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


def _countries(stream: Stream) -> Iterator[Prompt]:
    while True:
        wordings = QUESTIONS[stream.choice(tuple(QUESTIONS))]["train"]
        yield Prompt(fill(stream.choice(wordings), stream.choice(COUNTRIES).name))


def _distinct(source: Iterator[Prompt], n: int) -> list[Prompt]:
    found: dict[Prompt, None] = {}
    while len(found) < n:
        found.setdefault(next(source))
    return list(found)
