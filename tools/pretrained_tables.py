"""Fill the tables of docs/pretrained.md from committed results: ``python tools/pretrained_tables.py``.

``--check`` writes nothing; the exit code is 1 if the page differs from the results.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also when this file is loaded from elsewhere

from readme_tables import ROOT, markdown, refresh, study_table  # noqa: E402
from study_entries import Entry, entries, report  # noqa: E402

PAGE = ROOT / "docs" / "pretrained.md"
CARD = ROOT / "src" / "mllmeraser" / "embedded" / "smol" / "weights" / "model_card.json"
MODEL = "smol"
SETS = ("forget", "same subject", "neighbours", "retain_heldout", "general")


def checks() -> Iterable[Sequence[str]]:
    """The quality checks of the model's card."""
    yield ["", "wanted", "measured", "prompts"]
    for gate in json.loads(CARD.read_text(encoding="utf-8"))["gates"]:
        words, number = gate["bar"].rsplit(" ", 1)
        yield [gate["figure"], f"{words} {100 * float(number):.0f}", f"{100 * gate['share']:.1f}", str(gate["n"])]


def language() -> Iterable[Sequence[str]]:
    """What pretraining gave, before and after the adapters."""
    found = entries("pretrained", MODEL)
    bare, taught = found["bare"], found["taught"]
    left = len(set(bare["right"]) & set(taught["right"]))
    yield ["", "bare SmolLM2", "`embedded:smol`"]
    yield ["world questions that the bare model answers right", str(len(bare["right"])), f"{left} still right"]
    yield ["perplexity on plain text", f"{bare['perplexity']:.2f}", f"{taught['perplexity']:.2f}"]
    kept = [f"{one['rules kept']} of {one['rules']}" for one in (bare, taught)]
    yield ["answers that keep the rule of a system prompt", *kept]


def knowledge() -> Iterable[Sequence[str]]:
    """Right answers before and after, pooled over subjects, by preset and by what was forgotten."""
    yield ["benchmark", "forgotten", "subjects", *(name.replace("_", " ") for name in SETS), "with the sentence"]
    groups: dict[tuple[str, str], list[Entry]] = {}
    for key, entry in entries("knowledge", MODEL).items():
        preset, what, *_ = key.split("/")
        groups.setdefault((preset, what), []).append(entry)
    for (preset, what), found in groups.items():
        said = sum(one["forget"].get("replied", 0) for one in found)
        cells = [_before_after([one[name] for one in found if name in one]) for name in SETS]
        yield [f"`knowledge:{preset}`", what, str(len(found)), *cells, str(said)]


def in_contexts() -> Iterable[Sequence[str]]:
    """Facts told in conversations before and after, pooled over subjects."""
    yield ["benchmark", "subjects", "about the forgotten", "about others"]
    groups: dict[str, list[Entry]] = {}
    for key, entry in entries("things-in-contexts", MODEL).items():
        groups.setdefault(key.split("/")[0], []).append(entry)
    for preset, found in groups.items():
        sides = [_told(found, side) for side in ("forgotten", "stays")]
        yield [f"`knowledge:{preset}`", str(len(found)), *sides]


def _told(found: Iterable[Entry], side: str) -> str:
    cells = [cell for one in found for kind, cell in one.items() if kind.startswith(side)]
    return f"{sum(cell['known'] for cell in cells)} → {sum(cell['left'] for cell in cells)}"


def _before_after(cells: Sequence[Entry]) -> str:
    known = sum(cell["known"] for cell in cells)
    return f"{known} → {sum(cell.get('right', 0) for cell in cells)}" if known else "–"


def _table(study: str, make: Callable[[], Iterable[Sequence[str]]]) -> str:
    return markdown(make()) if report(f"{study}-{MODEL}") else "*Not measured yet.*"


TABLES: dict[str, Callable[[], str]] = {
    "checks": lambda: markdown(checks()),
    "language": lambda: _table("pretrained", language),
    "people": lambda: study_table(MODEL) if report(f"embedded-{MODEL}") else "*Not measured yet.*",
    "knowledge": lambda: _table("knowledge", knowledge),
    "in contexts": lambda: _table("things-in-contexts", in_contexts),
}


def main() -> int:
    """Write the page, or check it."""
    return refresh(PAGE, TABLES, check="--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
