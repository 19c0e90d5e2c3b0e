"""The one training loop: every method is a loss, a plan of steps, and perhaps a mask."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mllmeraser.methods.losses import weighted_sum
from mllmeraser.methods.optimiser import Optimiser
from mllmeraser.methods.settings import TrainSettings
from mllmeraser.methods.state import WorkFolder
from mllmeraser.methods.steps import Step
from mllmeraser.methods.trainable import Trainable, cuda_devices
from mllmeraser.samples.errors import NumericalError
from mllmeraser.samples.progress import Progress

Term = Callable[[int], Tensor]
"""Loss of one batch, by its number in the stream."""


@dataclass(frozen=True)
class Objective:
    """gamma * forget + alpha * retain; a step without a batch of one side leaves its term out.

    Attributes:
        forget: Term that is minimised on forget batches (already negative where a method ascends).
        retain: Term on retain batches, if any.
        gamma: Weight of the forget term.
        alpha: Weight of the retain term.
        masks: Parameter -> booleans of its shape: where forget steps may move it. Other parameters are free.
        strict: Weights outside the masks do not move at all, neither by momentum nor by retain steps.
    """

    forget: Term
    retain: Term | None = None
    gamma: float = 1.0
    alpha: float = 1.0
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    strict: bool = True

    def loss(self, step: Step) -> Tensor:
        """Scalar loss of a step."""
        forget = None if step.forget is None else self.forget(step.forget)
        retain = None if step.retain is None or self.retain is None else self.retain(step.retain)
        return weighted_sum(forget, retain, self.gamma, self.alpha)


def train(
    hf: nn.Module,
    trainable: Trainable,
    objective: Objective,
    steps: Sequence[Step],
    settings: TrainSettings,
    *,
    work: WorkFolder,
    seed: int,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train, going on from the last state in `work` if there is one.

    Batches and dropout of a step depend on (seed, step) only, so a training that was stopped and resumed ends
    where an uninterrupted one does.

    Returns:
        `steps`, and the loss of the last step, `last_loss`, if there was one in this run.

    Raises:
        NumericalError: If a loss or gradient is not finite.
        ArtifactError: If the saved state cannot be used.
    """
    optimiser = Optimiser(trainable.parameters, settings, len(steps))
    originals = {name: trainable.parameters[name].detach().clone() for name in objective.masks}
    start, measures = _resume(optimiser, work), {"steps": float(len(steps))}
    _tell(progress, start, len(steps))
    for number in range(start, len(steps)):
        step = steps[number]
        with torch.random.fork_rng(devices=cuda_devices(hf)):
            torch.manual_seed(derived_seed(seed, "step", number))
            hf.train()
            loss = objective.loss(step)
            measures["last_loss"] = _finite(loss, number)
            optimiser.backward(loss)
        if step.forget is not None:
            optimiser.mask_gradient(objective.masks)
        optimiser.step(number)
        if objective.strict and objective.masks:
            optimiser.put_back(objective.masks, originals)
        if (number + 1) % settings.save_every == 0 or number + 1 == len(steps):
            work.save_state(optimiser.state(), number + 1)
        _tell(progress, number + 1, len(steps))
    hf.eval()
    return measures


def derived_seed(seed: int, *parts: object) -> int:
    """A seed of its own for each use, from the user's seed."""
    text = "/".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _resume(optimiser: Optimiser, work: WorkFolder) -> int:
    saved = work.load_state()
    if saved is None:
        return 0
    optimiser.load_state(saved[0])
    return saved[1]


def _finite(loss: Tensor, number: int) -> float:
    value = float(loss.detach())
    if not torch.isfinite(loss.detach()):
        raise NumericalError(
            f"the loss of step {number + 1} is {value}: lower the learning rate or train for less long"
        )
    return value


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress("train", done, total)
