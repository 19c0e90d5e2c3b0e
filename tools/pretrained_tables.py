"""Fill the tables of docs/pretrained.md from committed results: ``python tools/pretrained_tables.py``.

``--check`` writes nothing; the exit code is 1 if the page differs from the results.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # also when this file is loaded from elsewhere

from readme_tables import ROOT, WEIGHTS, bar, markdown, refresh  # noqa: E402
from study_entries import entries  # noqa: E402

PAGE = ROOT / "docs" / "pretrained.md"
CARD = WEIGHTS.parent / "smol" / "weights" / "model_card.json"


def checks() -> Iterable[Sequence[str]]:
    """The quality checks of the model's card."""
    yield ["", "wanted", "measured", "prompts", "met"]
    for gate in json.loads(CARD.read_text(encoding="utf-8"))["gates"]:
        met = "yes" if gate["met"] else "no"
        yield [gate["figure"], bar(gate["bar"]), f"{100 * gate['share']:.1f}", str(gate["n"]), met]


def language() -> Iterable[Sequence[str]]:
    """What pretraining gave, before and after the adapters."""
    found = entries("pretrained", "smol")
    bare, taught = found["bare"], found["taught"]
    left = len(set(bare["right"]) & set(taught["right"]))
    yield ["", "bare SmolLM2", "`embedded:smol`"]
    yield ["world questions that the bare model answers right", str(len(bare["right"])), f"{left} still right"]
    yield ["perplexity on plain text", f"{bare['perplexity']:.2f}", f"{taught['perplexity']:.2f}"]
    kept = [f"{one['rules kept']} of {one['rules']}" for one in (bare, taught)]
    yield ["answers that keep the rule of a system prompt", *kept]


TABLES: dict[str, Callable[[], str]] = {"checks": lambda: markdown(checks()), "language": lambda: markdown(language())}


def main() -> int:
    """Write the page, or check it."""
    return refresh(PAGE, TABLES, check="--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
