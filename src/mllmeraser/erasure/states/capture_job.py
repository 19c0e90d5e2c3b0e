"""Batches of prompts on their way through the model: read now, or found among the checkpoint of an earlier run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.sample import Sample
from mllmeraser.version import __version__

if TYPE_CHECKING:
    from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint

FORMAT = 1
"""Of what a batch gives; to be raised when its tensors change their meaning."""
STAGE = "capture states"


@dataclass(frozen=True)
class Job:
    """Prompts to read states of, or to do something else with that takes long.

    Attributes:
        model: The frozen model.
        what: Which states, layers and settings among it: what beside model and prompts decides about the result.
        samples: The prompts.
        plan: Row numbers of each batch. The batch is part of what is read: padding shows in the last digits.
        read: The tensors of one batch.
        stage: What progress is told that this is.
        key: What of a sample decides about its tensors.
    """

    model: MultimodalModel
    what: str
    samples: Sequence[Sample]
    plan: Sequence[Sequence[int]]
    read: Callable[[Sequence[Sample]], Mapping[str, Tensor]]
    stage: str = STAGE
    key: Callable[[Sample], str] = field(default=Sample.digest)

    def batch(self, number: int) -> list[Sample]:
        """The prompts of one batch."""
        return [self.samples[row] for row in self.plan[number]]

    @cached_property
    def digests(self) -> list[str]:
        """For every batch a SHA-256 (hex) over all that its tensors depend on."""
        model = self.model
        head = json.dumps([FORMAT, __version__, self.what, model.fingerprint(), model.prompt_hash(), str(model.dtype)])
        found = []
        for number in range(len(self.plan)):
            digest = hashlib.sha256(head.encode())
            for sample in self.batch(number):
                digest.update(self.key(sample).encode())
            found.append(digest.hexdigest())
        return found


def captured(
    job: Job, checkpoint: CaptureCheckpoint | None, progress: Progress | None = None
) -> Iterator[tuple[Sequence[int], Mapping[str, Tensor]]]:
    """Row numbers and tensors of every batch, in order; with `checkpoint` kept there, and taken from there.

    Raises:
        NumericalError: A state is NaN or infinite.
    """
    done = 0
    for number, rows in enumerate(job.plan):
        yield rows, job.read(job.batch(number)) if checkpoint is None else checkpoint.of(job, number)
        done += len(rows)
        if progress is not None:
            progress(job.stage, done, len(job.samples))
