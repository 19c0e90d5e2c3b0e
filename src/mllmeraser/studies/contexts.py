"""Erasers in conversations: ``python -m mllmeraser.studies.contexts``.

The questions of a fold are asked in every context, to the bare model and under the eraser: about the people to forget,
and about people who stay. A leak is a fact that the bare model tells in a context and the erased model tells too. Right
answers about those who stay are lost if the erased model no longer gives them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mllmeraser.benchmarks import Benchmark, thin
from mllmeraser.erasure import Eraser
from mllmeraser.evaluation.outcomes import recalled_keyword
from mllmeraser.models import MultimodalModel
from mllmeraser.portraits.contexts import Around, begun, contexts
from mllmeraser.portraits.people import World
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import UNKNOWN_ANSWER, Pool
from mllmeraser.samples import Sample
from mllmeraser.samples.conversation import Conversation, Turn, after, question
from mllmeraser.samples.intervals import wilson
from mllmeraser.studies.erasers import eraser_of
from mllmeraser.studies.record import Report, begin, study_parser

WORDS = (1, 2, 3, 4, 5)
AFTER = "after a forgotten person"
"""Kind of the questions about people who stay that follow one about a person to forget."""


@dataclass(frozen=True)
class Asked:
    """A question in a context: its kind, whether its person is to be forgotten, and how its answer is scored."""

    kind: str
    forgotten: bool
    sample: Sample
    conversation: Conversation


def main(argv: list[str] | None = None) -> None:
    """Run the study and write the results."""
    parser = study_parser("contexts", __doc__, "contexts-NAME.json", split=True)
    parser.add_argument("--pool", choices=("validation", "test"), default="test")
    parser.add_argument("--most", type=int, default=36, help="questions of each kind, side and modality")
    parser.add_argument("--eraser", help="folder of an eraser for this fold; default: fit one")
    args, model, benchmark, report = begin(parser, argv, "split", "fold", "pool", "most")
    asked = prompts(benchmark, args.split, args.fold, args.pool, args.most, args.seed)
    where = {"split": args.split, "fold": args.fold, "seed": args.seed}
    eraser = Eraser.from_pretrained(args.eraser) if args.eraser else eraser_of(model, benchmark, "default", **where)
    record(report, model, eraser, asked, args.fold)


def record(report: Report, model: MultimodalModel, eraser: Eraser, asked: Sequence[Asked], fold: int) -> None:
    """Ask the bare model and the erased one, and keep the counts of each kind."""
    bare = answers(model, asked)
    with eraser.attached(model):
        erased = answers(model, asked)
    for key, entry in compared(asked, bare, erased).items():
        report.add(f"fold {fold}: {key}", {"fold": fold, **entry})
        print(key, entry["known"], entry["left"], flush=True)


def prompts(benchmark: Benchmark, split: str, fold: int, pool: Pool, most: int, seed: int) -> list[Asked]:
    """Every question in every context."""
    world, gone = World("dev"), set(benchmark.forget_ids(split, fold))
    names = {person.key: person.name for person in [*world.people, *world.celebrities]}
    sets = {name: _open(benchmark.samples(name, split, fold)) for name in ("test", "retain_heldout", "general")}
    general = tuple(s for s in benchmark.samples("general", split, fold) if s.image is None)
    found: list[Asked] = []
    for forgotten, rows in ((True, sets["test"]), (False, sets["retain_heldout"])):
        for by_name in (True, False):
            own = [s for s in rows if (s.image is None) == by_name and s.subject in names]
            for number, sample in enumerate(thin(own, most)):
                draw = Stream("contexts", split, fold, seed, sample.id, number)
                around = _around(sample, names, gone, sets, general, draw)
                side = "by name" if by_name else "by picture"
                built = {kind: make(sample, around, draw.child(kind), pool) for kind, make in contexts(by_name).items()}
                if forgotten:
                    built |= {f"begun, {n} words": c for n in WORDS if (c := begun(sample, n)) is not None}
                else:
                    built[AFTER] = _after_forgotten(sample, sets["test"], draw)
                found += [Asked(f"{kind}, {side}", forgotten, sample, c) for kind, c in built.items()]
    return found


def _open(samples: Iterable[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.task == "generation" and sample.keywords]


def _after_forgotten(sample: Sample, forgotten: Sequence[Sample], draw: Stream) -> Conversation:
    before = draw.child(AFTER).choice([s for s in forgotten if (s.image is None) == (sample.image is None)])
    pictures = () if before.image is None else (before.image,)
    turns = [Turn("user", before.prompt, pictures), Turn("assistant", UNKNOWN_ANSWER)]
    return after(turns, question(sample.prompt, sample.image))


def _around(
    sample: Sample,
    names: dict[str, str],
    gone: set[str],
    sets: dict[str, list[Sample]],
    general: tuple[Sample, ...],
    draw: Stream,
) -> Around:
    """Others are people who stay, so that a context holds no other reason to fire."""
    others = [s for s in sets["retain_heldout"] if s.subject in names and s.subject != sample.subject]
    named = draw.shuffle(sorted({names[s.subject or ""] for s in others}))
    shown = [s.image for s in others if s.image is not None]
    return Around(
        names[sample.subject or ""],
        (named[0], named[1]),
        tuple(s for s in others if s.image is None),
        general,
        tuple(s for s in sets["test"] if s.subject == sample.subject and s.image is None) or (sample,),
        draw.choice(shown),
    )


@torch.no_grad()
def answers(model: MultimodalModel, asked: Sequence[Asked], *, tokens: int = 16, rows: int = 24) -> list[str]:
    """Greedy answers to conversations, in order; a begun answer is part of it."""
    found = [""] * len(asked)
    order = sorted(range(len(asked)), key=lambda i: (len(asked[i].conversation.images), len(model.render(
        asked[i].conversation)), i))  # fmt: skip
    for start in range(0, len(order), rows):
        part = order[start : start + rows]
        inputs = model.encode_conversations([asked[i].conversation for i in part])
        output = model.hf.generate(
            **inputs, max_new_tokens=tokens, do_sample=False, pad_token_id=model.processor.tokenizer.pad_token_id
        )
        texts = model.processor.tokenizer.batch_decode(
            output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        for i, text in zip(part, texts, strict=True):
            found[i] = f"{asked[i].conversation.begun} {text.strip()}".strip()
    return found


def compared(asked: Sequence[Asked], bare: Sequence[str], erased: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each side and kind: prompts, those that the bare model answers right, and those that still are."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, one in enumerate(asked):
        groups[f"{'forgotten' if one.forgotten else 'stays'}, {one.kind}"].append(i)
    entries = {}
    for key, numbers in groups.items():
        known = [i for i in numbers if recalled_keyword(asked[i].sample, bare[i])]
        left = [i for i in known if recalled_keyword(asked[i].sample, erased[i])]
        low, high = wilson(len(left), len(known)) if known else (0.0, 1.0)
        entries[key] = {
            "n": len(numbers), "known": len(known), "left": len(left),
            "share": len(left) / len(known) if known else None, "low": low, "high": high,
            "leaked": [asked[i].sample.id for i in left] if asked[numbers[0]].forgotten else [],
        }  # fmt: skip
    return entries


if __name__ == "__main__":
    main()
