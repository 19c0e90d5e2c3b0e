"""The tables of docs/studies.md about conversations, names, and what is answered beside the forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from readme_tables import MODELS
from study_entries import Entry, entries, folds


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


BESIDE = ("what a picture shows", "descriptions", "a name in passing")
TOLD = ("in contexts", "in unusual wordings")


def beside() -> Iterable[list[str]]:
    """Answers kept that do not ask about a forgotten person."""
    yield ["model", "fold", *(f"kept: {group}" for group in BESIDE), "wordings that lose more than half"]
    for model in MODELS:
        for fold, found in folds("beside", model):
            own = [e for e in found if "wording" in e]
            kept = [share_kept([e for e in own if e["group"] == group]) for group in BESIDE]
            lost = [f"“{e['wording']}”" for e in own if 2 * e["kept"] < e["n"]]
            yield [model, str(fold), *kept, "; ".join(lost).replace("{", "").replace("}", "") or "none"]


def beside_curve() -> Iterable[list[str]]:
    """What a higher threshold of the topic gate keeps, and what it tells; all measured folds together."""
    yield ["model", "threshold", *(f"kept: {group}" for group in BESIDE), *(f"still told: {name}" for name in TOLD)]
    for model in MODELS:
        steps: dict[float, list[Entry]] = {}
        for _, found in folds("beside", model):
            for entry in found:
                if "step" in entry:
                    steps.setdefault(entry["step"], []).append(entry)
        for step, rows in steps.items():
            kept = [share_kept([row["kept"][group] for row in rows]) for group in BESIDE]
            counted = ([row["told"][name] for row in rows] for name in TOLD)
            told = [f"{sum(e['left'] for e in own)} of {sum(e['n'] for e in own)}" for own in counted]
            yield [model, f"+ {step:.1f}" if step else "as fitted", *kept, *told]


def share_kept(rows: Sequence[Mapping[str, Any]]) -> str:
    """Answers kept of those that count."""
    return f"{sum(row['kept'] for row in rows)} of {sum(row['n'] for row in rows)}"


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
