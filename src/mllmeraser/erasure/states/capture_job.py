"""Describe a capture: prompts that pass through the model batch by batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.sample import Sample
from mllmeraser.version import __version__

FORMAT = 1
"""Version of the tensors of a batch; raise it when their meaning changes."""


@dataclass(frozen=True)
class Job:
    """Prompts that pass through the model batch by batch.

    Attributes:
        what: States, layers and settings of the job: all that affects the tensors beside model and prompts.
        plan: Row numbers of each batch. The batch is part of the job: padding changes the last digits of states.
        read: Returns the tensors of one batch.
        key: Returns the part of a sample that affects its tensors.
    """

    model: MultimodalModel
    what: str
    samples: Sequence[Sample]
    plan: Sequence[Sequence[int]]
    read: Callable[[Sequence[Sample]], Mapping[str, Tensor]]
    stage: str = "capture states"
    key: Callable[[Sample], str] = field(default=Sample.digest)

    def run(self, number: int) -> Mapping[str, Tensor]:
        """Return the tensors of one batch."""
        return self.read([self.samples[row] for row in self.plan[number]])

    @cached_property
    def digests(self) -> list[str]:
        """For every batch a SHA-256 (hex) of all that its tensors depend on."""
        model = self.model
        head = json.dumps([FORMAT, __version__, self.what, model.fingerprint(), model.prompt_hash(), str(model.dtype)])
        return [
            hashlib.sha256("".join([head, *(self.key(self.samples[row]) for row in rows)]).encode()).hexdigest()
            for rows in self.plan
        ]
