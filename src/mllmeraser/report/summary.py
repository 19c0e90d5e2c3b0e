"""From records to what a reader looks at first: pooled figures, the table, the stacked bars."""

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
    """Accuracy pooled over records: how many of `n` answers held the right fact."""

    right: float
    n: int

    @property
    def share(self) -> float:
        """Right answers over all; 0 where there is none."""
        return self.right / self.n if self.n else 0.0


def recall(rows: Iterable[ScoreRow], method: str, sets: Sequence[str], preset: str | None = None) -> Recall | None:
    """Recall on the first of `sets` that was measured; generation and cloze, both modalities."""
    mine = [row for row in rows if row.method == method and row.preset == preset and row.task in ANSWERED]
    for name in sets:
        found = [row for row in mine if row.set == name]
        if found:
            return Recall(sum(row.accuracy * row.n for row in found), sum(row.n for row in found))
    return None


def method_order(row: ScoreRow) -> tuple[int, str, int, str]:
    """Sort key: the bare model first, then ours, then what they are compared with."""
    method = METHODS.index(row.method) if row.method in METHODS else len(METHODS)
    preset = PRESETS.index(row.preset) if row.preset in PRESETS else len(PRESETS)
    return method, row.method, preset, row.preset or ""


def set_order(name: str) -> tuple[int, str]:
    """Sort key of a set."""
    known = list(SET_TITLES)
    return (known.index(name) if name in known else len(known)), name


@dataclass(frozen=True)
class TableLine:
    """One line of the score table: modality and task, and a cell for each method (None: not measured)."""

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
    labels = tuple(dict.fromkeys(row.label for row in sorted(rows, key=method_order)))
    cells = {(row.set, row.modality, row.task, row.label): row for row in rows}
    groups = []
    for name in sorted({row.set for row in rows}, key=set_order):
        kinds = {(row.modality, row.task) for row in rows if row.set == name}
        lines = []
        for modality, task in sorted(kinds, key=lambda kind: (kind[0], _task_order(kind[1]))):
            found = tuple(cells.get((name, modality, task, label)) for label in labels)
            lines.append(TableLine(modality, task, max(row.n for row in found if row), found))
        groups.append(TableGroup(name, SET_TITLES.get(name, name), tuple(lines)))
    return labels, tuple(groups)


def _task_order(task: str) -> int:
    return TASKS.index(task) if task in TASKS else len(TASKS)


@dataclass(frozen=True)
class OutcomeBar:
    """How the answers of one method on one set ended: `(outcome, count, share)` in stacking order."""

    label: str
    n: int
    parts: tuple[tuple[str, int, float], ...]

    @property
    def spoken(self) -> str:
        """The bar in words, for a reader who does not see it."""
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, _, share in self.parts)
        return f"{self.label}: {shares or 'no answers'}"


def outcome_bars(rows: Sequence[ScoreRow]) -> tuple[tuple[str, tuple[OutcomeBar, ...]], ...]:
    """Per set, a bar for each method; generation and cloze pooled (or all tasks where a set has neither)."""
    groups = []
    for name in sorted({row.set for row in rows}, key=set_order):
        mine = [row for row in rows if row.set == name and row.outcomes]
        spoken = [row for row in mine if row.task in ANSWERED] or mine
        labels = dict.fromkeys(row.label for row in sorted(spoken, key=method_order))
        bars = tuple(_bar(label, [row for row in spoken if row.label == label]) for label in labels)
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
    """The figures at the top: what was forgotten, what stayed, the price, the way back."""
    figures = []
    for label, sets in (
        ("Forgotten people recalled", ("test", "forget")),
        ("Everyone else recalled", ("retain_heldout", "retain")),
    ):
        before = recall(result.scores, "vanilla", sets)
        after = recall(result.scores, "mllmeraser", sets, "default")
        if before and after:
            figures.append(
                Figure(
                    label,
                    percent(after.share),
                    percent(before.share),
                    f"{after.n:,} questions".replace(",", " "),
                )
            )
    facts = result.artifact
    figures.append(Figure("Time to forget", seconds(result.fit_seconds), detail="fit, all steps"))
    times = f"{facts.dense_bytes / facts.bytes:.0f} times smaller" if facts.bytes else ""
    figures.append(
        Figure(
            "Size of the eraser",
            size(facts.bytes),
            detail=f"{times} than dense matrices ({size(facts.dense_bytes)})",
        )
    )
    if result.detached_identical is not None:
        figures.append(
            Figure(
                "After detach",
                "bit-identical" if result.detached_identical else "not identical",
                detail="logits against the bare model",
            )
        )
    return tuple(figures)


def percent(share: float) -> str:
    """A share as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def size(count: int) -> str:
    """Bytes in the unit that reads best (powers of 1000)."""
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= power:
            return f"{count / power:.{0 if count >= 100 * power else 1}f} {unit}"
    return f"{count} B"


def seconds(value: float) -> str:
    """A duration in the unit that reads best."""
    if value >= 90:
        return f"{value / 60:.1f} min"
    return f"{value:.1f} s" if value >= 0.95 else f"{1000 * value:.0f} ms"
