"""Processes that share one model (tensor parallelism) must steer it alike, or give no answer.

Each process holds a part of every block, so a shift in one process alone leaves a state that is neither steered nor
bare. The processes compare the erasers when these are attached, and the selected rows before every steered pass. If
one does not answer in time, the pass fails. Every method raises an `AttachError` where processes differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn

from mllmeraser.erasure.states.processes import all_equal
from mllmeraser.erasure.steering.plan import Steerable, SteeringPlan
from mllmeraser.models.fingerprint import is_spread
from mllmeraser.samples.errors import AttachError

PATIENCE = timedelta(minutes=2)
"""How long one process waits for the others."""
ALIKE = (
    "this model is spread over processes, and they do not steer it alike: attach the same erasers in every process, in "
    "the same order, and select the same rows; after a process was missing, start all of them again"
)


class TensorParallelCheck:
    """Comparisons among the processes of one spread model, over a connection of their own."""

    def __init__(self) -> None:
        """Connect to the other processes."""
        try:
            self._group: Any = dist.new_group(backend="gloo", timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise AttachError(ALIKE) from error

    def end(self) -> None:
        """Close the connection; further calls do nothing."""
        group, self._group = self._group, None
        if group is not None and dist.is_initialized():
            dist.destroy_process_group(group)

    def on_erasers(self, erasers: Sequence[Steerable] | Mapping[str, Steerable]) -> None:
        """Require the same erasers in all processes. It comes before weights are read, which takes all processes."""
        named = erasers.items() if isinstance(erasers, Mapping) else enumerate(erasers)
        self._require(*(f"{name} {_digest(eraser)}".encode() for name, eraser in named))

    def on_plans(self, plans: Sequence[SteeringPlan]) -> None:
        """Require that these plans are the same in all processes."""
        self._require(*(_plan_digest(plan) for plan in plans))

    def on_rows(self, selection: Tensor | None) -> None:
        """Require that all processes are about to steer the same rows with the same erasers."""
        self._require(b"all" if selection is None else repr(selection.tolist()).encode())

    def _require(self, *items: bytes) -> None:
        try:
            same = all_equal([hashlib.sha256(item).digest() for item in items], self._group)
        except RuntimeError as error:  # gloo: a connection closed by the other side, a time-out
            raise AttachError(ALIKE) from error
        if not same:
            raise AttachError(ALIKE)


def tensor_parallel_check(hf: nn.Module) -> TensorParallelCheck | None:
    """The check for a model that is spread over processes; None for a model in one process."""
    spread = dist.is_available() and dist.is_initialized() and is_spread(hf)
    return TensorParallelCheck() if spread else None


def _digest(eraser: Steerable) -> str:
    """Digest of an artifact, which needs no model; empty for a plan, which is compared whole."""
    digest = getattr(eraser, "digest", None)
    return str(digest()) if callable(digest) else ""


def _plan_digest(plan: SteeringPlan) -> bytes:
    """Digest of all that a plan does."""
    head = (plan.name, plan.reads, plan.shift_layers, plan.policy, plan.strength, plan.threshold, plan.image_token,
            plan.reply)  # fmt: skip
    digest = hashlib.sha256(repr(head).encode())
    for layer, direction in sorted(plan.directions.items()):
        digest.update(f"direction {layer}".encode() + _bytes(direction))
    for layer, gate in sorted(plan.gates.items()):
        digest.update(f"gate {layer} {type(gate).__name__} {getattr(gate, 'settings', '')!r}".encode())
        for name, tensor in sorted(getattr(gate, "tensors", {}).items()):
            digest.update(name.encode() + _bytes(tensor))
    return digest.digest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().double().contiguous().numpy().tobytes()
