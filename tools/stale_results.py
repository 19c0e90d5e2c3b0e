"""List results that are older than code that can change them: ``python tools/stale_results.py``.

Without an option it prints each result with its kind, its commit and the number of commits since. Options:

- ``--write`` writes the list of docs/results.md.
- ``--check`` writes nothing; the exit code is 1 if that list is out of date.

The list in the docs names the first commit after the measurement that touched such code. So a result enters the list
once, and further commits do not change its row. Needs git and the whole history.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # also when this file is loaded from elsewhere

from readme_tables import RESULTS, ROOT, markdown, refresh  # noqa: E402

PAGE = ROOT / "docs" / "results.md"
SRC = "src/mllmeraser"
FIT = tuple(f"{SRC}/{room}" for room in ("erasure", "models", "samples", "portraits"))
"""Code that every fit and every answer goes through."""
SCORES = (*FIT, f"{SRC}/benchmarks", f"{SRC}/evaluation", f"{SRC}/embedded/weights")
STUDY = (*SCORES, f"{SRC}/studies")
METHODS = (*SCORES, f"{SRC}/methods", f"{SRC}/comparison")
DEPENDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "paper-*": ("accuracy and timing", (*METHODS, f"{SRC}/embedded/twins", "recipes/paper-table.yaml")),
    "search-*": ("accuracy", (*METHODS, "recipes/search.yaml")),
    "demo-*": ("accuracy and timing", (*SCORES, f"{SRC}/embedded", f"{SRC}/report")),
    "families.json": ("accuracy", (f"{SRC}/erasure", f"{SRC}/models", "tools/family_table.py")),
    "many-erasers-*": ("accuracy and timing", STUDY),
    "load.json": ("timing", (*FIT, f"{SRC}/serving", "benchmarks/load.py")),
    "capture-*-7b.json": ("timing", (*FIT, "benchmarks/capture_full_size.py", "benchmarks/full_size.py")),
    "capture-*": ("timing", (*FIT, "benchmarks/capture.py")),
    "contexts-*": ("accuracy", (*STUDY, f"{SRC}/methods/block_list.py")),
    "names-*": ("accuracy", (*STUDY, f"{SRC}/methods/block_list.py")),
    "same-answers.json": ("accuracy", SCORES),
    "speed-algebra.json": ("timing", (f"{SRC}/erasure", "benchmarks/speed_algebra.py")),
    "speed-shift.json": ("timing", (f"{SRC}/erasure", f"{SRC}/models", "benchmarks/speed_shift.py")),
    "speed-model-*": ("timing", (*FIT, "benchmarks/speed_model.py")),
    "*": ("accuracy", STUDY),
}
"""Pattern of a result -> kind of its figures, paths of the code that can change them. The first match counts."""


@dataclass(frozen=True)
class Result:
    """A result and the commits that touched its code since it was measured.

    Attributes:
        name: File or folder below ``benchmarks/results``.
        kind: What its figures are.
        commit: Where it was measured, None if that is unknown.
        clean: False if the code differed from that commit; None if that was not recorded.
        since: Commits after it that touched its code, oldest first; None if the history lacks the commit.
    """

    name: str
    kind: str
    commit: str | None
    clean: bool | None
    since: tuple[str, ...] | None

    @property
    def measured_at(self) -> str:
        """The commit, with a remark where the code was not exactly that."""
        remark = {True: "", False: ", with uncommitted changes", None: ", derived"}[self.clean]
        return f"`{self.commit}`{remark}" if self.commit else "unknown"

    @property
    def state(self) -> str:
        """The state as the docs name it."""
        if self.since is None:
            return "unknown commit"
        return f"older than the code since `{self.since[0]}`" if self.since else "as new as the code"


def git(*arguments: str) -> str:
    """Output of git in this checkout."""
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def no_history() -> str | None:
    """Why the history cannot be read, or None: no git, no checkout, or a shallow clone."""
    try:
        return "a shallow clone" if git("rev-parse", "--is-shallow-repository") == "true" else None
    except (OSError, subprocess.CalledProcessError):
        return "no git checkout"


def provenance_blocks() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and provenance of every result."""
    for path in sorted([*RESULTS.glob("*.json"), *RESULTS.glob("*/comparison.json")]):
        name = path.name if path.parent == RESULTS else path.parent.name
        content = json.loads(path.read_text(encoding="utf-8"))
        yield name, content["provenance"]


def results(head: str = "HEAD") -> Iterator[Result]:
    """Every result with the commits up to ``head`` that touched its code."""
    for name, block in provenance_blocks():
        kind, paths = next(entry for pattern, entry in DEPENDS.items() if fnmatch(name, pattern))
        since: tuple[str, ...] | None
        try:
            found = git("log", "--reverse", "--format=%h", "--abbrev=7", f"{block['commit']}..{head}", "--", *paths)
            since = tuple(found.split())
        except subprocess.CalledProcessError:
            since = None
        yield Result(name, kind, block["commit"], block["clean"], since)


def rows(found: Iterable[Result]) -> Iterator[list[str]]:
    """The table of the docs."""
    yield ["result", "figures", "measured at", "state"]
    for one in found:
        yield [f"`{one.name}`", one.kind, one.measured_at, one.state]


TABLES = {"results": lambda: markdown(rows(results()))}


def main() -> int:
    """Print the table, or write or check the list of the docs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--write", action="store_true", help=f"write the list of {PAGE.relative_to(ROOT)}")
    way.add_argument("--check", action="store_true", help="exit code 1 if that list is out of date")
    asked = parser.parse_args()
    reason = no_history()
    if reason:
        parser.exit(2, f"{parser.prog}: {reason}: this needs git and the whole history\n")
    if asked.write or asked.check:
        return refresh(PAGE, TABLES, check=asked.check)
    head = ["result", "figures", "measured at", "commits since"]
    counts = (
        [one.name, one.kind, one.measured_at, "unknown" if one.since is None else str(len(one.since))]
        for one in results()
    )
    print(markdown([head, *counts]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
