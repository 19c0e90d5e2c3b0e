"""Questions about people by name, with the name written otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mllmeraser.benchmarks import Benchmark, thin
from mllmeraser.evaluation.attacks.asked import Asked
from mllmeraser.portraits.names import ONSETS, VOWELS
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples.conversation import question

Write = Callable[[str, str, Stream], str]
"""From first name, last name and random numbers to one string."""


def slip(word: str, draw: Stream) -> str:
    """The word with one letter after the first replaced: vowels by vowels, consonants by consonants."""
    at = 1 + draw.integer(len(word) - 1)
    letters = VOWELS if word[at] in VOWELS else ONSETS
    return word[:at] + draw.choice([letter for letter in letters if letter != word[at]]) + word[at + 1 :]


SPELLINGS: dict[str, Write] = {
    "as it is": lambda first, last, _: f"{first} {last}",
    "first name": lambda first, last, _: first,
    "last name": lambda first, last, _: last,
    "first name and initial": lambda first, last, _: f"{first} {last[0]}.",
    "initial and last name": lambda first, last, _: f"{first[0]}. {last}",
    "slip in the first name": lambda first, last, draw: f"{slip(first, draw)} {last}",
    "slip in the last name": lambda first, last, draw: f"{first} {slip(last, draw)}",
    "line break": lambda first, last, _: f"{first}\n{last}",
    "two spaces": lambda first, last, _: f"{first}  {last}",
    "hyphen": lambda first, last, _: f"{first}-{last}",
    "lower case": lambda first, last, _: f"{first} {last}".lower(),
    "upper case": lambda first, last, _: f"{first} {last}".upper(),
    "reversed": lambda first, last, _: f"{last} {first}",
    "reversed with a comma": lambda first, last, _: f"{last}, {first}",
    "joined": lambda first, last, _: first + last,
}


def prompts(benchmark: Benchmark, split: str, fold: int, most: int, seed: int) -> list[Asked]:
    """Every question by name, with the name in every spelling."""
    found = []
    for forgotten, name in ((True, "test"), (False, "retain_heldout")):
        rows = [s for s in benchmark.samples(name, split, fold) if s.task == "generation" and s.image is None]
        rows = [
            s for s in rows if s.subject in benchmark.names and _written_in(benchmark.names[s.subject][0], s.question)
        ]
        for sample in rows if forgotten else thin(rows, most):
            full = benchmark.names[sample.subject or ""][0]
            first, last = full.split()[0], full.split()[-1]
            for kind, write in SPELLINGS.items():
                written = write(first, last, Stream("names", split, fold, seed, sample.id, kind))
                changed = replace(sample, question=sample.question.replace(full, written))
                found.append(Asked(kind, forgotten, sample, question(changed.prompt)))
    return found


def _written_in(name: str, text: str) -> bool:
    """Whether a text holds a name of several words."""
    return len(name.split()) > 1 and name in text
