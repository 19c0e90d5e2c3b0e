"""NPO: negative preference optimization."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from mllmeraser.methods.data import TrainingData, answer_nll, answered
from mllmeraser.methods.loop import Objective
from mllmeraser.methods.losses import npo, sequence_nll, token_counts
from mllmeraser.methods.method import MethodSettings
from mllmeraser.methods.product import CONFIG_FILE
from mllmeraser.methods.product_kinds import load_product
from mllmeraser.methods.settings import TunedSettings
from mllmeraser.methods.trained import Session, TrainedMethod
from mllmeraser.models.intervention import Intervention
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.request import Request

REFERENCE = "reference_nll"


class NPOSettings(TunedSettings):
    """Settings of NPO.

    Attributes:
        variant: The reference: `vanilla` is the original model, `retain-only` a model that never learnt the forget
            samples.
        reference: For `retain-only`: the folder of a checkpoint, or of a product to attach to the model.
        beta: Inverse temperature; as it tends to 0, NPO tends to GA.
        length_averaged: Average each log-probability over the answer's tokens; the paper sums.
        alpha: Weight of L_r; 0 leaves the retain samples out.
    """

    variant: Literal["vanilla", "retain-only"] = "vanilla"
    reference: Path | None = None
    beta: float = Field(default=0.1, gt=0)
    length_averaged: bool = False
    alpha: float = Field(default=1.0, ge=0)
    learning_rate: float = Field(default=1e-5, gt=0)
    epochs: int = Field(default=2, ge=1)


class NPO(TrainedMethod):
    """NPO: min -(2/beta) E log sigmoid(-beta (log p - log p_ref)) + alpha L_r (2404.05868).

    Each log-probability is the sum over an answer's tokens, with the end-of-turn token. An epoch is a pass over the
    forget samples. Reference values are computed once, before the first step.
    """

    name: ClassVar[str] = "npo"
    variants: ClassVar[tuple[str, ...]] = ("vanilla", "retain-only")
    settings: ClassVar[type[MethodSettings]] = NPOSettings

    def __init__(self, reference: Intervention | MultimodalModel | None = None) -> None:
        """Use `reference` for `retain-only`: another model, or what turns this one into a retain-only model."""
        self.reference = reference

    def data(self, model: MultimodalModel, request: Request, settings: NPOSettings, seed: int) -> TrainingData:
        """Forget samples, and retain samples unless their weight is 0."""
        references = (self.reference is not None) + (settings.reference is not None)
        if references != (settings.variant == "retain-only"):
            raise InputError("npo: the variant 'retain-only' needs one reference (a path or object), 'vanilla' none")
        retain = answered(request.retain, "retain", self.name) if settings.alpha else ()
        return TrainingData(answered(request.forget, "forget", self.name), retain)

    def prepare(self, model: MultimodalModel, data: TrainingData, settings: NPOSettings) -> dict[str, Tensor]:
        """-log p_ref of every forget answer (n,)."""
        reference = self.reference if settings.reference is None else _load_reference(settings.reference, model)
        size, loss_on = settings.batch_size, settings.loss_on
        if isinstance(reference, MultimodalModel):
            return {REFERENCE: answer_nll(reference, data.forget, size, loss_on)}
        with nullcontext() if reference is None else reference.attached(model):
            return {REFERENCE: answer_nll(model, data.forget, size, loss_on)}

    def objective(self, session: Session, prepared: Mapping[str, Tensor]) -> Objective:
        """The loss of the class."""
        settings, reference = session.settings, prepared[REFERENCE]
        assert isinstance(settings, NPOSettings)

        def forget(number: int) -> Tensor:
            scored = session.score(session.items("forget", number))
            nll = sequence_nll(*scored)
            counts = token_counts(scored.targets) if settings.length_averaged else None
            return npo(nll, reference[session.rows("forget", number)].to(nll), settings.beta, counts)

        return Objective(forget, session.descent, alpha=settings.alpha)


def _load_reference(path: Path, model: MultimodalModel) -> Intervention | MultimodalModel:
    if (path / CONFIG_FILE).is_file():
        return load_product(path)
    return load_model(str(path), device=model.device, dtype=model.dtype)
