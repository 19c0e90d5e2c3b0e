"""fit(model, request) -> Eraser: split, capture, linear algebra, calibration. Read this file first.

It checks and splits the request, and hands over to the fit of its gate: `subject.py` (the default) or `linear.py`.
"""

from __future__ import annotations

import secrets

from mllmeraser.erasure.directions.contrast_states import ContrastSet
from mllmeraser.erasure.directions.kinds import check_direction
from mllmeraser.erasure.fit.discriminants import SharedBasis
from mllmeraser.erasure.fit.linear import fit_linear
from mllmeraser.erasure.fit.result import FitResult
from mllmeraser.erasure.fit.split import DataSplit, split
from mllmeraser.erasure.fit.subject import fit_subjects
from mllmeraser.erasure.gates import gate_class
from mllmeraser.erasure.gates.conformal import prompts_needed
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import IMPERSONAL

__all__ = ["FitResult", "check_request", "fit"]


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

    Every sample passes through the model once. The rest is linear algebra on states or on their sums.

    Args:
        request: What to forget, what to retain, and strangers. Its reply, if any, comes before that of the settings.
        settings: All else; None: the preset `default`.
        contrast: Restricted prompts, for the directions `refusal`, `text-only` and `clean-image`.
        cache: States that earlier fits captured on this model (gate `subject`).
        basis: Of this model, made before; None: made from the request's retain samples and strangers. Erasers with one
            basis can be consolidated (gate `subject`).
        checkpoint: Keeps captured batches, to resume after a kill. A given `cache` has its own.

    Raises:
        InputError: The request cannot be used with these settings: too few retain prompts for the false-alarm rate, no
            strangers, no contrast samples, no answers, a layer that does not exist.
        NumericalError: States are not finite, or a system cannot be solved.
    """
    chosen = settings or FitSettings.preset("default")
    if request.reply is not None:
        chosen = chosen.with_action(reply=request.reply)
    request.validate()
    chosen.layers(model.num_layers)
    salt = chosen.salt if chosen.salt is not None else secrets.token_hex(16)
    parts = split(request, chosen, salt)
    check_fit(request, parts, chosen, contrast)
    if gate_class(chosen.gate.kind).FITTED_ON == "prompts":
        return fit_subjects(
            model, request, parts, chosen, salt, progress, cache=cache, basis=basis, checkpoint=checkpoint
        )
    return fit_linear(model, request, parts, chosen, salt, progress, contrast=contrast, checkpoint=checkpoint)


def check_request(request: Request, settings: FitSettings, contrast: ContrastSet | None = None) -> None:
    """Check a request as `fit` does, before anything is captured for it. For errors see `fit`."""
    request.validate()
    check_fit(request, split(request, settings, salt=""), settings, contrast)


def check_fit(request: Request, parts: DataSplit, settings: FitSettings, contrast: ContrastSet | None) -> None:
    """Refuse before the model runs what could only fail after it."""
    on_prompts = gate_class(settings.gate.kind).FITTED_ON == "prompts"
    if on_prompts and not request.about_people:
        raise InputError("the gates of this preset are for people: take the preset 'knowledge' for other things")
    if settings.gate.kind == "discriminant" and settings.policy.shifts and contrast is None:
        raise InputError(
            "what is no person is answered with a sentence: leave the action out, or give contrast samples"
        )
    if not parts.retain:
        raise InputError("there are no retain prompts to fit on: give samples with answers that must not change")
    if not on_prompts and any(subject.attributes for subject in request.subjects):
        raise InputError("only the gate 'subject' can forget some attributes of a person and keep the rest")
    direction, strangers = settings.direction.kind, parts.strangers
    check_direction(direction, on_prompts=on_prompts, strangers=strangers, contrast=contrast, forget=parts.forget)
    if settings.policy.phi != "threshold":
        return
    needed = prompts_needed(settings.false_alarm_rate / (2 if on_prompts else 1))
    usable = [s for s in parts.calibration if not on_prompts or s.attribute not in IMPERSONAL]
    if len(usable) < needed:
        raise InputError(
            f"a false-alarm rate of {settings.false_alarm_rate:g} needs at least {needed} retain prompts for "
            f"calibration, and there are {len(usable)}: give about "
            f"{int(needed / settings.calibration_share * 1.1) + 1} in all, or allow a higher rate"
        )
