"""MMUnlearner: masked ascent, which forgets the picture and keeps the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mllmeraser.methods.data import Item, Step, TrainingData, answered, chunks, score
from mllmeraser.methods.loop import Objective
from mllmeraser.methods.losses import mean_nll
from mllmeraser.methods.method import MethodSettings
from mllmeraser.methods.settings import TrainSettings
from mllmeraser.methods.trained import Session, TrainedMethod
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError, NumericalError
from mllmeraser.samples.request import Request

Part = Literal["vision", "language"]
FLOOR = 1e-15


class MMUnlearnerSettings(TrainSettings):
    """Settings of MMUnlearner.

    Attributes:
        variant: The part of the model that is masked and trained: `vision` (tower and projector), `language`, or
            `both`. The other part stays frozen.
        beta: A weight is in the mask if its importance for the forget samples is at least `beta` times its importance
            for the preserved samples.
        strict_mask: Weights outside the mask do not move at all. False: as published, only the gradients of ascent
            steps are masked; momentum, weight decay and descent steps move the other weights.
        vision_names: Components of the names of the tower's and the projector's parameters.
    """

    variant: Literal["vision", "language", "both"] = "vision"
    beta: float = Field(default=1.0, gt=0)
    strict_mask: bool = True
    vision_names: tuple[str, ...] = Field(
        default=("vision_tower", "vision_model", "visual", "multi_modal_projector"), min_length=1
    )
    learning_rate: float = Field(default=1e-5, gt=0)


class MMUnlearner(TrainedMethod):
    """MMUnlearner (2502.11051): theta <- theta + eta m * grad L_f every floor(n_r / n_f) steps, descent on L_r.

    m = [(F(forget) + 1e-15) / (F(preserve) + 1e-15) >= beta], F the mean over batches of the squared gradient
    of the mean answer nll. The forget samples are those with a picture. The vision mask preserves retain samples with
    a picture. The language mask preserves all retain samples and the text-only forget samples. n_r and n_f count
    batches; steps as GradDiff `interleaved`. The masked gradient is clipped, then AdamW steps.

    Deviation: `strict_mask` (the default) masks the *update* of ascent and descent alike, so a weight outside the mask
    keeps its value bit for bit. The published code masks only the ascent's gradient.
    Only the masked parts are trained: under `vision`, a batch of text alone moves nothing.
    It is an error if no name matches a part, or if a mask covers none or all of a part. The product states the shares
    as `mask_share_vision` and `mask_share_language`.
    """

    name: ClassVar[str] = "mmunlearner"
    variants: ClassVar[tuple[str, ...]] = ("vision", "language", "both")
    settings: ClassVar[type[MethodSettings]] = MMUnlearnerSettings

    def data(self, model: MultimodalModel, request: Request, settings: MMUnlearnerSettings, seed: int) -> TrainingData:
        """Forget samples with a picture, all retain samples, and text-only forget samples as `preserved`."""
        pictured = [sample for sample in request.forget if sample.image is not None]
        about = [sample for sample in request.forget if sample.image is None]
        preserved = answered(about, "text-only forget", self.name) if about else ()
        retain = answered(request.retain, "retain", self.name)
        if settings.variant != "language" and all(item.sample.image is None for item in retain):
            raise InputError("mmunlearner: a vision mask needs retain samples with pictures, and the request has none")
        return TrainingData(answered(pictured, "pictured forget", self.name), retain, preserved)

    def prepare(self, model: MultimodalModel, data: TrainingData, settings: MMUnlearnerSettings) -> dict[str, Tensor]:
        """The masks, by parameter."""
        masks: dict[str, Tensor] = {}
        pictured = tuple(item for item in data.retain if item.sample.image is not None)
        preserve = {"vision": pictured, "language": (*data.preserved, *data.retain)}
        for part in parts_of(settings):
            chosen = part_parameters(model.hf, part, settings.vision_names)
            sides = [_importance(model, chosen, items, settings) for items in (data.forget, preserve[part])]
            mask = importance_masks(sides[0], sides[1], settings.beta)
            check_masks(mask, part)
            masks |= mask
        return masks

    def parameters(self, model: MultimodalModel, settings: MMUnlearnerSettings) -> list[str]:
        """Names of the trained parameters: those of the masked parts."""
        chosen = (part_parameters(model.hf, part, settings.vision_names) for part in parts_of(settings))
        return [name for parameters in chosen for name in parameters]

    def plan(self, session: Session) -> list[Step]:
        """An ascent step before every floor(n_r / n_f)-th descent step."""
        return session.plan("interleaved")

    def objective(self, session: Session, prepared: Mapping[str, Tensor]) -> Objective:
        """-L_f and L_r, with the masks."""
        settings, hf = session.settings, session.model.hf
        assert isinstance(settings, MMUnlearnerSettings)
        for part in parts_of(settings):
            mask = {name: prepared[name] for name in part_parameters(hf, part, settings.vision_names)}
            session.measures[f"mask_share_{part}"] = check_masks(mask, part)
        return Objective(
            session.ascent,
            session.descent,
            masks={name: mask.to(session.model.device) for name, mask in prepared.items()},
            strict=settings.strict_mask,
        )


def parts_of(settings: MMUnlearnerSettings) -> tuple[Part, ...]:
    """The masked parts of a variant."""
    return ("vision", "language") if settings.variant == "both" else (settings.variant,)


def part_parameters(hf: nn.Module, part: Part, vision_names: tuple[str, ...]) -> dict[str, nn.Parameter]:
    """Parameters of tower and projector, or all others; an InputError if there are none."""
    everything = dict(hf.named_parameters())
    seen = [name for name in everything if set(name.split(".")) & set(vision_names)]
    if not seen:
        raise InputError(f"no parameter of the model belongs to its vision part ({', '.join(vision_names)})")
    chosen = seen if part == "vision" else [name for name in everything if name not in set(seen)]
    if not chosen:
        raise InputError(f"no parameter of the model belongs to its {part} part: `vision_names` match all of them")
    return {name: everything[name] for name in chosen}


def _importance(
    model: MultimodalModel, parameters: dict[str, nn.Parameter], items: tuple[Item, ...], settings: MMUnlearnerSettings
) -> dict[str, Tensor]:
    for parameter in parameters.values():
        parameter.requires_grad_(True)  # `borrowed` in the caller undoes this

    def loss(rows: list[int]) -> Tensor:
        return mean_nll(*score(model, [items[row] for row in rows], settings.loss_on))

    return fisher_information(parameters, (partial(loss, rows) for rows in chunks(len(items), settings.batch_size)))


def fisher_information(
    parameters: Mapping[str, nn.Parameter], losses: Iterable[Callable[[], Tensor]]
) -> dict[str, Tensor]:
    """F(D): the mean over batches of the squared gradient of each batch's loss, float32, by parameter.

    Without a batch it raises an InputError, and a NumericalError if a gradient is not finite.
    """
    sums = {name: torch.zeros_like(one, dtype=torch.float32) for name, one in parameters.items()}
    count = 0
    for loss in losses:
        # A part that a batch does not use (the tower, in a text batch) has no gradient: zero.
        grads = torch.autograd.grad(loss(), list(parameters.values()), allow_unused=True)
        for name, grad in zip(parameters, grads, strict=True):
            if grad is not None:
                sums[name] += grad.float().square()
        count += 1
    if not count:
        raise InputError("the importance of weights needs samples, and there are none")
    bad = [name for name, total in sums.items() if not bool(torch.isfinite(total).all())]
    if bad:
        raise NumericalError(f"the gradient of {bad[0]} is not finite: load the model in a wider dtype")
    return {name: total / count for name, total in sums.items()}


def importance_masks(forget: Mapping[str, Tensor], preserve: Mapping[str, Tensor], beta: float) -> dict[str, Tensor]:
    """True where (F_forget + 1e-15) / (F_preserve + 1e-15) >= beta (2502.11051); unused weights have the ratio 1."""
    return {name: (forget[name] + FLOOR) / (preserve[name] + FLOOR) >= beta for name in forget}


def check_masks(chosen: Mapping[str, Tensor], part: str) -> float:
    """The share of the weights that the masks cover; 0 (no effect) and 1 (plain ascent) are an InputError."""
    total = sum(mask.numel() for mask in chosen.values())
    covered = sum(int(mask.sum()) for mask in chosen.values()) / total if total else 0.0
    if not 0.0 < covered < 1.0:
        raise InputError(
            f"the {part} mask covers {'all' if covered else 'none'} of its weights: "
            "choose another `beta`, or use more samples"
        )
    return covered
