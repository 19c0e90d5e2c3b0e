"""What a candidate has to reach before it may act."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mllmeraser.samples.errors import InputError

Share = Annotated[float, Field(ge=0, le=1)]

AT_MOST = frozenset({"forget_gibberish", "false_alarms"})
"""Checks whose value must not be above its threshold; all others must not be below."""


class Thresholds(BaseModel):
    """Bounds on the shares that a verification measures; a check of the same name for each.

    Attributes:
        forget_decisions: Least share of the prompts about the subjects on which the decision has to act.
        forget_answers: Least share of what the bare model tells about the subjects that has to be gone: another answer,
            and none of the facts that the bare model gave.
        forget_gibberish: Largest share of the answers about the subjects that may be no language.
        rest_unchanged: Least share of the same answers about whatever else there is to a subject of whom only some
            attributes are to be forgotten.
        neighbours_unchanged: Least share of the same answers about the retained people nearest to the subjects. They
            are the worst cases, picked by the gate itself; hence below `retain_unchanged`.
        retain_unchanged: Least share of the same answers about retained people at large.
        general_unchanged: Least share of the same answers about scenes, small facts and what portraits show.
        perception_unchanged: Least share of the same answers about what the subjects' own pictures show. These lie
            next to what has to change.
        false_alarms: Largest share of the retain and general prompts on which the decision may act.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    forget_decisions: Share = 0.95
    forget_answers: Share = 0.95
    forget_gibberish: Share = 0.02
    rest_unchanged: Share = 0.90
    neighbours_unchanged: Share = 0.90
    retain_unchanged: Share = 0.98
    general_unchanged: Share = 0.99
    perception_unchanged: Share = 0.90
    false_alarms: Share = 0.02

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Thresholds:
        """Thresholds from plain data, such as a file of settings; what is not named keeps its default.

        Raises:
            InputError: A name is unknown, or a value is no share between 0 and 1.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise InputError(f"threshold {place}: {first['msg']}; known are {', '.join(cls.model_fields)}") from None

    def allows(self, name: str, value: float) -> bool:
        """Whether a measured value is good enough for the check of this name."""
        bound = getattr(self, name)
        return value <= bound if name in AT_MOST else value >= bound
