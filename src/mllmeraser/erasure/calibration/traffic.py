"""False alarms on a sample of real traffic: the promise of a fit holds for prompts like its retain set, no others."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.intervals import wilson
from mllmeraser.samples.names import holds_name
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.sample import Sample

ALARMS, LOW, HIGH, PROMPTS = "traffic_alarms", "traffic_alarms_low", "traffic_alarms_high", "traffic_prompts"
"""Keys of `EraserConfig.verification`: the share that fires, its 95 % Wilson interval, and the number of prompts."""


def with_traffic(
    model: MultimodalModel,
    eraser: Eraser,
    traffic: Sequence[Sample],
    names: Collection[str],
    progress: Progress | None = None,
) -> Eraser:
    """The eraser with its false alarms on `traffic`, prompts of a real log about other people and things.

    Raises:
        InputError: There are none, one holds a name of `names`, or the policy takes no decision.
    """
    if eraser.config.policy.phi != "threshold":
        raise InputError(f"the policy {eraser.config.policy.name} takes no decision, so it has no false alarms")
    if not traffic:
        raise InputError("the traffic holds no prompts")
    about = sum(any(holds_name(sample.prompt, name) for name in names) for sample in traffic)
    if about:
        raise InputError(f"{about} prompts of the traffic name somebody to forget: leave them out")
    scores = read_gate(model, eraser, traffic, progress=progress).pooled
    alarms = int((scores > (eraser.config.threshold or 0.0)).sum())
    interval = wilson(alarms, len(traffic))
    found = {ALARMS: alarms / len(traffic), LOW: interval[0], HIGH: interval[1], PROMPTS: float(len(traffic))}
    return eraser.replace_config(verification={**eraser.config.verification, **found})
