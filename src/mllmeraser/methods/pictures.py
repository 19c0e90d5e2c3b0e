"""Picture features of the model itself: output of tower and projector, mean over the patches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.images import pixel_digest
from mllmeraser.samples.sample import Sample


@torch.no_grad()
def picture_features(model: MultimodalModel, images: Sequence[Image.Image], batch_size: int = 16) -> Tensor:
    """(n, width of the language model) float32 on the CPU: the projected patches of each picture, averaged."""
    features = []
    for start in range(0, len(images), batch_size):
        pixels = [model.prompts.pixels(image) for image in images[start : start + batch_size]]
        batch = {key: value.to(model.device) for key, value in model.family.join(pixels).items()}
        batch["pixel_values"] = batch["pixel_values"].to(model.dtype)
        output: Any = model.hf.get_image_features(**batch)
        patches = getattr(output, "pooler_output", output)
        features += [one.float().mean(0).cpu() for one in patches]
    return torch.stack(features) if features else torch.zeros(0, model.hidden_size)


def nearest(features: Tensor, known: Tensor, centre: Tensor) -> Tensor:
    """(n,) the largest cosine of each of `features` (n, d) with one of `known` (m, d), both minus `centre` (d,)."""
    ours, theirs = (F.normalize((one - centre).double(), dim=-1) for one in (features, known))
    return (ours @ theirs.T).amax(-1)


def distinct_pictures(samples: Iterable[Sample]) -> dict[str, Image.Image]:
    """The different pictures of samples, by the digest of their pixels."""
    objects = {id(sample.image): sample.image for sample in samples if sample.image is not None}
    pictures: dict[str, Image.Image] = {}
    for image in objects.values():
        pictures.setdefault(pixel_digest(image), image)
    return pictures
