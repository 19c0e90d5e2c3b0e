"""Putting several erasers together into one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

import torch
from torch import Tensor

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.artifact.manifest import Calibration, DataDigests, EraserConfig
from mllmeraser.erasure.artifact.remove_subject import RATES
from mllmeraser.erasure.gates.base import SHARED
from mllmeraser.samples.errors import InputError

SAME = ("format_version", "fingerprint", "prompt_hash", "read_layers", "shift_layers", "policy", "gate", "direction",
        "strength", "threshold")  # fmt: skip
"""What erasers have to agree in to become one."""


def consolidate(erasers: Sequence[Eraser]) -> Eraser:
    """One eraser for the subjects of all: their gates side by side, their directions averaged by number of states.

    Every subject keeps its own gates and thresholds, to the bit, so what each recognises does not change, and
    `Eraser.without` takes it out again. Rivals of the face gate are the people whom all of the erasers retain.

    Raises:
        InputError: If there are none, they differ in model, policy, layers or settings, hold one subject twice, are
            not of the gate `subject`, or were not fitted with one basis (see `fit`).
    """
    if not erasers:
        raise InputError("there is nothing to put together: give at least one eraser")
    first, *others = (eraser.config for eraser in erasers)
    if first.gate.kind != "subject":
        raise InputError(f"erasers with {first.gate.kind} gates cannot be put together: attach them side by side")
    for config in others:
        for key in SAME:
            if getattr(config, key) != getattr(first, key):
                raise InputError(f"these erasers differ in {key.replace('_', ' ')}: attach them side by side")
    parts = [_shapes(eraser) for eraser in erasers]
    if RATES not in parts[0] or any(part != parts[0] for part in parts):
        raise InputError("these erasers do not hold the same tensors: fit those of an earlier version again")
    subjects = [subject for eraser in erasers for subject in eraser.config.subjects]
    if len(set(subjects)) < len(subjects):
        raise InputError("two of these erasers hold the same subject")
    tensors: dict[str, Tensor] = {}
    for name in erasers[0].tensors:
        if not name.startswith("direction."):
            tensors[name] = _together(name, [eraser.tensors[name] for eraser in erasers])
    for layer in first.shift_layers:
        tensors[f"direction.{layer}"] = _direction(erasers, layer, tensors[f"share.{layer}"])
    rate = min(1.0, float(tensors[RATES].sum()))
    return Eraser(_manifest([eraser.config for eraser in erasers], rate), tensors)


def _shapes(eraser: Eraser) -> dict[str, torch.Size]:
    """What is stored of each subject; of the people retained there may be more or fewer."""
    return {name: t.shape[t.ndim :] if name.endswith(".cohort") else t.shape[1:] for name, t in eraser.tensors.items()}


def _together(name: str, parts: Sequence[Tensor]) -> Tensor:
    shared, part = SHARED["subject"], name.rpartition(".")[2]
    if part == "cohort":
        common = set.intersection(*({_key(row) for row in rows} for rows in parts))
        return torch.stack([row for row in parts[0] if _key(row) in common]) if common else parts[0][:0]
    if part not in shared:
        return torch.cat(list(parts))
    if any(not torch.equal(parts[0], other) for other in parts[1:]):
        raise InputError("these erasers were fitted with different lenses: attach them side by side, or fit with one")
    return parts[0]


def _key(row: Tensor) -> bytes:
    return row.numpy().tobytes()


def _direction(erasers: Sequence[Eraser], layer: int, shares: Tensor) -> Tensor:
    """(d,) the common base less the mean of all shares, weighted by number of states."""
    bases = []
    for eraser in erasers:
        counts = torch.tensor(eraser.config.counts, dtype=torch.float64)
        mean = counts @ eraser.tensors[f"share.{layer}"].double() / counts.sum()
        bases.append(eraser.direction(layer).double() + mean)
    if any((base - bases[0]).norm() > 1e-4 * bases[0].norm() for base in bases[1:]):
        raise InputError("these erasers were fitted with different strangers: attach them side by side")
    counts = torch.tensor([n for eraser in erasers for n in eraser.config.counts], dtype=torch.float64)
    return (bases[0] - counts @ shares.double() / counts.sum()).float()


def _manifest(configs: Sequence[EraserConfig], rate: float) -> EraserConfig:
    first = configs[0]
    counts: dict[str, int] = {}
    for config in configs:
        for name, n in config.data.counts.items():
            own = name.startswith("forget")
            counts[name] = counts.get(name, 0) + n if own else max(counts.get(name, 0), n)
    changes = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "subjects": tuple(subject for config in configs for subject in config.subjects),
        "counts": tuple(n for config in configs for n in config.counts),
        "data": DataDigests(counts=counts),
        "calibration": Calibration(false_alarm_target=rate, n=min(config.calibration.n for config in configs)),
        "verification": {},
        "tensors_sha256": "",
        "derived_from": None,
    }
    return EraserConfig.model_validate({**dict(first), **changes})
