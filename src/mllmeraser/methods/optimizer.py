"""AdamW over float32 copies, through accelerate, with a state that fits into safetensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mllmeraser.methods.settings import TrainSettings
from mllmeraser.methods.trainable import training_package
from mllmeraser.samples.errors import ArtifactError, InputError, NumericalError

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def learning_rate(settings: TrainSettings, step: int, total: int) -> float:
    """Rate of step `step` (0-based) of `total`: a linear rise, then constant, or a fall to 0 after the last step."""
    rise = math.ceil(settings.warmup * total)
    if step < rise:
        return settings.learning_rate * (step + 1) / rise
    if settings.schedule == "constant":
        return settings.learning_rate
    done = (step - rise) / max(total - rise, 1)
    left = 1.0 - done if settings.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return settings.learning_rate * left


class Optimizer:
    """Updates parameters of any floating-point type.

    Parameters in 16 bits get a float32 copy for the updates, because a step of 1e-5 vanishes in a bfloat16 weight.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], settings: TrainSettings, total: int) -> None:
        """Prepare for `total` steps; an InputError if accelerate is missing, or runs several processes."""
        self.settings, self.total = settings, total
        self.parameters = dict(parameters)
        self.masters = {name: _master(one) for name, one in self.parameters.items()}
        # accelerate must not move the model and its inputs.
        self.accelerator = training_package("accelerate").Accelerator(device_placement=False)
        if self.accelerator.num_processes > 1:
            raise InputError("training runs in one process: start it without several processes of accelerate")
        inner = torch.optim.AdamW(
            list(self.masters.values()), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.optimizer = self.accelerator.prepare_optimizer(inner, device_placement=False)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss; none if the loss uses no trained parameter (a tower in a text batch)."""
        if loss.requires_grad:
            self.accelerator.backward(loss)

    def mask_gradient(self, masks: Mapping[str, Tensor]) -> None:
        """Zero the gradient where a mask is False."""
        for name, mask in masks.items():
            grad = self.parameters[name].grad
            if grad is not None:
                grad.mul_(mask)

    def step(self, number: int) -> None:
        """Clip and apply the gradient, then drop it; one that is not finite is a NumericalError and changes nothing."""
        for name, parameter in self.parameters.items():
            master = self.masters[name]
            if master is not parameter:
                master.grad = None if parameter.grad is None else parameter.grad.float()
                parameter.grad = None
        norm = float(self.accelerator.clip_grad_norm_(list(self.masters.values()), self.settings.max_grad_norm))
        if not math.isfinite(norm):
            raise NumericalError(f"the gradient of step {number + 1} is not finite: lower the learning rate")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, number, self.total)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._publish()

    @torch.no_grad()
    def put_back(self, masks: Mapping[str, Tensor], originals: Mapping[str, Tensor]) -> None:
        """Undo every update outside the masks."""
        for name, mask in masks.items():
            self.masters[name].copy_(torch.where(mask, self.masters[name], originals[name].to(self.masters[name])))
        self._publish()

    def state(self) -> dict[str, Tensor]:
        """Parameters in full precision and the moments of AdamW, by name."""
        tensors = {f"parameter/{name}": master.detach() for name, master in self.masters.items()}
        for name, master in self.masters.items():
            moments: dict[str, Any] = self.optimizer.state.get(master, {})
            tensors |= {f"{key}/{name}": torch.as_tensor(moments[key]) for key in MOMENTS if key in moments}
        return tensors

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a result of `state`; an ArtifactError if it belongs to other parameters."""
        shapes = {f"parameter/{name}": master.shape for name, master in self.masters.items()}
        stored = {key: tensor.shape for key, tensor in tensors.items() if key.startswith("parameter/")}
        if stored != shapes:
            raise ArtifactError("the saved state has other parameters: remove it to start the training again")
        for name, master in self.masters.items():
            master.copy_(tensors[f"parameter/{name}"])
            if f"exp_avg/{name}" in tensors:
                moments = {key: tensors[f"{key}/{name}"].clone() for key in MOMENTS}
                # torch keeps the step count on the CPU by default.
                self.optimizer.state[master] = {
                    key: value if key == "step" else value.to(master) for key, value in moments.items()
                }
        self._publish()

    @torch.no_grad()
    def _publish(self) -> None:
        for name, parameter in self.parameters.items():
            if self.masters[name] is not parameter:
                parameter.copy_(self.masters[name])


def _master(parameter: nn.Parameter) -> nn.Parameter:
    return parameter if parameter.dtype in (torch.float32, torch.float64) else nn.Parameter(parameter.detach().float())
