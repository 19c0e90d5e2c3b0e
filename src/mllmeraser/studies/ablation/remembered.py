"""A model that reads no prompt twice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel, Progress
from mllmeraser.samples.sample import Sample


class RememberingModel(MultimodalModel):
    """The same model, keeping the last-token states of every prompt at every layer.

    The fits of an ablation read the same prompts again and again, and reading is nearly all that a fit costs. A state
    depends, in its last bits, on the prompts that share its batch; what is kept is that of the first time.
    """

    def __init__(self, model: MultimodalModel) -> None:
        """Share everything with ``model``, its processed pictures included."""
        super().__init__(model.name, model.hf, model.processor, model.family, model.revision)
        self.prompts = model.prompts
        self._known: dict[str, Tensor] = {}

    @property
    def steered(self) -> bool:
        """Whether anything hangs on a block that transformers did not hang there itself.

        Once asked for all hidden states, its models keep the hooks that record them.
        """
        hooks = (hook for block in self.layers for hook in block._forward_hooks.values())
        return any(not str(getattr(hook, "__module__", "")).startswith("transformers.") for hook in hooks)

    def states(
        self,
        samples: Sequence[Sample],
        hookpoints: Sequence[HookPoint],
        *,
        batch_size: int = 32,
        progress: Progress | None = None,
    ) -> dict[HookPoint, Tensor]:
        """As `MultimodalModel.states`; those of a steered model are neither kept nor taken from what is kept."""
        if self.steered:
            return super().states(samples, hookpoints, batch_size=batch_size, progress=progress)
        points = [point.check(self.num_layers) for point in dict.fromkeys(hookpoints)]
        keys = [sample.digest() for sample in samples]
        new = {key: sample for key, sample in zip(keys, samples, strict=True) if key not in self._known}
        if new:
            found = super().states(list(new.values()), self.hookpoints(), batch_size=batch_size)
            table = torch.stack([found[point] for point in self.hookpoints()], dim=1)
            self._known.update(zip(new, table, strict=True))
        if progress is not None:
            progress(len(samples))
        if not keys:
            return {point: torch.zeros(0, self.hidden_size) for point in points}
        rows = torch.stack([self._known[key] for key in keys])
        return {point: rows[:, point.layer] for point in points}
