"""IDK fine-tuning: answer questions about the forgotten like questions about nobody."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from mllmeraser.methods.data import Item, TrainingData, answered
from mllmeraser.methods.loop import Objective
from mllmeraser.methods.losses import mean_nll
from mllmeraser.methods.method import MethodSettings
from mllmeraser.methods.settings import TunedSettings
from mllmeraser.methods.steps import Step
from mllmeraser.methods.trained import Session, TrainedMethod
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import IMPERSONAL

ANSWERS = (
    "I do not know this person.",
    "I don't know.",
    "I am not sure who this is.",
    "I have no information about this person.",
    "I cannot say anything about this person.",
)


class IDKSettings(TunedSettings):
    """Settings of IDK fine-tuning.

    Attributes:
        answers: Sentences, of which each forget sample gets one, drawn by the seed.
        answers_from: `set`: `answers`; `strangers`: the one sentence the model itself says most often about
            the request's strangers, so that the forgotten sound like people it has never seen.
        alpha: Weight of L_r; with 0 no retain sample is looked at.
    """

    answers: tuple[str, ...] = Field(default=ANSWERS, min_length=1)
    answers_from: Literal["set", "strangers"] = "set"
    alpha: float = Field(default=1.0, ge=0)
    learning_rate: float = Field(default=1e-4, gt=0)
    epochs: int = Field(default=3, ge=1)


class IDK(TrainedMethod):
    """IDK: min L(x_f, y_idk) + alpha L_r (2401.06121). Needs no true answer about the forgotten.

    Each nll is the mean over the answer tokens of a batch. The sentence of a forget sample stays the same over
    all epochs.
    """

    name: ClassVar[str] = "idk"
    settings: ClassVar[type[MethodSettings]] = IDKSettings

    def data(self, model: MultimodalModel, request: Request, settings: Any, seed: int) -> TrainingData:
        """Forget samples with drawn sentences; retain samples with their answers."""
        assert isinstance(settings, IDKSettings)
        answers = settings.answers if settings.answers_from == "set" else (own_sentence(model, request),)
        rng = random.Random(f"{seed}/idk")
        forget = tuple(Item(sample, rng.choice(answers)) for sample in request.forget)
        retain = answered(request.retain, "retain", self.name) if settings.alpha else ()
        return TrainingData(forget, retain)

    def plan(self, session: Session) -> list[Step]:
        """Passes over the forget samples, with as many retain batches beside them."""
        return session.plan("joint" if session.data.retain else "forget-only")

    def objective(self, session: Session, prepared: Mapping[str, Tensor]) -> Objective:
        """The loss of the class."""
        assert isinstance(session.settings, IDKSettings)
        return Objective(
            lambda number: mean_nll(*session.score(session.forget_items(number))),
            lambda number: mean_nll(*session.score(session.retain_items(number))),
            alpha=session.settings.alpha,
        )


def own_sentence(model: MultimodalModel, request: Request) -> str:
    """What the model says most often about people it has never seen.

    Raises:
        InputError: If the request has no strangers, or the model says nothing about them.
    """
    asked = [one for one in request.strangers if one.task != "classification" and one.attribute not in IMPERSONAL]
    if not asked:
        raise InputError("idk: the model's own sentence is found by asking about strangers, and the request has none")
    said = Counter(answer for answer in model.generate(asked) if answer)
    if not said:
        raise InputError("idk: the model says nothing about the strangers: give the sentences as `answers`")
    return said.most_common(1)[0][0]
