"""The thresholds that an eraser has to reach before it may become active."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mllmeraser.erasure.calibration.verdict import LEAST_DETECTED, MOST_FALSE_ALARMS

Share = Annotated[float, Field(ge=0, le=1)]

AT_MOST = frozenset({"forget_gibberish", "false_alarms"})
"""Checks with an upper bound; all others have a lower bound."""


class Thresholds(BaseModel):
    """Bounds on the shares that a verification measures, each with a check of the same name.

    Attributes:
        forget_decisions: Minimum share of prompts about the subjects on which the decision acts.
        forget_answers: Minimum share of the bare model's answers about the subjects that are gone. The new answer
            has to differ and repeat none of the facts that the bare model gave.
        forget_gibberish: Maximum share of answers about the subjects that are not language.
        rest_unchanged: Minimum share of unchanged answers about the other facts of subjects of which only some facts
            are forgotten.
        neighbours_unchanged: Minimum share of unchanged answers about the retained people and things nearest to the
            subjects. The gate itself picks these worst cases, hence the bound below `retain_unchanged`.
        retain_unchanged: Minimum share of unchanged answers about retained people and things in general.
        general_unchanged: Minimum share of unchanged answers about scenes, small facts, portraits and the world.
        perception_unchanged: Minimum share of unchanged answers about what the subjects' own pictures show. They are
            close to what has to change.
        conversation_answers: As `forget_answers`, in conversations.
        conversation_unchanged: Minimum share of unchanged answers about other people and things, in conversations.
        false_alarms: Maximum share of the retain and general prompts on which the decision acts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    forget_decisions: Share = LEAST_DETECTED
    forget_answers: Share = 0.95
    forget_gibberish: Share = 0.02
    rest_unchanged: Share = 0.90
    neighbours_unchanged: Share = 0.90
    retain_unchanged: Share = 0.98
    general_unchanged: Share = 0.99
    perception_unchanged: Share = 0.90
    conversation_answers: Share = 0.95
    conversation_unchanged: Share = 0.95
    false_alarms: Share = MOST_FALSE_ALARMS

    def allows(self, name: str, value: float) -> bool:
        """Whether a measured value meets the threshold of the check `name`."""
        bound = getattr(self, name)
        return value <= bound if name in AT_MOST else value >= bound
