"""Take a subject out of a finished eraser, without the data and without the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.artifact.manifest import EraserConfig
from mllmeraser.erasure.gates.conformal import tail_threshold
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.subject import KIND_COUNT

HIGHEST = "calibration.tail"
"""Tensor of the highest scores of held-out retain prompts. The threshold of any subset of subjects follows from it."""
RATES = "calibration.rates"
"""Tensor (subjects,) of the false-alarm rates that each subject's own thresholds keep to."""
# These were measured on all subjects together and do not describe the rest.
STALE: dict[str, object] = {
    **dict.fromkeys(("detected", "auc", "mean_forget", "mean_retain", "false_alarms", "false_alarms_interval")),
    "curve": (),
    "contexts": {},
}


def without(
    config: EraserConfig, tensors: Mapping[str, Tensor], digest: str, subject_key: str
) -> tuple[EraserConfig, dict[str, Tensor]]:
    """Manifest and tensors without one subject; `digest` is that of the eraser they come from.

    Gates, directions and threshold equal, to float32, those of a fit without the subject. A tuned strength stays. For
    errors see `Eraser.without`.
    """
    if not config.gate.per_subject:
        raise InputError("this eraser has one gate for all subjects: fit it again from statistics.without(...)")
    if subject_key not in config.subjects:
        raise InputError(f"the eraser has no subject {subject_key!r}")
    rows = [i for i, key in enumerate(config.subjects) if key != subject_key]
    if not rows:
        raise InputError("it is the only subject: detach or delete the eraser instead")
    kept = _selected(config, tensors, rows)
    threshold, rate = config.threshold, config.calibration.false_alarm_rate_promised
    if threshold is not None and rate is not None and HIGHEST in kept:
        threshold = tail_threshold(kept[HIGHEST], config.calibration.n, rate)
    if RATES in kept:
        rate = min(1.0, float(kept[RATES].sum()))
    calibration = {**STALE, "false_alarm_rate_promised": rate}
    changes: dict[str, object] = {
        "subjects": tuple(config.subjects[i] for i in rows),
        "counts": tuple(config.counts[i] for i in rows) if config.counts else (),
        "threshold": threshold,
        "data": config.data.model_copy(update={"counts": _sizes(config.data.counts)}),
        "derived_from": digest,
        "tensors_sha256": "",
        "verification": {},
        "calibration": config.calibration.model_copy(update=calibration),
    }
    return config.model_copy(update=changes), kept


def _sizes(sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes of the data without a subject. Of several kinds it is not known which one lost it: none is stated."""
    kinds = [name for name in sizes if name.startswith(KIND_COUNT)]
    rest = {name: size for name, size in sizes.items() if name not in kinds}
    return rest if len(kinds) != 1 else {**rest, kinds[0]: sizes[kinds[0]] - 1}


def _selected(config: EraserConfig, tensors: Mapping[str, Tensor], rows: Sequence[int]) -> dict[str, Tensor]:
    """The tensors of the subjects at `rows`, directions recomputed from the remaining shares."""
    chosen, kept = list(rows), dict(tensors)
    weights = torch.tensor(config.counts, dtype=torch.float64)
    for name, tensor in tensors.items():
        if name == HIGHEST:
            kept[name] = tensor[:, chosen].clone()
        elif name == RATES or name.startswith("share.") or _per_subject(config, name):
            kept[name] = tensor[chosen].clone()
        if name.startswith("share."):
            direction = name.replace("share", "direction")
            shares = tensor.double()
            before = (weights @ shares) / weights.sum()
            after = (weights[chosen] @ shares[chosen]) / weights[chosen].sum()
            kept[direction] = (tensors[direction].double() + before - after).float()
    return kept


def _per_subject(config: EraserConfig, name: str) -> bool:
    """Whether a tensor of the artifact is part of a gate and has one row per subject."""
    what, *rest = name.split(".", 2)
    return what == "gate" and config.gate_class(int(rest[0])).spec(rest[1]).per_subject
