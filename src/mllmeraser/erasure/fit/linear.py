"""fit(model, request) -> Eraser: split, capture, linear algebra, calibration. Read this file and
`steering.py` first.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.calibration.linear import calibrate, choose, tune
from mllmeraser.erasure.directions.contrast_states import ContrastSet, contrast_states
from mllmeraser.erasure.directions.kinds import direction_kind
from mllmeraser.erasure.fit.build import assemble, describe
from mllmeraser.erasure.fit.closed_form import directions_from, gates_from, neural_gates
from mllmeraser.erasure.fit.discriminants import SharedBasis
from mllmeraser.erasure.fit.result import FitResult, timed
from mllmeraser.erasure.fit.split import DataSplit, split, unit_hash
from mllmeraser.erasure.fit.subject import fit_subjects
from mllmeraser.erasure.gates.conformal import prompts_needed
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint
from mllmeraser.erasure.states.collect import States, answer_states, gather_sums, statistics_of
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.erasure.states.statistics import ERASE, FORGET, RECALL, RETAIN, STRANGERS, Statistics
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request, require_answers
from mllmeraser.samples.sample import IMPERSONAL, Sample

__all__ = ["FitResult", "FitSettings", "DataSplit", "fit", "split"]


def fit(
    model: MultimodalModel,
    request: Request,
    settings: FitSettings | None = None,
    progress: Progress | None = None,
    *,
    contrast: ContrastSet | None = None,
    cache: PromptStateCache | None = None,
    basis: SharedBasis | None = None,
    checkpoint: CaptureCheckpoint | None = None,
) -> FitResult:
    """Make an eraser for `request`, which is already expanded into views and wordings.

    Every sample passes through the model once; the rest is linear algebra on sums.

    Args:
        model: The frozen model.
        request: What to forget, what to retain, and strangers.
        settings: All else; None: the preset `default`.
        progress: Told how far the work is.
        contrast: Restricted prompts, for the directions `refusal`, `text-only` and `clean-image`.
        cache: States that earlier fits captured on this model, not captured again (gate `subject`).
        basis: Of this model, made before; None: made of the request's own retain samples and strangers. Erasers
            made with one basis can be put together (gate `subject`).
        checkpoint: Where captured batches are kept, to go on after a kill; `cache` that are given have their own.

    Raises:
        InputError: If the request cannot be used with these settings: too few retain prompts for the false-alarm
            rate, no strangers, no contrast samples, no answers, a layer that does not exist.
        NumericalError: If states are not finite or a system cannot be solved.
    """
    chosen = settings or FitSettings.preset("default")
    request.validate()
    reads, shifts = chosen.layers(model.num_layers)
    salt = chosen.salt if chosen.salt is not None else secrets.token_hex(16)
    parts = split(request, chosen, salt)
    _require(parts, chosen, contrast)
    if chosen.gate.kind == "subject":
        return fit_subjects(
            model, request, parts, chosen, salt, progress, cache=cache, basis=basis, checkpoint=checkpoint
        )
    if any(subject.attributes for subject in request.subjects):
        raise InputError("only the gate 'subject' can forget some attributes of somebody and keep the rest")
    clock: dict[str, float] = {}

    shifted = sorted({layer for shift in shifts for layer in shift})
    points = model.hookpoints({*reads, *shifted})
    with timed(clock, "capture"):
        statistics, rows, flip_rate = _capture(model, parts, chosen, contrast, points, reads, progress, checkpoint)
    with timed(clock, "linear_algebra"):
        directions = directions_from(statistics, chosen.direction.kind, shifted)
        if chosen.gate.kind == "neural":
            gates = neural_gates(rows, statistics.subjects, chosen.gate, reads, chosen.seed)
        else:
            gates = gates_from(statistics, chosen.gate, reads)
    with timed(clock, "calibration"):
        by_layer = [{layer: rows[name][HookPoint(layer)] for layer in reads} for name in _MEASURED]
        decision = calibrate(
            gates,
            chosen.policy,
            held_out=by_layer[0],
            check=by_layer[1],
            forget=by_layer[2],
            false_alarm_rate=chosen.false_alarm_rate,
        )
        manifest = describe(model, request, parts, chosen, contrast, salt, decision, flip_rate, statistics)
        build = partial(assemble, manifest, decision, directions)
        eraser = _choose_strength(model, build, parts, chosen, shifts, progress)
    clock["total"] = sum(clock.values())
    return FitResult(eraser, statistics, clock, parts.keys, salt, parts)


# -- stages ----------------------------------------------------------------------------------------------

_MEASURED = ("calibration", "check", "held_out")


def _require(parts: DataSplit, settings: FitSettings, contrast: ContrastSet | None) -> None:
    """Refuse early, before the model runs, what could only fail later."""
    if not parts.retain:
        raise InputError("there are no retain prompts to fit on: give samples whose answers must not change")
    kind = settings.direction.kind
    if kind == "unknown" and not parts.strangers:
        raise InputError("the direction 'unknown' needs strangers: give samples of people the model has never seen")
    if "contrast" in direction_kind(kind).needs and contrast is None:
        raise InputError(f"the direction {kind!r} needs contrast samples: prompts that the model refuses")
    if settings.policy.phi != "threshold":
        return
    identity = settings.gate.kind == "subject"
    needed = prompts_needed(settings.false_alarm_rate / (2 if identity else 1))
    usable = [s for s in parts.calibration if not identity or s.attribute not in IMPERSONAL]
    if len(usable) < needed:
        raise InputError(
            f"a false-alarm rate of {settings.false_alarm_rate:g} needs at least {needed} retain prompts for "
            f"calibration, and there are {len(usable)}: give about "
            f"{int(needed / settings.calibration_share * 1.1) + 1} in all, or allow a higher rate"
        )


def samples_of(parts: DataSplit, settings: FitSettings) -> dict[str, Sequence[Sample]]:
    """The prompts that a fit of any gate but `subject` reads, by the names of `LayerStatistics` and of what is held
    out, in the order in which they are captured.
    """
    samples: dict[str, Sequence[Sample]] = {RETAIN: parts.retain}
    samples.update({f"{FORGET}/{key}": rows for key, rows in parts.forget.items()})
    if settings.direction.kind == "unknown":
        samples[STRANGERS] = parts.strangers
    samples.update(zip(_MEASURED, (parts.calibration, parts.check, parts.held_out), strict=True))
    return samples


def _capture(
    model: MultimodalModel,
    parts: DataSplit,
    settings: FitSettings,
    contrast: ContrastSet | None,
    points: Sequence[HookPoint],
    reads: Sequence[int],
    progress: Progress | None,
    checkpoint: CaptureCheckpoint | None,
) -> tuple[Statistics, dict[str, States], float | None]:
    """MomentAccumulator of every group, states of what measures (and of what a neural gate learns from), and the flip rate."""
    kind, samples = settings.direction.kind, samples_of(parts, settings)
    learnt = [name for name in samples if name not in _MEASURED] if settings.gate.kind == "neural" else ()
    statistics, rows = gather_sums(
        model, samples, points, reads,
        kept=learnt, only_kept=_MEASURED, batch_size=settings.batch_size, progress=progress, checkpoint=checkpoint,
    )  # fmt: skip
    sides: dict[str, States] = {}
    flip_rate = None
    if "contrast" in direction_kind(kind).needs:
        assert contrast is not None
        found = contrast_states(
            model, contrast, settings.direction, points,
            batch_size=settings.batch_size, progress=progress, checkpoint=checkpoint,
        )  # fmt: skip
        sides, flip_rate = {ERASE: found.erase, RECALL: found.recall}, found.flip_rate
    elif kind == "idk":
        sides = _idk_states(model, parts, settings, points)
    return statistics.merge(statistics_of(sides, reads)), rows, flip_rate


def _idk_states(
    model: MultimodalModel, parts: DataSplit, settings: FitSettings, points: Sequence[HookPoint]
) -> dict[str, States]:
    """Forget questions followed by the "I don't know" answer, and by the true one."""
    found: dict[str, States] = {}
    for key, samples in parts.forget.items():
        answered = [sample for sample in samples if sample.answer]
        if not answered:
            require_answers(samples, "the direction 'idk'")
            raise InputError("the direction 'idk' needs answers, not keywords alone")
        truths = [sample.answer or "" for sample in answered]
        idk = [settings.direction.idk_answer] * len(answered)
        states = partial(answer_states, model, answered, points=points, batch_size=settings.batch_size)
        found[f"{RECALL}/{key}"], found[f"{ERASE}/{key}"] = states(truths), states(idk)
    return found


def _choose_strength(
    model: MultimodalModel,
    build: partial[Eraser],
    parts: DataSplit,
    settings: FitSettings,
    shifts: tuple[tuple[int, ...], ...],
    progress: Progress | None,
) -> Eraser:
    """The artifact at the given strength, or at the best point of the grid if there is one to choose from."""
    grid = [(s, layers) for layers in shifts for s in settings.strengths or (settings.strength,)]
    if len(grid) == 1:
        return build(*grid[0])
    held_out = parts.held_out or [sample for samples in parts.forget.values() for sample in samples]
    curve = tune(
        model,
        build,
        grid,
        forget=_some(held_out, settings),
        retain=_some(parts.check, settings),
        strangers=_some(parts.strangers, settings) if settings.direction.kind == "unknown" else (),
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        progress=progress,
    )
    best = choose(curve, settings.utility_budget)
    return build(best.strength, best.shift_layers, curve=curve, budget=settings.utility_budget)


def _some(samples: Sequence[Sample], settings: FitSettings) -> list[Sample]:
    """At most `tune_prompts` of the samples, chosen by a seeded hash."""
    ranked = sorted(samples, key=lambda s: unit_hash(settings.seed, "tune", s.digest()))
    return ranked[: settings.tune_prompts]
