"""Count the sentences that need a second reading: over 30 words, or with a word of the list below.

    python tools/plain_english.py            # the counts, by folder
    python tools/plain_english.py --list     # every such sentence, with its place
    python tools/plain_english.py src/mllmeraser/models --list

It reads the docs (`*.md`, without code and tables) and all docstrings in `src`, `tools` and `benchmarks`.
"""

from __future__ import annotations

import argparse
import ast
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "src", "tools", "benchmarks")
LONGEST = 30
"""Most words in a sentence that is clear at the first reading."""
WORDS = re.compile(
    r"\b(whoever|whomever|whose|nobody|anew|(?:is|are|was|were|be) told|made new|bears|stands? in"
    r"|thereof|therein|whereof)\b",
    re.IGNORECASE,
)
ITEM = re.compile(r"^\s*(?:[-*]|\d+\.|[A-Za-z_*`][\w`*, .]*:(?=\s))\s*")
END = re.compile(r"(?<=[.!?])[\"')`*]*\s+(?=[\"'(*\[]*[A-Z0-9`])")


@dataclass(frozen=True)
class Sentence:
    """One sentence and its place."""

    path: Path
    line: int
    text: str

    @property
    def fault(self) -> str | None:
        """The fault of the sentence, or None."""
        found = WORDS.search(re.sub(r"``?[^`]*``?", "code", self.text))
        if found:
            return f"{found.group(0).lower()!r}"
        words = len(re.findall(r"[^\s|]*\w[^\s|]*", self.text))
        return f"{words} words" if words > LONGEST else None


def sentences(path: Path) -> Iterator[Sentence]:
    """All sentences of a Markdown file, or of the docstrings of a Python file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield from _prose(path, 1, re.sub(r"```.*?```", lambda m: "\n" * m.group(0).count("\n"), text, flags=re.DOTALL))
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from _prose(path, node.lineno, textwrap.dedent(" " * node.col_offset + node.value.value))


def _prose(path: Path, first: int, text: str) -> Iterator[Sentence]:
    """Sentences of a text. Its paragraphs and list items end at blank lines, headings, tables and new items."""
    start, part = first, ""
    for number, line in enumerate([*text.splitlines(), ""], first):
        bare = line.strip()
        stops = not bare or bare.startswith(("#", "|", ">>>", "```", "<")) or bool(ITEM.match(line))
        if stops and part:
            yield from (Sentence(path, start, one) for one in END.split(part.strip()))
            part = ""
        if bare and not bare.startswith(("|", ">>>", "```", "<")):
            start, part = (number, bare) if not part else (start, f"{part} {bare}")


def files(places: list[str]) -> Iterator[Path]:
    """Markdown and Python files in the places, sorted."""
    for place in places:
        path = Path(place) if Path(place).is_absolute() else ROOT / place
        if path.is_file():
            yield path
        else:
            yield from sorted(p for kind in ("*.md", "*.py") for p in path.rglob(kind) if "results" not in p.parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="*", default=list(PLACES), help="files and folders")
    parser.add_argument("--list", action="store_true", help="print every sentence")
    asked = parser.parse_args()
    all_of, bad = Counter[str](), Counter[str]()
    for path in files(asked.places):
        shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        room = "/".join(shown.parts[:3]) if shown.parts[0] == "src" else shown.parts[0]
        for sentence in sentences(path):
            all_of[room] += 1
            if sentence.fault:
                bad[room] += 1
                if asked.list:
                    print(f"{shown}:{sentence.line}: {sentence.fault}: {sentence.text[:200]}")
    for room in sorted(all_of):
        print(f"{bad[room]:5d} of {all_of[room]:5d}  {room}")
    print(f"{bad.total():5d} of {all_of.total():5d}  in all")


if __name__ == "__main__":
    main()
