"""Fill the tables of docs/studies.md from committed results: ``python tools/study_tables.py``.

``--check`` writes nothing; the exit code is 1 if the page differs from the results.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # also when this file is loaded from elsewhere

from conversation_tables import (  # noqa: E402
    actions,
    beside,
    beside_curve,
    contexts,
    names,
    rival,
    rival_names,
)
from readme_tables import MODELS, ROOT, markdown, refresh  # noqa: E402
from study_entries import Entry, entries, report, share  # noqa: E402

PAGE = ROOT / "docs" / "studies.md"
FULL_SIZES = ("llava-1.5-7b", "qwen2.5-vl-7b")


def recall_row(entry: Entry, kept: Sequence[str]) -> list[str]:
    """Recall of the forgotten, outcomes of these answers, and right answers about the rest."""
    ended = entry["outcomes"]
    clean = (ended.get("unknown", 0) + ended.get("refused", 0)) / sum(ended.values())
    return [
        share(entry["recalled"]), share(entry["letters"], interval=False), f"{100 * clean:.1f}",
        *(share(entry["kept"][name], interval=False) for name in kept),
    ]  # fmt: skip


HEAD = ["recalled", "by letter", 'clean "unknown"']


def many() -> Iterable[list[str]]:
    """A hundred erasers: one at a time, side by side, as one."""
    kept = ("retain_heldout", "celebrity", "general", "perception")
    yield ["model", "erasers", *HEAD, "everyone else", "celebrities", "general", "perception"]
    for model in MODELS:
        found = entries("many-erasers", model)
        for way in ("bare", "one at a time", "side by side", "as one"):
            if way in found:
                yield [model, way, *recall_row(found[way], kept)]


def cost() -> Iterable[list[str]]:
    """The cost of 1, 10, 100 and 1,000 erasers."""
    yield [
        "model",
        "erasers",
        "on disk, kB",
        "attached, kB",
        "kB for each more",
        "attaching, s",
        "reading a batch",
        "generating",
    ]
    for model in MODELS:
        rows = [entry for key, entry in entries("many-erasers", model).items() if key.startswith("cost of ")]
        for before, entry in zip([None, *rows], rows, strict=False):
            more = "–"
            if before is not None:
                added = entry["bytes_attached"] - before["bytes_attached"]
                more = f"{added / (entry['erasers'] - before['erasers']) / 1000:.1f}"
            slower = [
                f"{100 * (entry[f'{name}_seconds']['steered'] / entry[f'{name}_seconds']['bare'] - 1):+.1f} %"
                for name in ("prefill", "generate")
            ]
            sizes = [f"{entry[f'bytes_{where}'] / 1000:.0f}" for where in ("on_disk", "attached")]
            yield [model, str(entry["erasers"]), *sizes, more, f"{entry['attach_seconds']:.2f}", *slower]


def alarms() -> Iterable[list[str]]:
    """How often any of many erasers fires on prompts about others."""
    yield ["model", "erasers", "everyone else", "celebrities"]
    for model in MODELS:
        found = entries("many-erasers", model)
        for size in (1, 10, 100, 1000):
            cells = [found.get(f"alarms of {size}, {name}") for name in ("retain_heldout", "celebrity")]
            if all(cells):
                yield [model, str(size), *(f"{100 * cell['share']:.1f}" for cell in cells if cell)]


def look_alikes() -> Iterable[list[str]]:
    """How often the decision fires on people who look like the forgotten."""
    of = ("everybody", "lost", "pictures of look-alikes", "known")
    yield ["model", "forgotten", "alarms, everyone who stays", "right answers lost", "alarms, pictures of look-alikes",
           "the bare model is right there", "people concerned"]  # fmt: skip
    for model in MODELS:
        for key, entry in entries("look-alikes", model).items():
            told = ["–" if entry[name] is None else share(entry[name]) for name in of]
            yield [model, key, *told, str(len(entry["by_person"]))]


def room() -> Iterable[list[str]]:
    """Missed pictures of the forgotten, and pictures of doubles taken for them, by margin."""
    found = {model: entries("room", model) for model in MODELS}
    widths = list(dict.fromkeys(width for one in found.values() for entry in one.values() for width in entry["rooms"]))
    yield ["model", "pictures of a request", "pictures of", *widths, "hindsight"]
    for model, one in found.items():
        for entry in one.values():
            for name, whose in (("missed", "the forgotten, missed"), ("taken for them", "doubles, taken for them")):
                cells = [share(entry["rooms"][width][name]) for width in widths]
                yield [model, str(entry["pictures"]), whose, *cells, share(entry["hindsight"][name])]


def sequential() -> Iterable[list[str]]:
    """Round after round."""
    kept = ("retain_heldout", "celebrity", "general")
    yield ["model", "round", "way", *HEAD, "everyone else", "celebrities", "general"]
    for model in MODELS:
        for entry in entries("sequential", model).values():
            yield [model, str(entry["round"]), entry["way"], *recall_row(entry, kept)]


def part() -> Iterable[list[str]]:
    """One attribute forgotten, the rest kept."""
    kept = ("their other facts", "retain_heldout", "celebrity", "general")
    yield ["model", "attribute", "way", *HEAD, *kept[:1], "everyone else", "celebrities", "general"]
    for model in MODELS:
        for entry in entries("partial", model).values():
            yield [model, entry["attribute"], entry["way"], *recall_row(entry, kept)]


def oracle() -> Iterable[list[str]]:
    """How well each attacker separates the forgotten from strangers."""
    found = {model: entries("oracle", model) for model in MODELS}
    names = list(dict.fromkeys(name for one in found.values() for e in one.values() for name in e["attackers"]))
    yield ["model", "eraser", *names]
    for model, one in found.items():
        for key, entry in one.items():
            told = entry["attackers"]
            yield [model, key, *(f"{told[n]['answer']['betrays']:.2f}" if n in told else "–" for n in names)]


def re_entry() -> Iterable[list[str]]:
    """Leaks within 50 and 300 tokens, the rate of chance, and gibberish."""
    yield ["model", "eraser", "prompts and decoding", "leak, 50", "leak, 300", "chance, 300", "gibberish, 300"]
    for model in MODELS:
        for key, entry in entries("re-entry", model).items():
            for name, cell in entry.items():
                if isinstance(cell, dict) and "300" in cell:
                    last = cell["300"]
                    yield [model, key, name, share(cell["50"]["leak"], interval=False), share(last["leak"]),
                           share(last["chance"], interval=False), share(last["gibberish"], interval=False)]  # fmt: skip


def no_refusal() -> Iterable[list[str]]:
    """Forgetting on a model that never refuses."""
    kept = ("retain_heldout", "celebrity", "general")
    yield ["model", "what is attached", "restricted prompts refused", *HEAD, "everyone else", "celebrities", "general"]
    for model in MODELS:
        for key, entry in entries("no-refusal", model).items():
            yield [model, key, share(entry["refused"], interval=False), *recall_row(entry, kept)]


def timed(name: str) -> list[dict[str, Any]]:
    """The entries of a speed benchmark; none if there is no result."""
    return list(report(f"speed-{name}").get("results", []))


def algebra() -> Iterable[list[str]]:
    """How much faster the fit algebra is than the published procedure."""
    yield ["width", "published, s", "hard", "hard, sums formed", "soft", "soft, sums formed"]
    for entry in timed("algebra"):
        faster = entry["times_faster"]
        ways = ("hard, given", "hard, formed", "soft, given", "soft, formed")
        yield [str(entry["width"]), f"{entry['seconds']['published, given']['median']:.1f}",
               *(f"{faster[way]['median']:.1f} times" for way in ways)]  # fmt: skip


def capture() -> Iterable[list[str]]:
    """Time of capture and fit, compared with plain passes of the same prompts."""
    yield ["model", "preset", "prompts", "plain passes, s", "eraser made, s", "over plain passes"]
    for model in MODELS:
        for preset, entry in entries("capture", model).items():
            spent = [f"{entry['seconds'][side]['median']:.1f}" for side in ("passes", "erase")]
            over = entry["overhead_percent"]
            told = f"{over['median']:+.1f} % [{over['low']:+.1f}, {over['high']:+.1f}]"
            yield [model, preset, str(entry["prompts"]), *spent, told]


def full_size() -> Iterable[list[str]]:
    """Capture and fit at published sizes, from a few prompts and all of the linear algebra."""
    kinds = ("gates and direction", "gates alone")
    yield ["model", "layers", "weights, GB", "a prompt, s", *(f"read for {kind}" for kind in kinds),
           "prompts of a request", "linear algebra, s", "in all", "kept states, GB"]  # fmt: skip
    for name in FULL_SIZES:
        found = entries("capture", name)
        if not found:
            continue
        made, linear, few, whole = found.values()
        each = few["seconds"]["passes"]["median"] / few["prompts"]
        over = [f"{few['overhead_percent'][kind]['median']:+.1f} %" for kind in kinds]
        yield [name, f"{made['layers']} of {made['published_layers']}", f"{made['weight_bytes'] / 1e9:.1f}",
               f"{each:.1f}", *over, str(linear["prompts"]), f"{linear['seconds']:.0f}",
               f"{whole['overhead_percent']:+.1f} %", f"{linear['prompt_state_bytes'] / 1e9:.1f}"]  # fmt: skip


def shift() -> Iterable[list[str]]:
    """Time per token and bytes of K erasers."""
    yield ["erasers", "tokens of a pass", "no shift, ms", "dense, ms", "shift, ms", "time of dense", "held, MB"]
    for entry in timed("shift"):
        seconds, against = entry["seconds_per_token"], entry.get("rank_one_of_dense")
        milli = [f"{1e3 * seconds[w]['median']:.3f}" if w in seconds else "–" for w in ("none", "dense", "rank-one")]
        held = entry["bytes"].get("held", entry["bytes"].get("rank-one"))
        part = "–" if against is None else f"1 / {1 / against['time']['median']:.0f}"
        yield [str(entry["erasers"]), str(entry["tokens"]), *milli, part, f"{held / 1e6:.1f}"]


def overhead() -> Iterable[list[str]]:
    """Cost of an attached eraser, and of empty hooks."""
    yield ["model", "prompts", "attached", "bare, ms", "reading", "a token", "whole answers"]
    for model in MODELS:
        for entry in timed(f"model-{model}"):
            bare = entry["seconds"]["generate"]["bare"]["median"]
            for side, name in (("attached", "the eraser"), ("empty hooks", "empty hooks")):
                slower = [entry["overhead_percent"][stage][side] for stage in ("prefill", "decoding", "generate")]
                told = [f"{found['median']:+.1f} % [{found['low']:+.1f}, {found['high']:+.1f}]" for found in slower]
                yield [model, entry["key"].partition(",")[0], name, f"{1e3 * bare:.0f}", *told]


def load() -> Iterable[list[str]]:
    """The service under many clients."""
    yield ["what", "found", "aimed at"]
    found = {entry["key"]: entry for entry in report("load").get("results", [])}
    if "storm" not in found or "throughput" not in found:
        return
    storm, ratios = found["storm"], found["throughput"]["ratios"]
    errors = sum(count for status, count in storm["statuses"].items() if status not in ("200", "429"))
    slow = storm["latency_seconds"]
    yield ["answers", f"{storm['answers']} in {storm['seconds'] / 60:.0f} minutes", "–"]
    yield ["errors other than 429", str(errors), "0"]
    yield ["answers of a wrong set of erasers", str(storm["wrong"]), "0"]
    yield ["memory, last minute over first", f"{100 * storm['memory_growth']:+.1f} %", "at most +5 %"]
    yield ["memory, highest for a moment", f"{100 * storm['memory_highest']:+.1f} %", "–"]
    yield ["seconds to an answer: half, 95 %, 99 %", ", ".join(f"{slow[q]:.2f}" for q in ("median", "p95", "p99")), "–"]
    for unit in ("answers", "tokens"):
        with_erasers = ratios[unit]["with_erasers_to_without"]
        yield [f"{unit} per second, with erasers over without", f"{with_erasers:.2f}", "at least 0.95"]
    yield [
        "answers per second, batches over one by one",
        f"{ratios['answers']['batched_to_one_by_one']:.1f}",
        "at least 2",
    ]


def _table(make: Callable[[], Iterable[list[str]]]) -> str:
    rows = list(make())
    return markdown(rows) if len(rows) > 1 else "*Not measured yet.*"


STUDIES = (
    many,
    cost,
    alarms,
    look_alikes,
    room,
    sequential,
    part,
    contexts,
    beside,
    beside_curve,
    rival,
    names,
    rival_names,
    actions,
    oracle,
    re_entry,
    no_refusal,
    algebra,
    capture,
    full_size,
    shift,
    overhead,
    load,
)
TABLES: dict[str, Callable[[], str]] = {make.__name__.replace("_", "-"): partial(_table, make) for make in STUDIES}


if __name__ == "__main__":
    sys.exit(refresh(PAGE, TABLES, check="--check" in sys.argv[1:]))
