"""From a row to its figures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.gates.conformal import auc
from mllmeraser.evaluation.intervals import share_interval, wilson
from mllmeraser.evaluation.records import Item
from mllmeraser.samples.errors import InputError, NumericalError
from mllmeraser.samples.sample import Sample
from mllmeraser.studies.ablation.edits import Exchanged, lengths
from mllmeraser.studies.ablation.lab import Lab
from mllmeraser.studies.ablation.questions import Questions
from mllmeraser.studies.ablation.rows import Row
from mllmeraser.studies.scoring import OPEN, Share, share, summary

Sets = dict[str, list[Sample]]
OTHERS = "others"
"""Set of the other people of the split, where a request is about one of them."""


def measure(lab: Lab, questions: Questions, sets: Sets, row: Row) -> dict[str, Any]:
    """Make a row's artifact, ask everything, and count."""
    began = time.perf_counter()
    stated: dict[str, Any] = {"section": row.section, "name": row.name}
    try:
        made = _artifacts(lab, row)
    except (InputError, NumericalError) as error:  # a result too: with this setting there is no artifact
        return {**stated, "failed": str(error), **_flips(lab, row), "seconds": round(time.perf_counter() - began, 2)}
    ready = time.perf_counter()
    if row.settings is not None and not row.shown.names:
        stated["named_by_model"] = _names(lab, row)
    entry = {**stated, **_artifact_facts(made), **_flips(lab, row), **_figures(lab, questions, sets, made)}
    seconds = {"making_seconds": ready - began, "seconds": time.perf_counter() - began}
    return {**entry, **{name: round(value, 2) for name, value in seconds.items()}}


def _artifacts(lab: Lab, row: Row) -> dict[tuple[str, ...], Eraser | None]:
    """The artifacts of a row, by the people they are about."""
    if row.settings is None:
        return {lab.people: None}
    asked = [(key,) for key in lab.people] if row.alone else [lab.people]
    made: dict[tuple[str, ...], Eraser | None] = {}
    for people in asked:
        shown = replace(row.shown, people=people) if row.alone else row.shown
        made[people] = reduce(lambda eraser, edit: edit(eraser, lab), row.edits, lab.fitted(row.settings, shown))
    return made


def _figures(
    lab: Lab, questions: Questions, sets: Sets, made: Mapping[tuple[str, ...], Eraser | None]
) -> dict[str, Any]:
    """What is told under each artifact, all counted together, and what the decisions were."""
    items: list[Item] = []
    bare: list[Item] = []
    scores: list[tuple[Eraser, Tensor, Tensor]] = []
    for people, eraser in made.items():
        asked = about(sets, people, lab.people)
        before = questions.bare(asked)
        bare += before
        items += before if eraser is None else questions.answers(eraser, asked)
        if eraser is not None:
            forget, retain = (questions.pooled(eraser, name, asked[name]) for name in ("test", "retain_heldout"))
            scores.append((eraser, forget, retain))
    figures = summary(items, seed=lab.seed)
    for label, modality in (("by_picture", "image"), ("by_name", "text")):
        figures[label] = share(items, "test", modality=modality, tasks=OPEN, seed=lab.seed)
    figures["changed"] = _changed(items, bare, lab.seed)
    return figures if not scores else {**figures, "decision": decision(scores)}


def about(sets: Sets, people: Sequence[str], everybody: Sequence[str]) -> Sets:
    """The sets for a request about some of the people; questions about the rest of them are a set of their own."""
    if set(people) == set(everybody):
        return sets
    test = sets["test"]
    mine = {"test": [sample for sample in test if sample.subject in people]}
    rest = {OTHERS: [sample for sample in test if sample.subject not in people]}
    return {**sets, **mine, **rest}


def decision(scores: Sequence[tuple[Eraser, Tensor, Tensor]]) -> dict[str, Any]:
    """How well gates tell test prompts from retained ones, and how often a decision falls on either side.

    Without a threshold there is no decision, and the mean score of each side stands in its place.
    """
    separation = [auc(forget, retain) for _, forget, retain in scores]
    found: dict[str, Any] = {"auc": sum(a or 0.0 for a in separation) / len(separation)}
    sides = {"forget": [forget for _, forget, _ in scores], "retain": [retain for _, _, retain in scores]}
    config = scores[0][0].config
    if config.policy.phi != "threshold":
        return {**found, **{f"mean_{side}": float(torch.cat(values).mean()) for side, values in sides.items()}}
    limits = [eraser.config.threshold or 0.0 for eraser, _, _ in scores]
    for label, values in zip(("detected", "false_alarms"), sides.values(), strict=True):
        fired = torch.cat([v > limit for v, limit in zip(values, limits, strict=True)])
        found[label] = _wilson(int(fired.sum()), len(fired))
    return {**found, "stated": config.calibration.false_alarm_target}


def _wilson(successes: int, n: int) -> Share:
    interval = wilson(successes, n)
    return {"share": successes / n, "low": interval.low, "high": interval.high, "n": n}


def _changed(items: Sequence[Item], bare: Sequence[Item], seed: int) -> Share:
    """Share of the answers outside the test that are not, letter for letter, those of the bare model."""
    pairs = [(now, was) for now, was in zip(items, bare, strict=True) if now["set"] != "test"]
    other = [now["answer"] != was["answer"] for now, was in pairs]
    interval = share_interval(other, [now["subject"] or now["id"] for now, _ in pairs], seed=seed)
    return {"share": sum(other) / len(other), "low": interval.low, "high": interval.high, "n": len(other)}


def _artifact_facts(made: Mapping[tuple[str, ...], Eraser | None]) -> dict[str, Any]:
    """How the artifact (of several, the first) is built."""
    eraser = next(iter(made.values()))
    if eraser is None:
        return {}
    config = eraser.config
    return {
        "policy": config.policy.name,
        "gate": config.gate.kind,
        "direction": config.direction.kind,
        "read_layers": list(config.read_layers),
        "shift_layers": list(config.shift_layers),
        "strength": config.strength,
        "lengths": lengths(eraser),
        "bytes": eraser.nbytes,
    }


def _names(lab: Lab, row: Row) -> dict[str, int]:
    """Whom the model itself could name, and whom by a name of theirs."""
    subjects = lab.request(row.shown).subjects
    known = lab.benchmark.names
    right = [subject for subject in subjects if set(subject.names) & set(known[subject.key])]
    return {"of": len(subjects), "named": sum(bool(subject.names) for subject in subjects), "rightly": len(right)}


def _flips(lab: Lab, row: Row) -> dict[str, Any]:
    """Of the pairs behind a `refusal` direction that was put in: how many flipped."""
    put_in = [edit.direction for edit in row.edits if isinstance(edit, Exchanged) and edit.direction.kind == "refusal"]
    if not put_in:
        return {}
    pairs = lab.pairs(put_in[-1].pgd)
    return {"flipped": _wilson(int(pairs.flipped.sum()), int((~pairs.complied).sum()))}
