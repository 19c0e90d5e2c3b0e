"""Fill the tables of docs/studies.md from committed results: ``python tools/study_tables.py``.

``--check`` writes nothing; the exit code is 1 if the page differs from the results.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # also when this file is loaded from elsewhere

from readme_tables import MODELS, RESULTS, ROOT, markdown, refresh  # noqa: E402

PAGE = ROOT / "docs" / "studies.md"
FULL_SIZES = ("llava-1.5-7b", "qwen2.5-vl-7b")
Entry = Mapping[str, Any]


def entries(study: str, model: str) -> dict[str, Entry]:
    """The entries of a study by key; none if there is no result."""
    file = RESULTS / f"{study}-{model}.json"
    report = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"results": []}
    return {entry["key"]: entry for entry in report["results"]}


def share(found: Entry, *, interval: bool = True) -> str:
    """Per cent, with the 95 % interval."""
    told = f"{100 * found['share']:.1f}"
    return f"{told} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]" if interval else told


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


def folds(study: str, model: str) -> Iterable[tuple[int, list[Entry]]]:
    """The entries of a study that has a file for each fold."""
    for fold in range(5):
        found = list(entries(study, f"{model}-fold{fold}").values())
        if found:
            yield fold, found


def left_of(found: Iterable[Entry], begins: str, ends: str = "", rival: str | None = None) -> str:
    """How many answers are left, of those that the bare model knows, in kinds with such a key."""
    rows = [e for e in found if (k := e["key"].partition(": ")[2]).startswith(begins) and k.endswith(ends)]
    left = sum(e["left"] if rival is None else e["left_by_rivals"][rival] for e in rows)
    return f"{left} of {sum(e['known'] for e in rows)}"


BEGUN, NEXT = "forgotten, begun", "stays, after a forgotten person"


def in_context(found: Iterable[Entry]) -> list[Entry]:
    """The entries of plain questions in some context."""
    return [e for e in found if not any(kind in e["key"] for kind in (BEGUN, NEXT, ", none, "))]


def told_and_kept(found: Sequence[Entry], rival: str | None = None) -> tuple[list[str], list[str]]:
    """What is still told, by name and by picture; and right answers kept, plainly and after a forgotten person."""
    plain = in_context(found)
    told = [left_of(plain, "forgotten", side, rival) for side in ("by name", "by picture")]
    return told, [left_of(plain, "stays", "", rival), left_of(found, NEXT, "", rival)]


def contexts() -> Iterable[list[str]]:
    """Leaks and losses in conversations."""
    yield ["model", "fold", "still told: by name", "by picture", "answer begun", "right answers kept: who stays",
           "after a question about a forgotten person"]  # fmt: skip
    for model in MODELS:
        for fold, found in folds("contexts", model):
            told, kept = told_and_kept(found)
            yield [model, str(fold), *told, left_of(found, BEGUN), *kept]


def rival() -> Iterable[list[str]]:
    """The block list in the same conversations."""
    yield ["model", "fold", "who answers", "still told: by name", "by picture", "right answers kept: who stays",
           "after a question about a forgotten person"]  # fmt: skip
    for model in MODELS:
        for fold, found in folds("contexts", model):
            for name in (None, *found[0]["left_by_rivals"]):
                told, kept = told_and_kept(found, name)
                yield [model, str(fold), name or "the eraser", *told, *kept]


def rival_names() -> Iterable[list[str]]:
    """The block list under other spellings of names."""
    yield [
        "model",
        "fold",
        "who answers",
        "still told: full name",
        "all other spellings",
        "right answers kept: who stays",
    ]
    for model in MODELS:
        for fold, found in folds("names", model):
            others = [e for e in found if not e["key"].endswith("as it is")]
            for name in (None, *found[0]["left_by_rivals"]):
                told = left_of(found, "forgotten, as it is", "", name)
                yield [model, str(fold), name or "the eraser", told, left_of(others, "forgotten", "", name),
                       left_of(found, "stays", "", name)]  # fmt: skip


SPELLINGS = {
    "full name": ("as it is",), "first or last name": ("first name", "last name"),
    "with an initial": ("first name and initial", "initial and last name"),
    "a slip of one letter": ("slip in the first name", "slip in the last name"),
    "line break, spaces, hyphen, joined": ("line break", "two spaces", "hyphen", "joined"),
    "case, reversed": ("lower case", "upper case", "reversed", "reversed with a comma"),
}  # fmt: skip


def names() -> Iterable[list[str]]:
    """Leaks and losses by way to write a name."""
    columns = list(SPELLINGS)
    yield ["model", "fold", f"still told: {columns[0]}", *columns[1:], "right answers kept: who stays"]
    for model in MODELS:
        for fold, found in folds("names", model):
            by_kind = {e["key"].partition(": ")[2]: e for e in found}
            told = [
                left_of([by_kind[f"forgotten, {kind}"] for kind in kinds], "forgotten") for kinds in SPELLINGS.values()
            ]
            yield [model, str(fold), *told, left_of(found, "stays")]


def beside() -> Iterable[list[str]]:
    """Answers kept that do not ask about a forgotten person."""
    groups = ("what a picture shows", "a name in passing")
    yield ["model", "fold", *(f"same answer: {group}" for group in groups), "wordings that lose more than half"]
    for model in MODELS:
        for fold, found in folds("beside", model):
            own = [[e for e in found if e["group"] == group] for group in groups]
            kept = [f"{sum(e['kept'] for e in rows)} of {sum(e['n'] for e in rows)}" for rows in own]
            lost = [f"“{e['wording']}”" for e in found if 2 * e["kept"] < e["n"]]
            yield [model, str(fold), *kept, "; ".join(lost).replace("{", "").replace("}", "") or "none"]


def actions() -> Iterable[list[str]]:
    """What an eraser does when it fires."""
    attackers = ("refuses", "wording", "logprob mean", "logprobs, learnt")
    yield ["model", "action", "still told, all contexts", "answer begun", "right answers kept: who stays",
           *(f"betrayed by {name}" for name in attackers)]  # fmt: skip
    for model in MODELS:
        for action, entry in entries("actions", model).items():
            left = [f"{entry[g]['left']} of {entry[g]['known']}" for g in ("forgotten", BEGUN, "stays")]
            told = entry["oracle"]["attackers"]
            yield [model, action, *left, *(f"{told[name]['answer']['betrays']:.2f}" for name in attackers)]


def timed(name: str) -> list[dict[str, Any]]:
    """The entries of a speed benchmark; none if there is no result."""
    file = RESULTS / f"speed-{name}.json"
    return list(json.loads(file.read_text(encoding="utf-8"))["results"]) if file.is_file() else []


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
    file = RESULTS / "load.json"
    report = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"results": []}
    found = {entry["key"]: entry for entry in report["results"]}
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
