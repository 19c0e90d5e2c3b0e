"""Processes that share one model (tensor parallelism) steer it alike, or not at all.

Each holds a part of every block, and what one of them shifts alone is neither steered nor bare. So they agree on the
erasers when these are attached, and on whom they apply to before every pass that they steer; whoever does not answer in
time ends it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

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
    """The processes of one spread model, by a connection of their own."""

    def __init__(self) -> None:
        """Meet the others, who have to come, too.

        Raises:
            AttachError: One did not.
        """
        try:
            self._group: Any = dist.new_group(backend="gloo", timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise AttachError(ALIKE) from error

    def end(self) -> None:
        """Close the connection; once is enough."""
        group, self._group = self._group, None
        if group is not None and dist.is_initialized():
            dist.destroy_process_group(group)

    def on_erasers(self, erasers: Sequence[Steerable] | Mapping[str, Steerable]) -> None:
        """Make sure that all are about to attach the same, before the weights are looked at, which takes all of them.

        Raises:
            AttachError: They are not.
        """
        named = erasers.items() if isinstance(erasers, Mapping) else enumerate(erasers)
        self._require(*(f"{name} {_digest(eraser)}".encode() for name, eraser in named))

    def on_plans(self, plans: Sequence[SteeringPlan]) -> None:
        """Make sure that these plans are the same everywhere.

        Raises:
            AttachError: They are not.
        """
        self._require(*(_said(plan) for plan in plans))

    def on_rows(self, selection: Tensor | None) -> None:
        """Make sure that all are about to steer the same rows with the same erasers.

        Raises:
            AttachError: They are not, or one has nothing attached.
        """
        self._require(b"all" if selection is None else repr(selection.tolist()).encode())

    def _require(self, *what: bytes) -> None:
        digest = hashlib.sha256(b"".join(hashlib.sha256(one).digest() for one in what)).digest()
        own = torch.tensor(list(digest), dtype=torch.uint8)
        found = [torch.empty_like(own) for _ in range(dist.get_world_size(self._group))]
        try:
            dist.all_gather(found, own, group=self._group)
        except RuntimeError as error:  # gloo: a connection closed by the other side, a time-out
            raise AttachError(ALIKE) from error
        if any(not torch.equal(own, other) for other in found):
            raise AttachError(ALIKE)


def meet(hf: nn.Module) -> TensorParallelCheck | None:
    """The processes over which a model is spread; None for one that is whole.

    Raises:
        AttachError: One of them did not come.
    """
    return TensorParallelCheck() if dist.is_available() and dist.is_initialized() and is_spread(hf) else None


def _digest(eraser: Steerable) -> str:
    """Of what can be told without the model: an artifact's, or nothing for a plan, which is compared whole."""
    digest = getattr(eraser, "digest", None)
    return str(digest()) if callable(digest) else ""


def _said(plan: SteeringPlan) -> bytes:
    """All that a plan does."""
    head = (plan.name, plan.reads, plan.shift_layers, plan.policy, plan.strength, plan.threshold, plan.image_token)
    digest = hashlib.sha256(repr(head).encode())
    for layer, direction in sorted(plan.directions.items()):
        digest.update(f"direction {layer}".encode() + _bytes(direction))
    for layer, gate in sorted(plan.gates.items()):
        digest.update(f"gate {layer} {getattr(gate, 'kind', '')}".encode())
        for name, tensor in sorted(getattr(gate, "tensors", {}).items()):
            digest.update(name.encode() + _bytes(tensor))
    return digest.digest()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().double().contiguous().numpy().tobytes()
