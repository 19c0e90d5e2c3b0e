"""Try every family on its tiny model and fill the table of docs/families.md: ``python tools/family_table.py``.

The outcomes go to benchmarks/results/families.json. The tests try the families too, and compare. ``--check`` tries and
writes nothing; the exit code is 1 if the page differs from the results.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in ("tools", "tests", "tests/models", "tests/erasure")]

from readme_tables import RESULTS, markdown, refresh  # noqa: E402

RECORD, PAGE = RESULTS / "families.json", ROOT / "docs" / "families.md"
HEAD = (
    "builds", "decoder", "image tokens", "hook exact", "left padding", "right padding", "cached decoding",
    "mixed batch", "fires once", "prompt hidden", "processor", "pixel attacks", "quantised",
)  # fmt: skip
UNTRIED = ("vLLM",)
"""Columns without a test."""


def tried() -> dict[str, Any]:
    """Try every row of the zoo; return the outcomes and the versions."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
    import torch
    import transformers
    from family_kit import ZOO, outcome  # type: ignore[import-not-found]

    from mllmeraser.evaluation.provenance import BLOCK, provenance

    return {
        BLOCK: provenance("python tools/family_table.py", 0),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "families": {name: outcome(name) for name in ZOO},
    }


def rows() -> Iterable[list[str]]:
    """The table: a row for each tried model, from the record."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    yield ["family", "model type", *HEAD, *UNTRIED]
    for found in record["families"].values():
        cells = [found[name].split(":")[0] for name in HEAD]
        yield [found["family"], f"`{found['model type']}`", *cells, *["not tried"] * len(UNTRIED)]


def versions() -> str:
    """The versions of the record."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    return f"transformers {record['transformers']}, torch {record['torch']}"


TABLES = {"families": lambda: markdown(rows()), "versions": versions}


def main() -> int:
    """Try the families and write the page, or check it."""
    check = "--check" in sys.argv[1:]
    if not check:
        RECORD.write_text(json.dumps(tried(), indent=1) + "\n", encoding="utf-8")
    return refresh(PAGE, TABLES, check=check)


if __name__ == "__main__":
    sys.exit(main())
