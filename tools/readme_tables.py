"""Fill the README's tables from committed results: ``python tools/readme_tables.py``.

Each table is between ``<!-- table: NAME -->`` and ``<!-- /table -->``. Options:

- ``--check`` writes nothing; the exit code is 1 if the README differs from the results.
- ``--demo`` first copies ``out/demo/scores.json`` to the results.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS, WEIGHTS = ROOT / "benchmarks" / "results", ROOT / "src" / "mllmeraser" / "embedded" / "weights"
MODELS = ("llava", "qwen2.5-vl")
PAPERS = tuple(name for name in MODELS if (RESULTS / f"paper-{name}").is_dir())
DEMOS = ("llava", "smol")
OPEN_ANSWERS = ("generation", "cloze")
DEMO_ROWS = (
    ("forgotten people, generation and cloze, picture and name", "test", OPEN_ANSWERS),
    ("everyone else, prompts never fitted", "retain_heldout", OPEN_ANSWERS),
    ("celebrities", "celebrity", None),
    ("what the forgotten people's pictures show", "perception", None),
    ("general knowledge", "general", None),
)
DEMO_METHODS = (
    ("bare model", "vanilla", None),
    ("default", "mllmeraser", "default"),
    ("paper preset", "mllmeraser", "paper"),
)


def markdown(rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table. The first row is its head."""
    head, *body = rows
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *body))


def demo_file(model: str) -> Path:
    """The kept scores of ``make demo MODEL=embedded:NAME``."""
    return RESULTS / f"demo-{model}.json"


def demo_table(model: str) -> str:
    """The results of ``make demo``: sets by the methods that were run."""
    records = json.loads(demo_file(model).read_text(encoding="utf-8"))["records"]
    run = {(r["method"], r["preset"]) for r in records}
    methods = [one for one in DEMO_METHODS if one[1:] in run]

    def share(name: str, tasks: Sequence[str] | None, method: str, preset: str | None) -> str:
        found = [
            r for r in records
            if (r["set"], r["method"], r["preset"]) == (name, method, preset) and (not tasks or r["task"] in tasks)
        ]  # fmt: skip
        return f"{100 * sum(r['accuracy'] * r['n'] for r in found) / sum(r['n'] for r in found):.1f} %"

    head = ["set", *(told for told, _, _ in methods)]
    return markdown([head, *([told, *(share(n, t, m, p) for _, m, p in methods)] for told, n, t in DEMO_ROWS)])


def study_table(model: str) -> str:
    """Forgetting before and after, over all folds of a split, and the worst fold."""
    report = json.loads((RESULTS / f"embedded-{model}.json").read_text(encoding="utf-8"))
    head = (
        "people forgotten", "by picture", "by name", "choice by letter", 'clean "unknown"', "everyone else",
        "celebrities", "general knowledge", "lowest AUC of the decision", "false alarms (highest promised)", "kB",
    )  # fmt: skip
    by_split: dict[str, list[dict[str, Any]]] = {}
    for entry in report["results"]:
        by_split.setdefault(entry["split"], []).append(entry)
    return markdown([head, *(_study_row(entries) for entries in by_split.values())])


def _study_row(entries: Sequence[dict[str, Any]]) -> list[str]:
    told, kept = ([entry[part] for entry in entries] for part in ("recalled", "accuracy"))
    alarms = [entry["false_alarms"] for entry in entries]
    size = {entry["bytes"] for entry in entries}
    return [
        f"{entries[0]['split'].removeprefix('forget_')} %, {len(entries)} folds",
        _gone(told, ["image/generation", "image/cloze"]),
        _gone(told, ["text/generation", "text/cloze"]),
        _gone(told, ["image/classification", "text/classification"]),
        _worst([_clean(entry["forget_outcomes"]) for entry in entries], min),
        *(_held(kept, name) for name in ("retain_heldout", "celebrity", "general")),
        f"{min(entry['auc'] for entry in entries):.4f}",
        f"{_worst([100 * one['measured'] for one in alarms], max)} ({100 * max(one['stated'] for one in alarms):.1f})",
        f"{max(size) / 1000:.0f}",
    ]


def _clean(outcomes: dict[str, int]) -> float:
    return 100 * (outcomes.get("unknown", 0) + outcomes.get("refused", 0)) / sum(outcomes.values())


def _worst(values: Sequence[float], worst: Callable[[Sequence[float]], float]) -> str:
    """The mean over folds, and the worst fold if it differs."""
    mean, extreme = f"{sum(values) / len(values):.1f}", f"{worst(values):.1f}"
    return mean if mean == extreme else f"{mean} [{extreme}]"


def _gone(entries: Sequence[dict[str, Any]], names: list[str]) -> str:
    before, after = ([_pooled(cells, names, method) for cells in entries] for method in ("vanilla", "mllmeraser"))
    return f"{sum(before) / len(before):.1f} → {_worst(after, max)}"


def _held(entries: Sequence[dict[str, Any]], name: str) -> str:
    before, after = ([_pooled(cells, [name], method) for cells in entries] for method in ("vanilla", "mllmeraser"))
    change = _worst([b - a for a, b in zip(before, after, strict=True)], min)
    return f"{sum(before) / len(before):.1f}, change {change.replace('-0.0', '0.0')}"


