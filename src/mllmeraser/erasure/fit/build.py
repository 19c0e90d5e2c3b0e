"""Build the artifact from the results of a fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone

import torch
from torch import Tensor

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.artifact.manifest import TOKEN_KINDS, DataDigests, EraserConfig, GridPoint
from mllmeraser.erasure.artifact.remove_subject import HIGHEST, RATES
from mllmeraser.erasure.calibration.decision import Decision
from mllmeraser.erasure.calibration.reply import reply_of
from mllmeraser.erasure.directions.contrast_states import ContrastSet
from mllmeraser.erasure.directions.kinds import Direction
from mllmeraser.erasure.fit.closed_form import ALL_SUBJECTS
from mllmeraser.erasure.fit.split import DataSplit, salted_digest
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.states.statistics import Statistics
from mllmeraser.models.fingerprint import precision_of
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.turns import TurnFormat, turn_format
from mllmeraser.models.wording import BACKWARD, PRONOUNS, word_marks
from mllmeraser.samples.request import Request
from mllmeraser.samples.subject import kind_counts
from mllmeraser.version import __version__


def describe(
    model: MultimodalModel,
    request: Request,
    parts: DataSplit,
    settings: FitSettings,
    contrast: ContrastSet | None,
    salt: str,
    decision: Decision,
    flip_rate: float | None,
    statistics: Statistics,
) -> EraserConfig:
    """The manifest, with all candidate layers and the default strength."""
    reads, shifts = settings.layers(model.num_layers)
    counts = [len(rows) for rows in parts.forget.values()]
    one = not settings.gate.per_subject
    sides = contrast.recall if contrast is not None else ()
    data = {"forget": request.forget, "retain": request.retain, "strangers": request.strangers, "contrast": sides}
    digests = {name: salted_digest(samples, salt) for name, samples in data.items()}
    sizes = {
        "forget": sum(counts), "forget_held_out": len(parts.held_out), "retain": len(parts.retain),
        "calibration": len(parts.calibration), "check": len(parts.check), "strangers": len(parts.strangers),
        "contrast": len(sides), **kind_counts(request.subjects),
    }  # fmt: skip
    return EraserConfig(
        package_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        base_model=model.name,
        revision=model.revision,
        fingerprint=model.fingerprint(),
        dtype=precision_of(model.hf),
        prompt_hash=model.prompt_hash(),
        hidden_size=model.hidden_size,
        num_layers=model.num_layers,
        read_layers=reads,
        shift_layers=tuple(sorted({layer for shift in shifts for layer in shift})),
        policy=settings.policy,
        gate=settings.gate,
        direction=settings.direction,
        views=settings.views,
        strength=settings.strength,
        threshold=decision.threshold,
        reply=reply_of(model, settings, parts.strangers, request.names_of_people) if settings.policy.replies else None,
        turns=_turns(model) if settings.policy.pooling == "subject" else None,
        subjects=(ALL_SUBJECTS,) if one else statistics.subjects,
        counts=(sum(counts),) if one else tuple(counts),
        data=DataDigests(**digests, counts=sizes),
        calibration=decision.calibration.model_copy(update={"flip_rate": flip_rate}),
    )


def _turns(model: MultimodalModel) -> TurnFormat | None:
    """The marks of turns in the model's chat format, and its words that point back."""
    form, tokenizer = turn_format(model.processor), model.processor.tokenizer
    if form is None:
        return None
    return replace(form, pronouns=word_marks(tokenizer, PRONOUNS), backward=word_marks(tokenizer, BACKWARD))


def build_eraser(
    manifest: EraserConfig,
    decision: Decision,
    directions: Mapping[int, Direction],
    strength: float,
    layers: tuple[int, ...],
    curve: tuple[GridPoint, ...] = (),
    budget: float | None = None,
    kinds: Tensor | None = None,
) -> Eraser:
    """The artifact at one strength and one set of shift layers; `kinds` are the `token_kinds` of its tokenizer."""
    reads = layers if manifest.policy.read == "per-layer" else manifest.read_layers
    counts = manifest.counts
    tensors: dict[str, Tensor] = {}
    for layer in reads:
        tensors |= {f"gate.{layer}.{name}": tensor for name, tensor in decision.gates[layer].stored().items()}
    for layer in layers:
        tensors[f"direction.{layer}"] = directions[layer].vector
        if manifest.gate.per_subject and directions[layer].shares:
            shares = directions[layer].shares.values()
            tensors[f"share.{layer}"] = torch.stack([share for _, share in shares])
            counts = tuple(n for n, _ in shares)
    tensors |= {name: t for name, t in ((HIGHEST, decision.tail), (RATES, decision.rates)) if t is not None}
    if manifest.turns is not None and kinds is not None:
        tensors[TOKEN_KINDS] = kinds
    changes = {
        "read_layers": reads, "shift_layers": layers, "strength": strength, "counts": counts,
        "calibration": manifest.calibration.model_copy(update={"curve": curve, "utility_budget": budget}),
    }  # fmt: skip
    stored = {name: t.float() if t.dtype == torch.float64 else t for name, t in tensors.items()}
    return Eraser(
        manifest.model_copy(update=changes), {name: t.detach().cpu().contiguous() for name, t in stored.items()}
    )
