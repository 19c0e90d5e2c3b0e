"""Many erasers on one model at once: ``python -m mllmeraser.studies.many``.

A hundred people, an eraser each: how much is recalled, and what the rest loses, one at a time, all side by side, and
put together into one; what 1, 10, 100 and 1,000 erasers cost in time and memory (the further ones are for people whom
the model has never seen); and what is left of one that is taken out again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import torch

from mllmeraser.benchmarks.benchmark import Benchmark, thin
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.erasure.artifact.consolidate import consolidate
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.steering.attach import ErasurePack, attach_all
from mllmeraser.evaluation.records import Item
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.sample import Sample
from mllmeraser.studies.crowd import Crowd
from mllmeraser.studies.record import Report, report_of, study_parser
from mllmeraser.studies.scoring import Remembers, summary, told

SIZES = (1, 10, 100, 1000)
PER_CELL = 3
ROWS = 8
Sets = dict[str, list[Sample]]


def sets_of(benchmark: Benchmark, people: Sequence[str], kept: Sequence[str]) -> Sets:
    """Prompts that nothing was fitted on: a few about each of ``people``, all about ``kept``, and the rest thinned."""
    everything = [*benchmark.samples("test"), *benchmark.samples("retain_heldout")]
    forgotten, stay = set(people), set(kept)
    return {
        "test": [s for key in people for s in thin([s for s in everything if s.subject == key], PER_CELL)],
        "retain_heldout": [s for s in everything if s.subject in stay],
        "celebrity": thin(benchmark.samples("celebrity"), 24),
        "general": thin(benchmark.samples("general"), 60),
        "perception": [s for s in benchmark.samples("perception") if s.subject in forgotten][:60],
    }


@torch.no_grad()
def fired(model: MultimodalModel, erasers: Mapping[str, Eraser], samples: Sequence[Sample]) -> torch.Tensor:
    """(samples, erasers) bool: whose decision falls on which prompt, all read at once, nothing shifted."""
    plans = {name: eraser.replace_config(strength=0.0) for name, eraser in erasers.items()}
    found = torch.zeros(len(samples), len(erasers), dtype=torch.bool)
    with attach_all(model, plans) as handle:
        for rows in model.prompts.plan(samples, 32):
            model.hf(**model.encode([samples[r] for r in rows]), use_cache=False, logits_to_keep=1)
            assert handle.readings is not None
            found[rows] = handle.readings.amplitudes > 0
    return found


def one_at_a_time(
    model: MultimodalModel, benchmark: Benchmark, erasers: Mapping[str, Eraser], sets: Sets, bare: Sequence[Item]
) -> list[Item]:
    """Everybody's own prompts under their own eraser; every other prompt under each eraser in turn.

    Where a decision does not fall, the answer is the bare model's to the bit, so only the others are asked again.
    """
    known = {(item["set"], item["id"]): item for item in bare}
    items: list[Item] = []
    others = {name: rows for name, rows in sets.items() if name != "test"}
    table = {name: fired(model, erasers, rows) for name, rows in others.items()}
    for column, (key, eraser) in enumerate(erasers.items()):
        asked: Sets = {"test": [s for s in sets["test"] if s.subject == key]}
        for name, rows in others.items():
            asked[name] = [s for s, hit in zip(rows, table[name][:, column].tolist(), strict=True) if hit]
        fresh = told(model, benchmark, {n: rows for n, rows in asked.items() if rows}, eraser, split="forget_5")
        changed = {(item["set"], item["id"]) for item in fresh}
        items += fresh
        items += [known[name, s.id] for name, rows in others.items() for s in rows if (name, s.id) not in changed]
    return items


def cost(model: MultimodalModel, erasers: Sequence[Eraser], prompts: Sequence[Sample], repeats: int) -> dict[str, Any]:
    """Seconds of reading a batch of prompts and of each decoded token, bare and steered in turn, and bytes."""
    batch = model.encode(prompts)

    def read() -> None:
        model.hf(**batch, use_cache=False, logits_to_keep=1)

    def write() -> None:
        model.hf.generate(**batch, min_new_tokens=24, max_new_tokens=24, do_sample=False)

    names = {str(k): eraser for k, eraser in enumerate(erasers)}
    began = time.perf_counter()
    with attach_all(model, names) as handle:
        attaching = time.perf_counter() - began
        read()
        held = handle.nbytes
    pairs = {name: _paired(model, names, task, repeats) for name, task in (("prefill", read), ("generate", write))}
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
    """Median seconds of a task without and with the erasers, taken in turn."""
    spent: dict[bool, list[float]] = {False: [], True: []}

    def once(steered: bool) -> None:
        task()  # the first pass moves tensors to the device: not what a served request costs
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
    parser.add_argument("--people", type=int, default=100, help="erasers that are scored")
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="erasers that are timed at most")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model, benchmark = load_model(args.model), load_benchmark(BENCHMARK)
    report = report_of(parser, args, model, people=args.people, largest=args.largest)
    settings = FitSettings.preset("default").model_copy(update={"seed": args.seed, "salt": "many"})
    began = time.perf_counter()
    crowd = Crowd(model, benchmark, settings)
    lens_seconds, spent = time.perf_counter() - began, []
    erasers: dict[str, Eraser] = {}
    for key in benchmark.people[: args.people]:
        began = time.perf_counter()
        erasers[key] = crowd.person(key)
        spent.append(time.perf_counter() - began)
    report.add(
        "fits", {"erasers": len(erasers), "lens_seconds": lens_seconds, "seconds_each": median(spent[1:] or spent)}
    )
    score(report, model, benchmark, erasers)
    take_out(report, erasers)
    more = list(erasers.values())
    if args.largest > len(more):
        more += crowd.nobody(args.largest - len(more))
    prompts = thin(benchmark.samples("retain_heldout"), 4)[:ROWS]
    for size in SIZES:
        if size <= args.largest and f"cost of {size}" not in report:
            report.add(f"cost of {size}", cost(model, more[:size], prompts, repeats=9 if size < 1000 else 5))
    alarms(report, model, benchmark, {str(k): eraser for k, eraser in enumerate(more)}, tuple(erasers))


def score(report: Report, model: MultimodalModel, benchmark: Benchmark, erasers: dict[str, Eraser]) -> None:
    """Recall of the forgotten and of the rest: bare, one at a time, side by side, and as one."""
    people = tuple(erasers)
    sets = sets_of(benchmark, people, [key for key in benchmark.people if key not in erasers])
    bare = told(Remembers(model), benchmark, sets, None, split="forget_5")
    report.add("bare", summary(bare))
    if "one at a time" not in report:
        report.add("one at a time", summary(one_at_a_time(model, benchmark, erasers, sets, bare)))
    if "side by side" not in report:
        pack = ErasurePack(erasers)
        report.add("side by side", summary(told(model, benchmark, sets, pack, split="forget_5")))
    if "as one" not in report:
        one = consolidate(list(erasers.values()))
        entry = summary(told(model, benchmark, sets, one, split="forget_5"))
        report.add("as one", {**entry, "bytes": one.nbytes, "bytes_apart": sum(e.nbytes for e in erasers.values())})


def take_out(report: Report, erasers: dict[str, Eraser]) -> None:
    """Consolidate all, revoke one, and compare with the consolidation of the others."""
    every = list(erasers.values())
    began = time.perf_counter()
    left = consolidate(every).without(every[0].config.subjects[0])
    seconds = time.perf_counter() - began
    others = consolidate(every[1:])
    worst = max(
        float((left.tensors[name].double() - tensor.double()).norm() / tensor.double().norm().clamp_min(1e-12))
        for name, tensor in others.tensors.items()
        if left.tensors[name].shape == tensor.shape
    )
    report.add("take one out", {"seconds": seconds, "largest_relative_difference": worst})


def alarms(
    report: Report, model: MultimodalModel, benchmark: Benchmark, erasers: dict[str, Eraser], people: Sequence[str]
) -> None:
    """Share of prompts about people who stay on which any of the erasers falls, by number of erasers.

    And of how many pictures, of how many people: all questions over one picture are decided alike.
    """
    sets = sets_of(benchmark, people, [key for key in benchmark.people if key not in people])
    for name in ("retain_heldout", "celebrity"):
        table = fired(model, erasers, sets[name])
        for size in SIZES:
            if size <= len(erasers):
                fell = table[:, :size].any(1)
                counts = {"share": float(fell.double().mean()), "n": len(table), **_pictures(sets[name], fell)}
                report.add(f"alarms of {size}, {name}", counts)


def _pictures(samples: Sequence[Sample], fell: torch.Tensor) -> dict[str, Any]:
    """How many different pictures there are, on how many a decision falls, and whose those are."""
    shown = [(s.subject, s.image.tobytes(), hit) for s, hit in zip(samples, fell.tolist(), strict=True) if s.image]
    fallen = {(subject, picture) for subject, picture, hit in shown if hit}
    return {
        "pictures": len({(subject, picture) for subject, picture, _ in shown}),
        "pictures_fallen": len(fallen),
        "people_fallen": sorted({str(subject) for subject, _ in fallen}),
    }


if __name__ == "__main__":
    main()
