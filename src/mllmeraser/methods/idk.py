"""IDK fine-tuning: answer questions about forgotten people like questions about unknown people."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from mllmeraser.methods.data import Item, TrainingData, answered
from mllmeraser.methods.loop import Objective
from mllmeraser.methods.method import MethodSettings
from mllmeraser.methods.settings import TunedSettings
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
        answers: Sentences; the seed draws one for each forget sample.
        answers_from: `set`: use `answers`. `strangers`: use the sentence that the model itself says most often about
            the request's strangers, so that forgotten people look like people it has never seen.
        alpha: Weight of L_r; 0 leaves the retain samples out.
    """

    answers: tuple[str, ...] = Field(default=ANSWERS, min_length=1)
    answers_from: Literal["set", "strangers"] = "set"
    alpha: float = Field(default=1.0, ge=0)
    learning_rate: float = Field(default=1e-4, gt=0)
    epochs: int = Field(default=3, ge=1)


class IDK(TrainedMethod):
    """IDK: min L(x_f, y_idk) + alpha L_r (2401.06121). Needs no true answer about the forgotten people.

    Each nll is the mean over the answer tokens of a batch. A forget sample keeps its sentence over all epochs.
    """

    name: ClassVar[str] = "idk"
    settings: ClassVar[type[MethodSettings]] = IDKSettings

    def data(self, model: MultimodalModel, request: Request, settings: IDKSettings, seed: int) -> TrainingData:
        """Forget samples with drawn sentences; retain samples with their answers."""
        answers = settings.answers if settings.answers_from == "set" else (own_sentence(model, request),)
        rng = random.Random(f"{seed}/idk")
        forget = tuple(Item(sample, rng.choice(answers)) for sample in request.forget)
        retain = answered(request.retain, "retain", self.name) if settings.alpha else ()
        return TrainingData(forget, retain)

    def objective(self, session: Session, prepared: Mapping[str, Tensor]) -> Objective:
        """L(x_f, y_idk) + alpha L_r."""
        assert isinstance(session.settings, IDKSettings)
        return Objective(partial(session.loss, "forget"), session.descent, alpha=session.settings.alpha)


def own_sentence(model: MultimodalModel, request: Request) -> str:
    """The sentence that the model says most often about strangers; an InputError if there are none, or no answers."""
    asked = [one for one in request.strangers if one.task != "classification" and one.attribute not in IMPERSONAL]
    if not asked:
        raise InputError("idk: the model's own sentence comes from questions about strangers; the request has none")
    said = Counter(answer for answer in model.generate(asked) if answer)
    if not said:
        raise InputError("idk: the model says nothing about the strangers: set the sentences with `answers`")
    return said.most_common(1)[0][0]