def _pooled(cells: dict[str, Any], names: list[str], method: str) -> float:
    chosen = [cells[name][method] for name in names]
    return 100 * sum(c["share"] * c["n"] for c in chosen) / sum(c["n"] for c in chosen)


def paper_table(model: str) -> str:
    """Every method of ``recipes/paper-table.yaml`` on the forgotten people and the rest, by share of people."""
    folder = RESULTS / f"paper-{model}"
    kept, told, time = (_by_row(folder / f"{name}.csv") for name in ("trade-off", "outcomes", "time"))
    splits = list(dict.fromkeys(split for split, _ in kept))
    head = ["method"]
    for split in splits:
        per_cent = split.removeprefix("forget_")
        head += [f"recalled, {per_cent} %", f"the rest, {per_cent} %"]
    head += [f'clean "unknown", {splits[0][7:]} %', f"gibberish, {splits[0][7:]} %", f"seconds, {splits[0][7:]} %"]
    rows = []
    for label in dict.fromkeys(label for _, label in kept):
        row = [label]
        for split in splits:
            row.append(_ended(told.get((split, label), []), "recalled", tasks=OPEN_ANSWERS))
            row.append("".join(_per_cent(one["utility"]) for one in kept.get((split, label), [])) or "–")
        of_first = told.get((splits[0], label), [])
        row += [_ended(of_first, "unknown", "refused"), _ended(of_first, "gibberish")]
        seconds = [one["making_seconds"] for one in time.get((splits[0], label), []) if one["making_seconds"]]
        rows.append([*row, *(f"{float(one):.0f}" for one in seconds or ["0"])])
    return markdown([head, *rows])


def _by_row(file: Path) -> dict[tuple[str, str], list[dict[str, str]]]:
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    with file.open(encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            found.setdefault((line["split"], line["label"]), []).append(line)
    return found


def _ended(lines: Iterable[dict[str, str]], *outcomes: str, tasks: Sequence[str] | None = None) -> str:
    """Share of the test answers about the forgotten with one of these outcomes."""
    test = [line for line in lines if line["set"] == "test" and (tasks is None or line["task"] in tasks)]
    asked = sum(int(line["n"]) for line in test)
    return _per_cent(sum(int(line[name]) for line in test for name in outcomes) / asked) if asked else "–"


def _per_cent(share: str | float) -> str:
    return f"{100 * float(share):.1f}" if share != "" else "–"


def gates_table() -> str:
    """The quality checks of the shipped models, from their cards."""
    cards = [json.loads((WEIGHTS / name / "model_card.json").read_text(encoding="utf-8")) for name in MODELS]
    rows = [
        [one[0]["figure"], bar(one[0]["bar"]), *(f"{100 * gate['share']:.1f}" for gate in one)]
        for one in zip(*(card["gates"] for card in cards), strict=True)
    ]
    return markdown([["", "wanted", *(f"`embedded:{name}`" for name in MODELS)], *rows])


def bar(text: str) -> str:
    words, number = text.rsplit(" ", 1)
    return f"{words} {100 * float(number):.0f}"


TABLES: dict[str, Callable[[], str]] = {"gates": gates_table}
TABLES |= {f"demo {name}": lambda name=name: demo_table(name) for name in DEMOS}  # type: ignore[misc]
TABLES |= {f"paper {name}": lambda name=name: paper_table(name) for name in PAPERS}  # type: ignore[misc]
TABLES |= {f"study {name}": lambda name=name: study_table(name) for name in MODELS}  # type: ignore[misc]


def filled(text: str, tables: Mapping[str, Callable[[], str]] | None = None) -> str:
    """A page with its tables filled from the results; by default the README's.

    Raises:
        KeyError: A table is unknown.
    """
    known = TABLES if tables is None else tables
    pattern = r"(<!-- table: ([^>]+) -->\n).*?(<!-- /table -->)"
    return re.sub(pattern, lambda found: f"{found[1]}{known[found[2]]()}\n{found[3]}", text, flags=re.DOTALL)


def refresh(page: Path, tables: Mapping[str, Callable[[], str]], *, check: bool) -> int:
    """Write a page with its tables, or check it: 1 if it differs from the results."""
    old = page.read_text(encoding="utf-8")
    new = filled(old, tables)
    if check:
        return int(new != old)
    page.write_text(new, encoding="utf-8")
    return 0


def keep_demo(scores: Path) -> None:
    """Keep the scores that ``make demo`` wrote as a result, with its provenance."""
    from mllmeraser.evaluation.provenance import BLOCK, provenance

    records = json.loads(scores.read_text(encoding="utf-8"))
    model = str(records[0]["model"])
    block = provenance(f"mllmeraser demo --model {model} --force --out {scores.parent}", records[0]["seed"])
    demo_file(model.partition(":")[2]).write_text(
        json.dumps({BLOCK: block, "records": records}, indent=1) + "\n", encoding="utf-8"
    )


def main() -> int:
    """Write the README, or check it."""
    if "--demo" in sys.argv[1:]:
        keep_demo(Path("out/demo/scores.json"))
    return refresh(ROOT / "README.md", TABLES, check="--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
