"""The training loop of all methods, and its saved state: a method is a loss, a plan of steps, and perhaps a mask."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from mllmeraser.methods.data import Step
from mllmeraser.methods.losses import weighted_sum
from mllmeraser.methods.method import Run
from mllmeraser.methods.optimizer import Optimizer
from mllmeraser.methods.settings import TrainSettings
from mllmeraser.methods.trainable import Trainable, cuda_devices
from mllmeraser.samples.errors import ArtifactError, InputError, NumericalError
from mllmeraser.samples.files import write_whole
from mllmeraser.samples.hashing import hash64

STATE_FILE = "training_state.safetensors"
PREPARED_FILE = "prepared.safetensors"
PRODUCT = "product"

Term = Callable[[int], Tensor]
"""Loss of one batch, by its number in the stream."""


@dataclass(frozen=True)
class Objective:
    """gamma * forget + alpha * retain; a step without a batch of one side omits its term.

    Attributes:
        forget: Loss of forget batches (negative if a method ascends).
        masks: Parameter -> booleans of its shape: forget steps may move the True weights. Other parameters are free.
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


class WorkFolder:
    """The folder of one training; without a folder nothing is kept.

    Each file holds the digest of its run. The folder of another training is refused and never overwritten.
    """

    def __init__(self, folder: Path | None, digest: str) -> None:
        """Use `folder` for the run `digest`; create it if necessary (an InputError if that fails)."""
        self.folder = None if folder is None else Path(folder)
        self.digest = digest
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"{folder} cannot hold the training's state ({error.strerror})") from error

    @property
    def product(self) -> Path | None:
        """Path of the finished product."""
        return None if self.folder is None else self.folder / PRODUCT

    def save_state(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Replace the state by that after `step` steps."""
        self._write(STATE_FILE, tensors, step)

    def load_state(self) -> tuple[dict[str, Tensor], int] | None:
        """Tensors and number of steps of the last saved state, or None; an ArtifactError if it is not of this run."""
        return self._read(STATE_FILE)

    def prepared(self, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the result of `make`, computed once for each run and read from its file after a resume."""
        saved = self._read(PREPARED_FILE)
        if saved is not None:
            return saved[0]
        tensors = make()
        if tensors:
            self._write(PREPARED_FILE, tensors, 0)
        return tensors

    def clear(self) -> None:
        """Remove the state of a finished training; the product stays."""
        if self.folder is not None:
            for name in (STATE_FILE, PREPARED_FILE):
                (self.folder / name).unlink(missing_ok=True)

    def _write(self, name: str, tensors: Mapping[str, Tensor], step: int) -> None:
        if self.folder is not None:
            whole = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
            data = save_tensors(whole, {"run_digest": self.digest, "step": str(step)})
            write_whole(self.folder / name, data, force=True)

    def _read(self, name: str) -> tuple[dict[str, Tensor], int] | None:
        if self.folder is None or not (self.folder / name).is_file():
            return None
        file = self.folder / name
        try:
            with safe_open(file, framework="pt") as content:
                metadata = content.metadata() or {}
                tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
            step = int(metadata["step"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise ArtifactError(f"{file}: corrupt ({error}); remove it to start the training again") from error
        if metadata.get("run_digest") != self.digest:
            raise ArtifactError(
                f"{file} belongs to another training (settings, seed, model or data): choose another folder"
            )
        return tensors, step


def train(
    hf: nn.Module,
    trainable: Trainable,
    objective: Objective,
    steps: Sequence[Step],
    settings: TrainSettings,
    work: WorkFolder,
    run: Run,
) -> dict[str, float]:
    """Train, from the last state in `work` if there is one.

    Batches and dropout of a step depend on (seed, step) only. A resumed training therefore ends with the same weights
    as an uninterrupted one. Returns `steps`, and `last_loss` if this run made any step.

    Raises:
        NumericalError: A loss or gradient is not finite.
        ArtifactError: The saved state cannot be used.
    """
    optimizer = Optimizer(trainable.parameters, settings, len(steps))
    originals = {name: trainable.parameters[name].detach().clone() for name in objective.masks}
    saved, measures = work.load_state(), {"steps": float(len(steps))}
    if saved is not None:
        optimizer.load_state(saved[0])
    start = 0 if saved is None else saved[1]
    run.report("train", start, len(steps))
    for number, step in enumerate(steps[start:], start):
        with torch.random.fork_rng(devices=cuda_devices(hf)):
            torch.manual_seed(derived_seed(run.seed, "step", number))
            hf.train()
            loss = objective.loss(step)
            measures["last_loss"] = value = float(loss.detach())
            if not math.isfinite(value):
                advice = "lower the learning rate or train fewer steps"
                raise NumericalError(f"the loss of step {number + 1} is {value}: {advice}")
            optimizer.backward(loss)
        if step.forget is not None:
            optimizer.mask_gradient(objective.masks)
        optimizer.step(number)
        if objective.strict and objective.masks:
            optimizer.put_back(objective.masks, originals)
        if (number + 1) % settings.save_every == 0 or number + 1 == len(steps):
            work.save_state(optimizer.state(), number + 1)
        run.report("train", number + 1, len(steps))
    hf.eval()
    return measures


def derived_seed(seed: int, *parts: object) -> int:
    """A separate seed for each use, from the user's seed."""
    return hash64(seed, *parts) >> 1
