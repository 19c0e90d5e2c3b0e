"""GA, GradDiff and KL-min: gradient ascent on forget samples, alone or together with retain samples.

Written from the equations in `losses`. Every nll is the mean over the answer tokens of a batch (`loss_on:
sequence` counts the prompt's text too). The reference of KL-min is the original model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mllmeraser.methods.data import Step, TrainingData, answered
from mllmeraser.methods.loop import Objective
from mllmeraser.methods.losses import kl_divergence
from mllmeraser.methods.method import MethodSettings
from mllmeraser.methods.settings import TunedSettings
from mllmeraser.methods.trained import Session, TrainedMethod
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.request import Request


class GASettings(TunedSettings):
    """Settings of GA."""

    learning_rate: float = Field(default=2e-5, gt=0)


class GradDiffSettings(TunedSettings):
    """Settings of GradDiff.

    Attributes:
        variant: `joint`: every step on both; `interleaved`: an ascent step before every floor(n_r / n_f)-th
            descent step; `sequential`: in every epoch a full ascent pass, then a full descent pass.
        gamma: Weight of -L_f.
        alpha: Weight of L_r.
    """

    variant: Literal["joint", "interleaved", "sequential"] = "joint"
    gamma: float = Field(default=1.0, gt=0)
    alpha: float = Field(default=1.0, gt=0)
    learning_rate: float = Field(default=2e-5, gt=0)


class KLSettings(TunedSettings):
    """Settings of KL-min; `variant` is as in GradDiff, `alpha` the weight of the divergence."""

    variant: Literal["joint", "sequential"] = "joint"
    alpha: float = Field(default=1.0, gt=0)
    learning_rate: float = Field(default=2e-5, gt=0)


class GradientAscent(TrainedMethod):
    """GA: min -L_f (2210.01504). Uses no retain sample."""

    name: ClassVar[str] = "ga"
    settings: ClassVar[type[MethodSettings]] = GASettings

    def data(self, model: MultimodalModel, request: Request, settings: Any, seed: int) -> TrainingData:
        """The forget samples."""
        return TrainingData(answered(request.forget, "forget", self.name))

    def objective(self, session: Session, prepared: Mapping[str, Tensor]) -> Objective:
        """-L_f."""
        return Objective(session.ascent)


class GradDiff(TrainedMethod):
    """GradDiff: min -gamma L_f + alpha L_r (2203.12817; 2401.06121)."""

    name: ClassVar[str] = "grad-diff"
    variants: ClassVar[tuple[str, ...]] = ("joint", "interleaved", "sequential")
    settings: ClassVar[type[MethodSettings]] = GradDiffSettings

    def data(self, model: MultimodalModel, request: Request, settings: Any, seed: int) -> TrainingData:
        """Forget and retain samples."""
        forget = answered(request.forget, "forget", self.name)
        return TrainingData(forget, answered(request.retain, "retain", self.name))

    def plan(self, session: Session) -> list[Step]:
        """The steps of the variant."""
        assert isinstance(session.settings, GradDiffSettings | KLSettings)
        return session.plan(session.settings.variant)

    def objective(self, session: Session, prepared: Mapping[str, Tensor]) -> Objective:
        """-gamma L_f + alpha L_r."""
        assert isinstance(session.settings, GradDiffSettings)
        return Objective(session.ascent, session.descent, session.settings.gamma, session.settings.alpha)


class KLMin(GradDiff):
    """KL-min: min -L_f + alpha E_r KL(p_0 || p), per answer token (2401.06121)."""

    name: ClassVar[str] = "kl-min"
    variants: ClassVar[tuple[str, ...]] = ("joint", "sequential")
    settings: ClassVar[type[MethodSettings]] = KLSettings

    def objective(self, session: Session, prepared: Mapping[str, Tensor]) -> Objective:
        """-L_f + alpha KL."""
        assert isinstance(session.settings, KLSettings)

        def divergence(number: int) -> Tensor:
            items = session.items("retain", number)
            with torch.no_grad(), session.trainable.reference():
                before = session.score(items).logits
            return kl_divergence(before, *session.score(items))

        return Objective(session.ascent, divergence, alpha=session.settings.alpha)
