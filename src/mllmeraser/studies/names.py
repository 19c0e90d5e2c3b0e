"""Erasers and the ways to write a name: ``python -m mllmeraser.studies.names``.

The questions by name of a fold are asked with the name written otherwise, to the bare model and under the eraser: about
the people to forget, and about people who stay. Counts are as in `studies.contexts`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mllmeraser.benchmarks import Benchmark, thin
from mllmeraser.erasure import Eraser
from mllmeraser.portraits.names import ONSETS, VOWELS
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples.conversation import question
from mllmeraser.studies.contexts import Asked, record
from mllmeraser.studies.erasers import eraser_of
from mllmeraser.studies.record import begin, study_parser

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


def main(argv: list[str] | None = None) -> None:
    """Run the study and write the results."""
    parser = study_parser("names", __doc__, "names-NAME.json", split=True)
    parser.add_argument("--most", type=int, default=150, help="questions about people who stay, in each spelling")
    parser.add_argument("--eraser", help="folder of an eraser for this fold; default: fit one")
    args, model, benchmark, report = begin(parser, argv, "split", "fold", "most")
    asked = prompts(benchmark, args.split, args.fold, args.most, args.seed)
    where = {"split": args.split, "fold": args.fold, "seed": args.seed}
    eraser = Eraser.from_pretrained(args.eraser) if args.eraser else eraser_of(model, benchmark, "default", **where)
    record(report, model, eraser, asked, args.fold)


def prompts(benchmark: Benchmark, split: str, fold: int, most: int, seed: int) -> list[Asked]:
    """Every question by name, with the name in every spelling."""
    found = []
    for forgotten, name in ((True, "test"), (False, "retain_heldout")):
        rows = [s for s in benchmark.samples(name, split, fold) if s.task == "generation" and s.image is None]
        rows = [s for s in rows if s.subject in benchmark.names and benchmark.names[s.subject][0] in s.question]
        for sample in rows if forgotten else thin(rows, most):
            full = benchmark.names[sample.subject or ""][0]
            first, last = full.split()
            for kind, write in SPELLINGS.items():
                written = write(first, last, Stream("names", split, fold, seed, sample.id, kind))
                changed = replace(sample, question=sample.question.replace(full, written))
                found.append(Asked(kind, forgotten, sample, question(changed.prompt)))
    return found


if __name__ == "__main__":
    main()
