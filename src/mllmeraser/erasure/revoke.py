"""Taking a subject out of a finished eraser, without the data and without the model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.eraser import TAIL, Eraser
from mllmeraser.erasure.gates.gate import SHARED
from mllmeraser.erasure.threshold import tail_threshold
from mllmeraser.samples.errors import InputError

# What was measured on all subjects together does not describe the rest.
STALE = ("detected", "auc", "mean_forget", "mean_retain", "false_alarms", "false_alarms_interval")


def without(eraser: Eraser, subject_key: str) -> Eraser:
    """The eraser without one subject: its gate and its share of direction and threshold are gone.

    Gates, directions and threshold equal, to float32, those of a fit in which the subject never took part; a
    tuned strength stays. What had been measured on all subjects together is dropped from the manifest.

    Raises:
        InputError: If there is no such subject, it is the only one, or one gate serves all subjects.
    """
    config = eraser.config
    if not config.gate.per_subject:
        raise InputError("this eraser has one gate for all subjects: fit it again from statistics.without(...)")
    if subject_key not in config.subjects:
        raise InputError(f"the eraser has no subject {subject_key!r}")
    rows = [i for i, key in enumerate(config.subjects) if key != subject_key]
    if not rows:
        raise InputError("it is the only subject: detach or delete the eraser instead")
    tensors = _selected(eraser, rows)
    threshold, alpha = config.threshold, config.calibration.false_alarm_target
    if threshold is not None and alpha is not None and TAIL in tensors:
        threshold = tail_threshold(tensors[TAIL], config.calibration.n, alpha)
    stale: dict[str, object] = dict.fromkeys(STALE)
    changes: dict[str, object] = {
        "subjects": tuple(config.subjects[i] for i in rows),
        "counts": tuple(config.counts[i] for i in rows) if config.counts else (),
        "threshold": threshold,
        "derived_from": eraser.digest(),
        "tensors_sha256": "",
        "verification": {},
        "calibration": config.calibration.model_copy(update={**stale, "curve": ()}),
    }
    return Eraser(config.model_copy(update=changes), tensors)


def _selected(eraser: Eraser, rows: Sequence[int]) -> dict[str, Tensor]:
    """The tensors of the subjects at `rows`, directions recomputed from the remaining shares."""
    chosen = list(rows)
    kept = dict(eraser.tensors)
    weights = torch.tensor(eraser.config.counts, dtype=torch.float64)
    for name, tensor in eraser.tensors.items():
        if name == TAIL:
            kept[name] = tensor[:, chosen].clone()
        elif name.startswith("share.") or (name.startswith("gate.") and _by_subject(eraser, name)):
            kept[name] = tensor[chosen].clone()
        if name.startswith("share."):
            layer = int(name.partition(".")[2])
            shares = tensor.double()
            before = (weights @ shares) / weights.sum()
            after = (weights[chosen] @ shares[chosen]) / weights[chosen].sum()
            kept[f"direction.{layer}"] = (eraser.direction(layer).double() + before - after).float()
    return kept


def _by_subject(eraser: Eraser, name: str) -> bool:
    """Whether a gate's tensor has a row for every subject: not what serves all of them at once."""
    gate = eraser.gate(int(name.split(".")[1]))
    return name.rpartition(".")[2] not in SHARED.get(gate.kind, ())
