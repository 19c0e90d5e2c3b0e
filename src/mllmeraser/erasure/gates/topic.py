"""The topic gate: is a fact about a person wanted, or is this a bare request for what was said before?"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mllmeraser.erasure.gates.base import TensorSpec
from mllmeraser.erasure.gates.linear import SoftGate


class TopicGate(SoftGate):
    """A `SoftGate` for the topic. It may also know bare requests ("go on")."""

    TENSORS: ClassVar[tuple[TensorSpec, ...]] = (
        *SoftGate.TENSORS,
        TensorSpec("request", ("width",), optional=True),
        TensorSpec("request_bound", ("one",), optional=True),
    )

    def requests(self, states: Tensor) -> Tensor:
        """(n,) scores of states (n, d), above 0 for a bare request; infinite if this gate cannot tell."""
        if "request" not in self.tensors:
            return states.new_full((states.shape[0],), torch.inf)
        weight = self.tensors["request"]
        return states.to(weight) @ weight - self.tensors["request_bound"]
