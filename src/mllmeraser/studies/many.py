"""Many erasers on one model at once: ``python -m mllmeraser.studies.many``.

A hundred people get an eraser each. The study measures recall of these people and the loss on everything else for one
eraser at a time, all side by side, and all consolidated into one. It measures time and memory of 1, 10, 100 and 1,000
erasers; the additional ones are for people the model has never seen. Finally it removes a subject from the consolidated
eraser.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import torch

from mllmeraser.benchmarks import Benchmark, thin
from mllmeraser.erasure import Eraser
from mllmeraser.erasure.artifact.consolidate import consolidate
from mllmeraser.erasure.steering import ErasurePack, attach_all
from mllmeraser.evaluation import Item
from mllmeraser.models import MultimodalModel
from mllmeraser.samples import Sample
from mllmeraser.studies.crowd import Crowd, Sets, thin_by_person
from mllmeraser.studies.erasers import preset_settings
from mllmeraser.studies.record import Report, begin, study_parser
from mllmeraser.studies.scoring import AnswerCache, ask, summary

SIZES = (1, 10, 100, 1000)
PER_CELL = 3
ROWS = 8
SPLIT = "forget_5"


def sets_of(benchmark: Benchmark, people: Sequence[str], kept: Sequence[str]) -> Sets:
    """Held-out prompts: a few about each of ``people``, all about ``kept``, and the other sets thinned."""
    everything = [*benchmark.samples("test"), *benchmark.samples("retain_heldout")]
    forgotten, stay = set(people), set(kept)
    return {
        "test": thin_by_person(everything, people, PER_CELL),
        "retain_heldout": [s for s in everything if s.subject in stay],
        "celebrity": thin(benchmark.samples("celebrity"), 24),
        "general": thin(benchmark.samples("general"), 60),
        "perception": [s for s in benchmark.samples("perception") if s.subject in forgotten][:60],
    }


@torch.no_grad()
def fired(model: MultimodalModel, erasers: Mapping[str, Eraser], samples: Sequence[Sample]) -> torch.Tensor:
    """(samples, erasers) bool: which eraser fires on which prompt. All are read at once and nothing is shifted."""
    plans = {name: eraser.replace_config(strength=0.0) for name, eraser in erasers.items()}
    table = torch.zeros(len(samples), len(erasers), dtype=torch.bool)
    with attach_all(model, plans) as handle:
        for rows in model.prompts.plan(samples, 32):
            model.hf(**model.encode([samples[r] for r in rows]), use_cache=False, logits_to_keep=1)
            assert handle.readings is not None
            table[rows] = handle.readings.amplitudes > 0
    return table


def one_at_a_time(
    model: MultimodalModel, benchmark: Benchmark, erasers: Mapping[str, Eraser], sets: Sets, bare: Sequence[Item]
) -> list[Item]:
    """Answers about each person under their own eraser; all other prompts under each eraser in turn.

    Where an eraser does not fire, the answer is bit-identical to the bare model's. Only the others are asked again.
    """
    known = {(item["set"], item["id"]): item for item in bare}
    items: list[Item] = []
    others = {name: rows for name, rows in sets.items() if name != "test"}
    tables = {name: fired(model, erasers, rows) for name, rows in others.items()}
    for column, (key, eraser) in enumerate(erasers.items()):
        asked: Sets = {"test": [s for s in sets["test"] if s.subject == key]}
        for name, rows in others.items():
            asked[name] = [s for s, hit in zip(rows, tables[name][:, column].tolist(), strict=True) if hit]
        new = ask(model, benchmark, {n: rows for n, rows in asked.items() if rows}, eraser, split=SPLIT)
        changed = {(item["set"], item["id"]) for item in new}
        items += new
        items += [known[name, s.id] for name, rows in others.items() for s in rows if (name, s.id) not in changed]
    return items


def cost(model: MultimodalModel, erasers: Sequence[Eraser], prompts: Sequence[Sample], repeats: int) -> dict[str, Any]:
    """Bytes of the erasers, and seconds of reading and of answering a batch, bare and steered in turn."""
    batch = model.encode(prompts)

    def read() -> None:
        model.hf(**batch, use_cache=False, logits_to_keep=1)

    def write() -> None:
        model.hf.generate(**batch, min_new_tokens=24, max_new_tokens=24, do_sample=False)

    named = {str(k): eraser for k, eraser in enumerate(erasers)}
    began = time.perf_counter()
    with attach_all(model, named) as handle:
        attaching = time.perf_counter() - began
        read()
        held = handle.nbytes
    pairs = {name: _paired(model, named, task, repeats) for name, task in (("prefill", read), ("generate", write))}
    return {
        "erasers": len(erasers),
        "bytes_on_disk": sum(eraser.nbytes for eraser in erasers),
        "bytes_attached": held,
        "attach_seconds": attaching,
        **{f"{name}_seconds": {"bare": bare, "steered": steered} for name, (bare, steered) in pairs.items()},
    }


@torch.no_grad()
def _paired(
    model: MultimodalModel, erasers: Mapping[str, Eraser], task: Callable[[], None], repeats: int
) -> tuple[float, float]:
    """Median seconds of a task without and with the erasers, in turn."""
    spent: dict[bool, list[float]] = {False: [], True: []}

    def once(steered: bool) -> None:
        task()  # the first pass moves tensors to the device, which a served request does not pay for
        began = time.perf_counter()
        task()
        spent[steered].append(time.perf_counter() - began)

    for _ in range(repeats):
        once(False)
        with attach_all(model, erasers):
            once(True)
    return median(spent[False]), median(spent[True])


def main(argv: list[str] | None = None) -> None:
    """Run the study and write the results."""
    parser = study_parser("many", __doc__, "many-erasers-NAME.json")
    parser.add_argument("--people", type=int, default=100, help="number of erasers to score")
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="largest number of erasers to time")
    args, model, benchmark, report = begin(parser, argv, "people", "largest")
    began = time.perf_counter()
    crowd = Crowd(model, benchmark, preset_settings("default", args.seed, "many"))
    basis_seconds, spent = time.perf_counter() - began, []
    erasers: dict[str, Eraser] = {}
    for key in benchmark.people[: args.people]:
        began = time.perf_counter()
        erasers[key] = crowd.person(key)
        spent.append(time.perf_counter() - began)
    each = median(spent[1:] or spent)
    report.add("fits", {"erasers": len(erasers), "lens_seconds": basis_seconds, "seconds_each": each})
    score(report, model, benchmark, erasers)
    take_out(report, erasers)
    more = list(erasers.values())
    more += crowd.unseen(max(0, args.largest - len(more)))
    prompts = thin(benchmark.samples("retain_heldout"), 4)[:ROWS]
    for size in SIZES:
        if size <= args.largest and f"cost of {size}" not in report:
            report.add(f"cost of {size}", cost(model, more[:size], prompts, repeats=9 if size < 1000 else 5))
    alarms(report, model, benchmark, {str(k): eraser for k, eraser in enumerate(more)}, tuple(erasers))


def score(report: Report, model: MultimodalModel, benchmark: Benchmark, erasers: dict[str, Eraser]) -> None:
    """Recall of the forgotten people and accuracy on the rest: bare, one at a time, side by side, and as one."""
    sets = sets_of(benchmark, tuple(erasers), [key for key in benchmark.people if key not in erasers])
    bare = ask(AnswerCache(model), benchmark, sets, None, split=SPLIT)
    report.add("bare", summary(bare))
    if "one at a time" not in report:
        report.add("one at a time", summary(one_at_a_time(model, benchmark, erasers, sets, bare)))
    if "side by side" not in report:
        report.add("side by side", summary(ask(model, benchmark, sets, ErasurePack(erasers), split=SPLIT)))
    if "as one" not in report:
        one = consolidate(list(erasers.values()))
        entry = summary(ask(model, benchmark, sets, one, split=SPLIT))
        report.add("as one", {**entry, "bytes": one.nbytes, "bytes_apart": sum(e.nbytes for e in erasers.values())})


def take_out(report: Report, erasers: dict[str, Eraser]) -> None:
    """Consolidate all erasers, remove one subject, and compare with the consolidation of the others."""
    every = list(erasers.values())
    began = time.perf_counter()
    left = consolidate(every).without(every[0].config.subjects[0])
    seconds = time.perf_counter() - began
    worst = max(
        float((left.tensors[name].double() - tensor.double()).norm() / tensor.double().norm().clamp_min(1e-12))
        for name, tensor in consolidate(every[1:]).tensors.items()
        if left.tensors[name].shape == tensor.shape
    )
    report.add("take one out", {"seconds": seconds, "largest_relative_difference": worst})


def alarms(
    report: Report, model: MultimodalModel, benchmark: Benchmark, erasers: dict[str, Eraser], people: Sequence[str]
) -> None:
    """Share of prompts about people who stay on which any eraser fires, by number of erasers.

    The number of pictures and people is reported too, for all questions about one picture get the same decision.
    """
    sets = sets_of(benchmark, people, [key for key in benchmark.people if key not in people])
    for name in ("retain_heldout", "celebrity"):
        table = fired(model, erasers, sets[name])
        for size in (size for size in SIZES if size <= len(erasers)):
            hits = table[:, :size].any(1)
            counts = {"share": float(hits.double().mean()), "n": len(table), **_pictures(sets[name], hits)}
            report.add(f"alarms of {size}, {name}", counts)


def _pictures(samples: Sequence[Sample], hits: torch.Tensor) -> dict[str, Any]:
    """Number of different pictures, number of pictures with an alarm, and the people on those."""
    shown = [(s.subject, s.image.tobytes(), hit) for s, hit in zip(samples, hits.tolist(), strict=True) if s.image]
    alarmed = {(subject, picture) for subject, picture, hit in shown if hit}
    return {
        "pictures": len({(subject, picture) for subject, picture, _ in shown}),
        "pictures_fallen": len(alarmed),
        "people_fallen": sorted({str(subject) for subject, _ in alarmed}),
    }


if __name__ == "__main__":
    main()
