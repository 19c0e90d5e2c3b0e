"""Taking a subject out of a finished eraser, without the data and without the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.artifact.manifest import EraserConfig
from mllmeraser.erasure.gates.base import SHARED
from mllmeraser.erasure.gates.conformal import tail_threshold
from mllmeraser.samples.errors import InputError

TAIL = "calibration.tail"
"""Name of the highest scores of held-out retain prompts, from which the threshold of the rest follows."""
RATES = "calibration.rates"
"""Name of the false alarms that each subject's own thresholds keep to, (subjects,)."""
# What was measured on all subjects together does not describe the rest.
STALE = ("detected", "auc", "mean_forget", "mean_retain", "false_alarms", "false_alarms_interval")


def without(
    config: EraserConfig, tensors: Mapping[str, Tensor], digest: str, subject_key: str
) -> tuple[EraserConfig, dict[str, Tensor]]:
    """Manifest and tensors without one subject: its gate and its share of direction and threshold are gone.

    Gates, directions and threshold equal, to float32, those of a fit in which the subject never took part; a
    tuned strength stays. What had been measured on all subjects together is dropped from the manifest. ``digest`` is
    that of the eraser they come from.

    Raises:
        InputError: If there is no such subject, it is the only one, or one gate serves all subjects.
    """
    if not config.gate.per_subject:
        raise InputError("this eraser has one gate for all subjects: fit it again from statistics.without(...)")
    if subject_key not in config.subjects:
        raise InputError(f"the eraser has no subject {subject_key!r}")
    rows = [i for i, key in enumerate(config.subjects) if key != subject_key]
    if not rows:
        raise InputError("it is the only subject: detach or delete the eraser instead")
    kept = _selected(tensors, config.counts, rows)
    threshold, alpha = config.threshold, config.calibration.false_alarm_target
    if threshold is not None and alpha is not None and TAIL in kept:
        threshold = tail_threshold(kept[TAIL], config.calibration.n, alpha)
    if RATES in kept:
        alpha = min(1.0, float(kept[RATES].sum()))
    stale: dict[str, object] = dict.fromkeys(STALE)
    changes: dict[str, object] = {
        "subjects": tuple(config.subjects[i] for i in rows),
        "counts": tuple(config.counts[i] for i in rows) if config.counts else (),
        "threshold": threshold,
        "derived_from": digest,
        "tensors_sha256": "",
        "verification": {},
        "calibration": config.calibration.model_copy(update={**stale, "false_alarm_target": alpha, "curve": ()}),
    }
    return config.model_copy(update=changes), kept


def _selected(tensors: Mapping[str, Tensor], counts: Sequence[int], rows: Sequence[int]) -> dict[str, Tensor]:
    """The tensors of the subjects at `rows`, directions recomputed from the remaining shares."""
    chosen, kept = list(rows), dict(tensors)
    weights = torch.tensor(counts, dtype=torch.float64)
    for name, tensor in tensors.items():
        if name == TAIL:
            kept[name] = tensor[:, chosen].clone()
        elif name == RATES or name.startswith("share.") or (name.startswith("gate.") and _by_subject(tensors, name)):
            kept[name] = tensor[chosen].clone()
        if name.startswith("share."):
            direction = name.replace("share", "direction")
            shares = tensor.double()
            before = (weights @ shares) / weights.sum()
            after = (weights[chosen] @ shares[chosen]) / weights[chosen].sum()
            kept[direction] = (tensors[direction].double() + before - after).float()
    return kept


def _by_subject(tensors: Mapping[str, Tensor], name: str) -> bool:
    """Whether a gate's tensor has a row for every subject: not what serves all of them at once."""
    gate, _, part = name.rpartition(".")
    shared = SHARED["subject"] if f"{gate}.projection" in tensors else ()
    return part not in shared
