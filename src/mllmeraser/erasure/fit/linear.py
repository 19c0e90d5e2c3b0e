"""Fit of the gates that read one state per prompt: `hard`, `soft`, `quadratic`, `neural`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.calibration.linear import calibrate, calibrate_each
from mllmeraser.erasure.calibration.strength import choose, tune
from mllmeraser.erasure.directions.contrast_states import ContrastSet, contrast_states
from mllmeraser.erasure.directions.kinds import direction_kind
from mllmeraser.erasure.fit.build import build_eraser, describe
from mllmeraser.erasure.fit.closed_form import directions_from, gates_from, gates_from_states
from mllmeraser.erasure.fit.result import FitResult, timed
from mllmeraser.erasure.fit.split import DataSplit, unit_hash
from mllmeraser.erasure.gates import gate_class
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint
from mllmeraser.erasure.states.collect import States, answer_states, gather_sums, statistics_of
from mllmeraser.erasure.states.statistics import ERASE, FORGET, RECALL, RETAIN, STRANGERS, Statistics
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample

MEASURED = ("calibration", "check", "held_out")
"""Groups that set or check a threshold; no gate or direction is made of them."""


def fit_linear(
    model: MultimodalModel,
    request: Request,
    parts: DataSplit,
    settings: FitSettings,
    salt: str,
    progress: Progress | None = None,
    *,
    contrast: ContrastSet | None = None,
    checkpoint: CaptureCheckpoint | None = None,
) -> FitResult:
    """Capture, fit, calibrate and build; see `fit` for arguments and errors."""
    reads, shifts = settings.layers(model.num_layers)
    shifted = sorted({layer for shift in shifts for layer in shift})
    points = model.hookpoints({*reads, *shifted})
    clock: dict[str, float] = {}
    with timed(clock, "capture"):
        statistics, rows, flip_rate = _capture(model, parts, settings, contrast, points, reads, progress, checkpoint)
    with timed(clock, "linear_algebra"):
        directions = directions_from(statistics, settings.direction.kind, shifted)
        if gate_class(settings.gate.kind).FITTED_ON == "states":
            gates = gates_from_states(rows, statistics.subjects, settings.gate, reads, settings.seed)
        else:
            gates = gates_from(statistics, settings.gate, reads)
    with timed(clock, "calibration"):
        held_out, check, forget = ({layer: rows[name][HookPoint(layer)] for layer in reads} for name in MEASURED)
        if settings.margin:
            counts = [len(rows) for rows in parts.forget_held_out.values()]
            decision = calibrate_each(gates, settings, held_out=held_out, check=check, forget=forget, counts=counts)
        else:
            decision = calibrate(
                gates, settings.policy,
                held_out=held_out, check=check, forget=forget, false_alarm_rate=settings.false_alarm_rate,
            )  # fmt: skip
        manifest = describe(model, request, parts, settings, contrast, salt, decision, flip_rate, statistics)
        build = partial(build_eraser, manifest, decision, directions)
        eraser = _with_strength(model, build, parts, settings, shifts, progress)
    return FitResult(eraser, statistics, clock, parts.keys, salt, parts)


def samples_of(parts: DataSplit, settings: FitSettings) -> dict[str, Sequence[Sample]]:
    """Prompts of the fit by the names of `LayerStatistics` and `MEASURED`, in the order in which they are captured."""
    samples: dict[str, Sequence[Sample]] = {RETAIN: parts.retain}
    samples.update({f"{FORGET}/{key}": rows for key, rows in parts.forget.items()})
    if "strangers" in direction_kind(settings.direction.kind).needs:
        samples[STRANGERS] = parts.strangers
    samples.update(zip(MEASURED, (parts.calibration, parts.check, parts.held_out), strict=True))
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
    """Sums of every group, states of the groups that are measured or trained on, and the flip rate."""
    needs, samples = direction_kind(settings.direction.kind).needs, samples_of(parts, settings)
    trained = gate_class(settings.gate.kind).FITTED_ON == "states"
    statistics, rows = gather_sums(
        model, samples, points, reads,
        kept=[name for name in samples if name not in MEASURED] if trained else (), only_kept=MEASURED,
        batch_size=settings.batch_size, progress=progress, checkpoint=checkpoint,
    )  # fmt: skip
    sides: dict[str, States] = {}
    flip_rate = None
    if "contrast" in needs and contrast is not None:
        both = contrast_states(
            model, contrast, settings.direction, points,
            batch_size=settings.batch_size, progress=progress, checkpoint=checkpoint,
        )  # fmt: skip
        sides, flip_rate = {ERASE: both.erase, RECALL: both.recall}, both.flip_rate
    elif "answers" in needs:
        sides = _answer_states(model, parts, settings, points)
    return statistics.merge(statistics_of(sides, reads)), rows, flip_rate


def _answer_states(
    model: MultimodalModel, parts: DataSplit, settings: FitSettings, points: Sequence[HookPoint]
) -> dict[str, States]:
    """Forget questions followed by the true answer, and by the "I don't know" answer."""
    sides: dict[str, States] = {}
    for key, samples in parts.forget.items():
        answered = [sample for sample in samples if sample.answer]
        states = partial(answer_states, model, answered, points=points, batch_size=settings.batch_size)
        sides[f"{RECALL}/{key}"] = states([sample.answer or "" for sample in answered])
        sides[f"{ERASE}/{key}"] = states([settings.direction.idk_answer] * len(answered))
    return sides


def _with_strength(
    model: MultimodalModel,
    build: partial[Eraser],
    parts: DataSplit,
    settings: FitSettings,
    shifts: tuple[tuple[int, ...], ...],
    progress: Progress | None,
) -> Eraser:
    """The artifact at the strength of the settings, or at the best point of the grid if there is one."""
    grid = [(s, layers) for layers in shifts for s in settings.strengths or (settings.strength,)]
    if len(grid) == 1 or not settings.policy.shifts:  # without a shift all points are alike
        return build(*grid[0])
    held_out = parts.held_out or [sample for samples in parts.forget.values() for sample in samples]
    strangers = "strangers" in direction_kind(settings.direction.kind).needs
    forget, retain, others = (_some(s, settings) for s in (held_out, parts.check, parts.strangers if strangers else ()))
    curve = tune(
        model, lambda *point: build(*point).with_action("shift"), grid, forget=forget, retain=retain, strangers=others,
        max_new_tokens=settings.max_new_tokens, batch_size=settings.batch_size, progress=progress,
    )  # fmt: skip
    best = choose(curve, settings.utility_budget)
    return build(best.strength, best.shift_layers, curve=curve, budget=settings.utility_budget)


def _some(samples: Sequence[Sample], settings: FitSettings) -> list[Sample]:
    """At most `tune_prompts` of the samples, chosen by a seeded hash."""
    ranked = sorted(samples, key=lambda s: unit_hash(settings.seed, "tune", s.digest()))
    return ranked[: settings.tune_prompts]
