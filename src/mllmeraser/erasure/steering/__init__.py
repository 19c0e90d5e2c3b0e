"""Attach erasers to a model, shift its states, detach. Read `attach.py` first."""

from __future__ import annotations

from typing import Any

from mllmeraser.erasure.steering.attach import Steerables, SteeringAttachment, attach_all
from mllmeraser.erasure.steering.plan import Steerable, SteeringPlan
from mllmeraser.erasure.steering.plan_group import Readings
from mllmeraser.models.intervention import Intervention

__all__ = ["ErasurePack", "Readings", "Steerable", "SteeringAttachment", "SteeringPlan", "attach", "attach_all"]


def attach(model: Any, eraser: Steerable) -> SteeringAttachment:
    """Attach one eraser; see `attach_all`."""
    return attach_all(model, [eraser])


class ErasurePack(Intervention):
    """Several erasers as one Intervention."""

    def __init__(self, erasers: Steerables) -> None:
        """Hold `erasers`, to be attached together (see `attach_all`)."""
        self.erasers = erasers

    def attach(self, model: Any) -> SteeringAttachment:
        """See `attach_all`."""
        return attach_all(model, self.erasers)
