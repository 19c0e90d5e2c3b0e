"""One prompt's states where a decision looks, read batch by batch; nothing else of a pass is ever copied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from mllmeraser.erasure.states.image_spans import run_means
from mllmeraser.models.capture import hidden_of
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import NumericalError
from mllmeraser.samples.sample import Sample


@dataclass(frozen=True)
class PromptStates:
    """States of one prompt on the CPU, kept in the model's dtype and given out in float32.

    Attributes:
        kept: What the properties give out; see `read_batch`.
    """

    kept: Mapping[str, Tensor]

    @property
    def ids(self) -> tuple[int, ...]:
        """Token ids of its text, image placeholders left out."""
        return tuple(self.kept["ids"].tolist())

    @property
    def text(self) -> Tensor:
        """(tokens, d) at each of them, after the first read layer."""
        return self.kept["text"].float()

    @property
    def last(self) -> Tensor:
        """(d,) at the last prompt token, after the second read layer."""
        return self.kept["last"].float()

    @property
    def image(self) -> Tensor:
        """(pictures, d) mean over the tokens of each picture, after the third read layer."""
        return self.kept["image"]

    @property
    def shifts(self) -> Tensor:
        """(layers, d) at the last prompt token, after every shifted layer; (0, d) where they were not asked for."""
        return self.kept["shifts"].float()


@torch.no_grad()
def read_batch(
    model: MultimodalModel, samples: Sequence[Sample], reads: Sequence[int], shifts: Sequence[int]
) -> dict[str, Tensor]:
    """States of one batch, reduced on the model's device as the blocks pass, then brought to the CPU.

    Returns:
        For b prompts with t text tokens and p pictures in all: `ids` (t,) and `text` (t, d) prompt after prompt,
        `tokens` (b,) how many are whose; `last` (b, d); `image` (p, d) float32 and `pictures` (b,); `shifts`
        (b, layers, d). States are in the model's dtype, so that nothing is lost and nothing wasted.

    Raises:
        NumericalError: A state is NaN or infinite.
    """
    batch = model.encode(samples, padding_side="right")
    ids, mask = batch["input_ids"], batch["attention_mask"].bool()
    image = (ids == model.family.image_token_id(model.hf)) & mask
    text, rows = mask & ~image, torch.arange(len(samples), device=ids.device)
    ends = mask.sum(1) - 1
    most = int((image[:, :1].sum(1) + (image[:, 1:] & ~image[:, :-1]).sum(1)).max())
    there = torch.zeros(len(samples), 0, dtype=torch.bool)

    def pictures(states: Tensor) -> Tensor:
        nonlocal there
        if not most:
            return torch.empty(0, states.shape[-1])
        means, there = run_means(states, image.to(states.device), most)
        return means[there]

    def last(states: Tensor) -> Tensor:
        return states[rows.to(states.device), ends.to(states.device)]

    name, topic, face = reads
    wanted: list[tuple[str, int, Callable[[Tensor], Tensor]]] = [
        ("text", name, lambda states: states[text.to(states.device)]),
        ("last", topic, last),
        ("image", face, pictures),
        *((f"shift {layer}", layer, last) for layer in shifts),
    ]
    found = _forward(model, batch, wanted)
    at_shifts = [found.pop(f"shift {layer}")[:, None] for layer in shifts]
    return {
        **found,
        "ids": ids[text].int().cpu(),
        "tokens": text.sum(1).int().cpu(),
        "pictures": there.sum(1).int().cpu(),
        "shifts": torch.cat([found["last"][:, None][:, :0], *at_shifts], 1),
    }


def unpacked(tensors: Mapping[str, Tensor]) -> list[PromptStates]:
    """The cache of a batch, in its order: views of what `read_batch` gave, nothing is copied."""
    tokens, pictures = (tensors[name].tolist() for name in ("tokens", "pictures"))
    columns = {
        "ids": tensors["ids"].split(tokens),
        "text": tensors["text"].split(tokens),
        "last": tensors["last"].unbind(),
        "image": tensors["image"].split(pictures),
        "shifts": tensors["shifts"].unbind(),
    }
    return [PromptStates({name: parts[i] for name, parts in columns.items()}) for i in range(len(tokens))]


def _forward(
    model: MultimodalModel, batch: Mapping[str, Tensor], wanted: Sequence[tuple[str, int, Callable[[Tensor], Tensor]]]
) -> dict[str, Tensor]:
    """What is wanted of the states after each layer, on the CPU, from one forward pass; it ends at the last of them."""
    found: dict[str, Tensor] = {}
    last = max(layer for _, layer, _ in wanted)

    def keep(name: str, layer: int, reduce: Callable[[Tensor], Tensor]):  # type: ignore[no-untyped-def]
        def hook(_module: object, _args: object, output: object) -> None:
            states = reduce(hidden_of(output))
            if not bool(torch.isfinite(states).all()):
                raise NumericalError(
                    f"a state after layer {layer} is not finite; load the model in a wider dtype (float32 or bfloat16)"
                )
            found[name] = states.cpu()

        return hook

    handles = [model.layers[layer].register_forward_hook(keep(name, layer, reduce)) for name, layer, reduce in wanted]
    handles.append(model.layers[last].register_forward_hook(_enough))
    try:
        with suppress(_Enough):
            model.hf(**batch, use_cache=False, logits_to_keep=1)
    finally:
        for handle in handles:
            handle.remove()
    return found


class _Enough(Exception):  # noqa: N818
    """Nothing behind this block is wanted: of 32 blocks the gates of the default read the first 20."""


def _enough(_module: object, _args: object, _output: object) -> None:
    raise _Enough
