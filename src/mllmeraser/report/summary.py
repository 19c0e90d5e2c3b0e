"""From records to pooled figures, the score table and the stacked bars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mllmeraser.report.content import OUTCOMES, DemoResult, ScoreRow

SET_TITLES = {
    "forget": "Forgotten people, pictures and questions as taught",
    "test": "Forgotten people, new pictures and wordings",
    "retain": "Everyone else",
    "retain_heldout": "Everyone else, prompts never fitted",
    "celebrity": "Celebrities",
    "general": "General knowledge",
    "perception": "Seeing: what the forgotten people look like",
    "neighbours": "Look-alikes of the forgotten",
    "holdout": "Strangers",
}
METHODS = ("vanilla", "mllmeraser", "retain-only", "detached")
PRESETS = (None, "default", "paper")
TASKS = ("generation", "cloze", "classification")
ANSWERED = ("generation", "cloze")


@dataclass(frozen=True)
class Recall:
    """Accuracy pooled over records: `right` of `n` answers gave the right fact."""

    right: float
    n: int

    @property
    def share(self) -> float:
        """Right answers over all; 0 for no answers."""
        return self.right / self.n if self.n else 0.0


def recall(rows: Iterable[ScoreRow], method: str, sets: Sequence[str], preset: str | None = None) -> Recall | None:
    """Recall on the first of `sets` that was measured, over generation and cloze in both modalities."""
    mine = [row for row in rows if row.method == method and row.preset == preset and row.task in ANSWERED]
    for name in sets:
        measured = [row for row in mine if row.set == name]
        if measured:
            return Recall(sum(row.accuracy * row.n for row in measured), sum(row.n for row in measured))
    return None


def _rank(item: str | None, known: Iterable[str | None]) -> tuple[int, str]:
    """Sort key: the known items in their order, then all others by name."""
    order = list(known)
    return (order.index(item) if item in order else len(order)), item or ""


def _labels(rows: Iterable[ScoreRow]) -> tuple[str, ...]:
    """Labels of the methods: the bare model, the eraser, then the methods to compare with."""
    ordered = sorted(rows, key=lambda row: (_rank(row.method, METHODS), _rank(row.preset, PRESETS)))
    return tuple(dict.fromkeys(row.label for row in ordered))


def _sets(rows: Iterable[ScoreRow]) -> list[str]:
    return sorted({row.set for row in rows}, key=lambda name: _rank(name, SET_TITLES))


@dataclass(frozen=True)
class TableLine:
    """One line of the score table: modality, task, and a cell for each method (None: not measured)."""

    modality: str
    task: str
    n: int
    cells: tuple[ScoreRow | None, ...]


@dataclass(frozen=True)
class TableGroup:
    """The lines of one set."""

    set: str
    title: str
    lines: tuple[TableLine, ...]


def score_table(rows: Sequence[ScoreRow]) -> tuple[tuple[str, ...], tuple[TableGroup, ...]]:
    """Column labels, and the lines grouped by set."""
    labels = _labels(rows)
    cells = {(row.set, row.modality, row.task, row.label): row for row in rows}
    groups = []
    for name in _sets(rows):
        kinds = {(row.modality, row.task) for row in rows if row.set == name}
        lines = []
        for modality, task in sorted(kinds, key=lambda kind: (kind[0], _rank(kind[1], TASKS))):
            line = tuple(cells.get((name, modality, task, label)) for label in labels)
            lines.append(TableLine(modality, task, max(row.n for row in line if row), line))
        groups.append(TableGroup(name, SET_TITLES.get(name, name), tuple(lines)))
    return labels, tuple(groups)


@dataclass(frozen=True)
class OutcomeBar:
    """The outcomes of one method on one set: `(outcome, count, share)` in stacking order."""

    label: str
    n: int
    parts: tuple[tuple[str, int, float], ...]

    @property
    def spoken(self) -> str:
        """The bar in words, for screen readers."""
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, _, share in self.parts)
        return f"{self.label}: {shares or 'no answers'}"


def outcome_bars(rows: Sequence[ScoreRow]) -> tuple[tuple[str, tuple[OutcomeBar, ...]], ...]:
    """A bar per set and method, over generation and cloze, or over all tasks where a set has neither."""
    groups = []
    for name in _sets(rows):
        mine = [row for row in rows if row.set == name and row.outcomes]
        answered = [row for row in mine if row.task in ANSWERED] or mine
        bars = tuple(_bar(label, [row for row in answered if row.label == label]) for label in _labels(answered))
        if bars:
            groups.append((SET_TITLES.get(name, name), bars))
    return tuple(groups)


def _bar(label: str, rows: Sequence[ScoreRow]) -> OutcomeBar:
    names = [*OUTCOMES, *sorted({name for row in rows for name in row.outcomes} - set(OUTCOMES))]
    counts = {name: sum(row.outcomes.get(name, 0) for row in rows) for name in names}
    total = sum(counts.values())
    return OutcomeBar(label, total, tuple((name, count, count / total) for name, count in counts.items() if count))


@dataclass(frozen=True)
class Figure:
    """One of the figures at the top of the page."""

    label: str
    value: str
    before: str = ""
    detail: str = ""


def headline(result: DemoResult) -> tuple[Figure, ...]:
    """The figures at the top: recall of the forgotten and of others, time, size, and the state after detaching."""
    figures = []
    for label, sets in (
        ("Forgotten people recalled", ("test", "forget")),
        ("Everyone else recalled", ("retain_heldout", "retain")),
    ):
        before = recall(result.scores, "vanilla", sets)
        after = recall(result.scores, "mllmeraser", sets, "default")
        if before and after:
            questions = f"{after.n:,} questions".replace(",", " ")
            figures.append(Figure(label, percent(after.share), percent(before.share), questions))
    facts = result.artifact
    times = f"{facts.dense_bytes / facts.bytes:.0f} times smaller" if facts.bytes else ""
    smaller = f"{times} than dense matrices ({size(facts.dense_bytes)})"
    figures.append(Figure("Time to forget", seconds(result.fit_seconds), detail="fit, all steps"))
    figures.append(Figure("Size of the eraser", size(facts.bytes), detail=smaller))
    if result.detached_identical is not None:
        value = "bit-identical" if result.detached_identical else "not identical"
        figures.append(Figure("After detach", value, detail="logits against the bare model"))
    return tuple(figures)


def percent(share: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def size(count: int) -> str:
    """Bytes in a readable unit (powers of 1000)."""
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= power:
            return f"{count / power:.{0 if count >= 100 * power else 1}f} {unit}"
    return f"{count} B"


def seconds(value: float) -> str:
    """A duration in a readable unit."""
    if value >= 90:
        return f"{value / 60:.1f} min"
    return f"{value:.1f} s" if value >= 0.95 else f"{1000 * value:.0f} ms"
