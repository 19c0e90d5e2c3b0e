"""Run a batch of prompts and keep the states that are wanted; describe a capture of many batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor

from mllmeraser.erasure.states.moments import require_finite
from mllmeraser.models.capture import hidden_of, last_real_index
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.sample import Sample
from mllmeraser.version import __version__

FORMAT = 1
"""Version of the tensors of a batch; raise it when their meaning changes."""

Reducer = Callable[[Tensor], Tensor]
"""Takes the states (batch, length, d) after one layer and returns the part that is kept."""


@torch.no_grad()
def run_batch(
    model: MultimodalModel, batch: Mapping[str, Tensor], reducers: Sequence[tuple[int, Reducer]]
) -> list[Tensor]:
    """Run one encoded batch and return the result of each (layer, reducer), on the CPU.

    The pass ends after the last of these layers: later blocks do not run.

    Raises:
        NumericalError: A result is NaN or infinite.
    """
    kept: dict[int, Tensor] = {}
    end = max(layer for layer, _ in reducers)
    handles = [
        model.layers[layer].register_forward_hook(partial(_keep, kept, number, reduce))
        for number, (layer, reduce) in enumerate(reducers)
    ]
    handles.append(model.layers[end].register_forward_hook(_stop))
    try:
        with suppress(_EndOfPass):
            model.hf(**batch, use_cache=False, logits_to_keep=1)
    finally:
        for handle in handles:
            handle.remove()
    return [require_finite(kept[n], f"states after layer {layer}").cpu() for n, (layer, _) in enumerate(reducers)]


def _keep(kept: dict[int, Tensor], number: int, reduce: Reducer, _block: object, _args: object, output: object) -> None:
    kept[number] = reduce(hidden_of(output))


class _EndOfPass(Exception):  # noqa: N818
    """Raised after the last layer that is read; `run_batch` catches it."""


def _stop(_block: object, _args: object, _output: object) -> None:
    raise _EndOfPass


def at_last_token(batch: Mapping[str, Tensor]) -> Reducer:
    """Return a reducer that keeps the states (b, d) at the last real token of each row."""
    ids = batch["input_ids"]
    last = last_real_index(batch["attention_mask"], ids.shape[0], ids.shape[1], ids.device)
    rows = torch.arange(len(ids), device=ids.device)
    return lambda states: states[rows.to(states.device), last.to(states.device)]


def last_states(model: MultimodalModel, batch: Mapping[str, Tensor], points: Sequence[HookPoint]) -> Tensor:
    """Return the states (b, points, d) at the last real token of each row, in the model's dtype, on the CPU."""
    reduce = at_last_token(batch)
    return torch.stack(run_batch(model, batch, [(p.check(model.num_layers).layer, reduce) for p in points]), 1)


@dataclass(frozen=True)
class Job:
    """Prompts that pass through the model batch by batch.

    Attributes:
        model: The frozen model.
        what: States, layers and settings of the job: all that affects the tensors beside model and prompts.
        samples: The prompts.
        plan: Row numbers of each batch. The batch is part of the job: padding changes the last digits of states.
        read: Returns the tensors of one batch.
        stage: Name of the stage in progress reports.
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
