"""States where a prompt says who it is about: the last token of a name or of the prompt, the mean of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.image_runs import run_ends, run_means
from mllmeraser.erasure.plan import Site
from mllmeraser.models.capture import hidden_of
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import NumericalError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.sample import Sample

Found = dict[str, list[Tensor]]
"""Site -> for every sample its states (positions, d), float32 on the CPU; no positions where it has no such site."""


@torch.no_grad()
def anchor_states(
    model: MultimodalModel,
    samples: Sequence[Sample],
    sites: Mapping[Site, HookPoint],
    names: Mapping[str, Sequence[str]],
    points: Sequence[HookPoint] = (),
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> tuple[Found, dict[HookPoint, Tensor]]:
    """States of samples at their sites, and at the last prompt token of ``points``, in one pass.

    The site ``text`` of a subject whose name is known is the last token of the name; of anybody else every text token.

    Args:
        model: The frozen model.
        samples: Prompts.
        sites: Where to look, and after which block.
        names: Names by ``Sample.subject``.
        points: Further HookPoints, read at the last prompt token.
        batch_size: Prompts in a batch.
        progress: Told how far the work is.

    Raises:
        NumericalError: A state is NaN or infinite.
    """
    width, image_id = model.hidden_size, model.family.image_token_id(model.hf)
    found: Found = {site: [torch.empty(0, width)] * len(samples) for site in sites}
    last = {point: torch.zeros(len(samples), width) for point in points}
    wanted = sorted({*sites.values(), *points})
    done = 0
    for rows in model.prompts.plan(samples, batch_size):
        batch = model.encode([samples[r] for r in rows], padding_side="right")
        states = _forward(model, batch, wanted)
        mask = batch["attention_mask"].bool()
        for i, row in enumerate(rows):
            ids, length = batch["input_ids"][i], int(mask[i].sum())
            image = (ids == image_id) & mask[i]
            for site, point in sites.items():
                where = _where(model, site, samples[row], ids, image, mask[i], length, names)
                seen = (
                    run_means(states[point][i : i + 1], image.cpu()[None])[0] if site == "image" else states[point][i]
                )
                found[site][row] = _finite(seen[where], point, row)
            for point in points:
                last[point][row] = _finite(states[point][i, length - 1], point, row)
        done += len(rows)
        if progress is not None:
            progress("capture states", done, len(samples))
    return found, last


def _forward(
    model: MultimodalModel, batch: Mapping[str, Tensor], points: Sequence[HookPoint]
) -> dict[HookPoint, Tensor]:
    kept: dict[HookPoint, Tensor] = {}

    def keep(point: HookPoint):  # type: ignore[no-untyped-def]
        def hook(_module: object, _args: object, output: object) -> None:
            kept[point] = hidden_of(output).float().cpu()

        return hook

    handles = [model.layers[point.layer].register_forward_hook(keep(point)) for point in points]
    try:
        model.hf(**batch, use_cache=False, logits_to_keep=1)
    finally:
        for handle in handles:
            handle.remove()
    return kept


def _where(
    model: MultimodalModel,
    site: Site,
    sample: Sample,
    ids: Tensor,
    image: Tensor,
    mask: Tensor,
    length: int,
    names: Mapping[str, Sequence[str]],
) -> Tensor:
    """Positions of a site in one row."""
    if site == "last":
        return torch.tensor([length - 1])
    if site == "image":
        return run_ends(image[None])[0].nonzero().flatten().cpu()
    known = names.get(sample.subject or "", ())
    ends = [end for name in known for end in name_ends(model, ids[:length].tolist(), name)]
    if known:
        return torch.tensor(sorted(set(ends)), dtype=torch.long)
    return (mask & ~image).nonzero().flatten().cpu()


def name_ends(model: MultimodalModel, ids: Sequence[int], name: str) -> list[int]:
    """Positions of the last token of every occurrence of a name, however the tokenizer joins it to a blank."""
    tokenizer = model.processor.tokenizer
    found = set()
    for spelling in (f" {name}", name):
        part = tokenizer(spelling, add_special_tokens=False)["input_ids"]
        n = len(part)
        found |= {i + n - 1 for i in range(len(ids) - n + 1) if n and list(ids[i : i + n]) == list(part)}
    return sorted(found)


def _finite(states: Tensor, point: HookPoint, row: int) -> Tensor:
    if not bool(torch.isfinite(states).all()):
        raise NumericalError(
            f"the state of sample {row} after layer {point.layer} is not finite; load the model in a wider dtype "
            "(float32 or bfloat16)"
        )
    return states
