"""Put several erasers together into one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

import torch
from torch import Tensor

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.artifact.manifest import TOKEN_KINDS, Calibration, DataDigests, EraserConfig
from mllmeraser.erasure.artifact.remove_subject import RATES
from mllmeraser.erasure.gates import SubjectGate
from mllmeraser.samples.errors import InputError

SAME = ("format_version", "fingerprint", "prompt_hash", "read_layers", "shift_layers", "policy", "gate", "direction",
        "strength", "threshold", "turns", "reply")  # fmt: skip
"""Fields in which erasers must agree to become one."""


def consolidate(erasers: Sequence[Eraser]) -> Eraser:
    """One eraser for the subjects of all: gates side by side, directions averaged by number of states.

    Every subject keeps its gates and thresholds to the bit, and `Eraser.without` takes it out again. The background
    cohort becomes the people that all erasers retain.

    Raises:
        InputError: There are none, or they differ in model, policy, layers, settings or basis (see `fit`). Or two hold
            one subject, or the gate is not `subject`.
    """
    if not erasers:
        raise InputError("there is nothing to put together: give at least one eraser")
    configs = [eraser.config for eraser in erasers]
    first = configs[0]
    if first.gate.kind != "subject":
        raise InputError(f"erasers with {first.gate.kind} gates cannot be put together: attach them side by side")
    for config in configs[1:]:
        for key in SAME:
            if getattr(config, key) != getattr(first, key):
                raise InputError(f"these erasers differ in {key.replace('_', ' ')}: attach them side by side")
    if any(RATES not in eraser.tensors for eraser in erasers):
        raise InputError("these erasers do not hold the same tensors: fit those of an earlier version again")
    subjects = [subject for config in configs for subject in config.subjects]
    if len(set(subjects)) < len(subjects):
        raise InputError("two of these erasers hold the same subject")
    tensors = {RATES: torch.cat([eraser.tensors[RATES] for eraser in erasers])}
    tensors |= {name: tensor for name, tensor in erasers[0].tensors.items() if name == TOKEN_KINDS}
    for layer in first.read_layers:
        parts = _gate(erasers, layer)
        tensors |= {f"gate.{layer}.{name}": tensor for name, tensor in parts.items()}
    for layer in first.shift_layers:
        shares = torch.cat([eraser.tensors[f"share.{layer}"] for eraser in erasers])
        tensors |= {f"share.{layer}": shares, f"direction.{layer}": _direction(erasers, layer, shares)}
    return Eraser(_manifest(configs, min(1.0, float(tensors[RATES].sum()))), tensors)


def _gate(erasers: Sequence[Eraser], layer: int) -> dict[str, Tensor]:
    """Stored tensors of the merged gate at a layer."""
    gates = [eraser.gate(layer) for eraser in erasers]
    kind = type(gates[0])
    if not all(gates[0].fits_with(gate) for gate in gates[1:]):
        raise InputError(
            "these erasers have different bases or tensors: fit them with one basis, or attach them side by side"
        )
    return (SubjectGate.consolidate(gates) if kind is SubjectGate else kind.merge(gates)).stored()


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
            counts[name] = counts.get(name, 0) + n if name.startswith("forget") else max(counts.get(name, 0), n)
    calibration = Calibration(
        false_alarm_rate_asked=first.calibration.false_alarm_rate_asked,
        false_alarm_rate_promised=rate,
        n=min(config.calibration.n for config in configs),
    )
    changes = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "subjects": tuple(subject for config in configs for subject in config.subjects),
        "counts": tuple(n for config in configs for n in config.counts),
        "data": DataDigests(counts=counts),
        "calibration": calibration,
        "verification": {},
        "tensors_sha256": "",
        "derived_from": None,
    }
    return EraserConfig.model_validate({**dict(first), **changes})
