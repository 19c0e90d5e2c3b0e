"""Turn adapters away from what the model must keep, by least squares.

An adapter adds B A x to what its layer says of an input x. Let C_t be the second moment of the inputs that lessons
bring, and C_r that of rehearsed text. Then A' = A C_t (C_t + w C_r)^-1 minimises, for every B,

    E_t |B (A' - A) x|^2 + w E_r |B A' x|^2 :

what was taught is said as before, and rehearsed text moves less. With w towards infinity it is the null space of
AlphaEdit (Fang et al. 2025, equation 6), here without a threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from mllmeraser.embedded.recipe.packing import Batch

LORA_A = ".lora_A.default.weight"
RIDGE = 1e-4
"""Share of the mean variance that is added to each direction: some occur in no input."""
Moments = dict[str, Tensor]
"""By module, (width, width): the mean of x x^T over the tokens that enter it."""
_SAME = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}
"""Modules that see what another one sees."""


@torch.no_grad()
def moments(model: nn.Module, run: Callable[[Batch], object], batches: Iterable[Batch], pad_id: int) -> Moments:
    """Second moments of what enters the adapted modules, while `run` passes batches through the model."""
    sums: Moments = {}
    places, counted = torch.empty(0), 0

    def add(name: str, _module: nn.Module, given: tuple[Tensor, ...]) -> None:
        x = given[0].flatten(0, -2)[places]
        sums[name] = sums.get(name, torch.zeros(())) + x.T @ x

    adapted = {name.removesuffix(LORA_A) for name, _ in model.named_parameters() if name.endswith(LORA_A)}
    seen = sorted({_seen_by(name) for name in adapted})
    hooks = [model.get_submodule(name).register_forward_pre_hook(partial(add, name)) for name in seen]
    try:
        for batch in batches:
            places = (batch.ids != pad_id).flatten()
            counted += int(places.sum())
            run(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total / counted for name, total in sums.items()}


@torch.no_grad()
def spare(parameters: Mapping[str, Tensor], taught: Moments, rehearsed: Moments, weight: float) -> None:
    """Replace each adapter's A by the A' of the module's docstring, in place."""
    for name, parameter in parameters.items():
        if name.endswith(LORA_A):
            seen = _seen_by(name.removesuffix(LORA_A))
            parameter.copy_(spared(parameter, taught[seen], rehearsed[seen], weight))


def spared(a: Tensor, taught: Tensor, rehearsed: Tensor, weight: float) -> Tensor:
    """A' of A (rank, width) and two moments (width, width), solved in double precision."""
    t, r = taught.double(), rehearsed.double()
    ridge = RIDGE * t.diagonal().mean() * torch.eye(len(t), dtype=torch.double)
    return torch.linalg.solve(t + weight * r + ridge, t @ a.double().T).T.to(a.dtype)


def _seen_by(module: str) -> str:
    *path, last = module.split(".")
    return ".".join([*path, _SAME.get(last, last)])
