"""The figures of a row."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from mllmeraser.erasure import Eraser
from mllmeraser.erasure.gates.conformal import auc
from mllmeraser.evaluation import Item
from mllmeraser.evaluation.intervals import wilson
from mllmeraser.samples import InputError, NumericalError
from mllmeraser.studies.ablation.edits import Exchanged
from mllmeraser.studies.ablation.lab import Lab
from mllmeraser.studies.ablation.questions import Questions
from mllmeraser.studies.ablation.sections import Row
from mllmeraser.studies.crowd import Sets
from mllmeraser.studies.erasers import norms
from mllmeraser.studies.scoring import OPEN, Share, share, share_of, summary

OTHERS = "others"
"""Set of the other people of the split, where a request is about one of them."""
Artifacts = dict[tuple[str, ...], Eraser | None]
"""Artifacts by the people they are about."""


def measure(lab: Lab, questions: Questions, sets: Sets, row: Row) -> dict[str, Any]:
    """Make a row's artifact, ask everything, and count."""
    began = time.perf_counter()
    stated: dict[str, Any] = {"section": row.section, "name": row.name}
    try:
        made = _artifacts(lab, row)
    except (InputError, NumericalError) as error:  # a result too: this setting gives no artifact
        return {**stated, "failed": str(error), **_flips(lab, row), "seconds": round(time.perf_counter() - began, 2)}
    ready = time.perf_counter()
    if row.settings is not None and not row.request.names:
        stated["named_by_model"] = _names(lab, row)
    entry = {**stated, **_artifact_facts(made), **_flips(lab, row), **_figures(lab, questions, sets, made)}
    seconds = {"making_seconds": ready - began, "seconds": time.perf_counter() - began}
    return {**entry, **{name: round(value, 2) for name, value in seconds.items()}}


def _artifacts(lab: Lab, row: Row) -> Artifacts:
    settings = row.settings
    if settings is None:
        return {lab.people: None}

    def made(people: tuple[str, ...]) -> Eraser:
        spec = replace(row.request, people=people) if row.alone else row.request
        return reduce(lambda eraser, edit: edit(eraser, lab), row.edits, lab.fitted(settings, spec))

    return {people: made(people) for people in ([(key,) for key in lab.people] if row.alone else [lab.people])}


def _figures(lab: Lab, questions: Questions, sets: Sets, made: Artifacts) -> dict[str, Any]:
    """The figures of all answers under each artifact together, and of the decisions."""
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
    # share of the answers outside the test set that differ from the bare model's
    pairs = [(now, was) for now, was in zip(items, bare, strict=True) if now["set"] != "test"]
    differ = [now["answer"] != was["answer"] for now, was in pairs]
    figures["changed"] = share_of(differ, [now["subject"] or now["id"] for now, _ in pairs], seed=lab.seed)
    return figures if not scores else {**figures, "decision": decision(scores)}


def about(sets: Sets, people: Sequence[str], everybody: Sequence[str]) -> Sets:
    """The sets for a request about some of the people; questions about the others become a set of their own."""
    if set(people) == set(everybody):
        return sets
    mine = {"test": [sample for sample in sets["test"] if sample.subject in people]}
    return {**sets, **mine, OTHERS: [sample for sample in sets["test"] if sample.subject not in people]}


def decision(scores: Sequence[tuple[Eraser, Tensor, Tensor]]) -> dict[str, Any]:
    """How well gates separate test prompts from retained ones, and how often they fire on each group.

    Gates without a threshold get the mean score of each group instead.
    """
    areas = [auc(forget, retain) for _, forget, retain in scores]
    figures: dict[str, Any] = {"auc": sum(area or 0.0 for area in areas) / len(areas)}
    sides = {"forget": [forget for _, forget, _ in scores], "retain": [retain for _, _, retain in scores]}
    config = scores[0][0].config
    if config.policy.phi != "threshold":
        return {**figures, **{f"mean_{side}": float(torch.cat(values).mean()) for side, values in sides.items()}}
    limits = [eraser.config.threshold or 0.0 for eraser, _, _ in scores]
    for label, values in zip(("detected", "false_alarms"), sides.values(), strict=True):
        fired = torch.cat([v > limit for v, limit in zip(values, limits, strict=True)])
        figures[label] = _wilson(int(fired.sum()), len(fired))
    return {**figures, "stated": config.calibration.false_alarm_rate_promised}


def _wilson(successes: int, n: int) -> Share:
    interval = wilson(successes, n)
    return {"share": successes / n, "low": interval.low, "high": interval.high, "n": n}


def _artifact_facts(made: Artifacts) -> dict[str, Any]:
    """Properties of the artifact, or of the first of several."""
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
        "lengths": norms(eraser, digits=4),
        "bytes": eraser.nbytes,
    }


def _names(lab: Lab, row: Row) -> dict[str, int]:
    """Number of people that the model itself named, and that it named correctly."""
    subjects = lab.request(row.request).subjects
    right = [subject for subject in subjects if set(subject.names) & set(lab.benchmark.names[subject.key])]
    return {"of": len(subjects), "named": sum(bool(subject.names) for subject in subjects), "rightly": len(right)}


def _flips(lab: Lab, row: Row) -> dict[str, Any]:
    """Share of flipped pairs, where an edit exchanges the direction for `refusal`."""
    refusals = [
        edit.direction for edit in row.edits if isinstance(edit, Exchanged) and edit.direction.kind == "refusal"
    ]
    if not refusals:
        return {}
    pairs = lab.pairs(refusals[-1].pgd)
    return {"flipped": _wilson(int(pairs.flipped.sum()), int((~pairs.complied).sum()))}
