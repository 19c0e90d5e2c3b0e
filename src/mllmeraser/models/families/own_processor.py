"""Families whose own processor writes what stands for a picture: tiles, rows, line breaks, begin and end tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import BatchFeature

from mllmeraser.models.families.assembled import load_processor
from mllmeraser.models.families.base import Family, PixelInputs
from mllmeraser.models.families.pixels import PixelSpace, channel_bounds
from mllmeraser.samples.errors import InputError

EXPANSION = "expansion"
"""Key of the token ids (1, positions) that stand for a picture; it never reaches the model."""


class OwnProcessor(Family):
    """A family described by a row of the table (`table.py`).

    A picture goes through the processor with a text that is its placeholder alone; the token ids that come out are
    what stands for it in every prompt. So a picture is processed once, however many questions are asked about it.
    """

    def __init__(
        self,
        name: str,
        model_types: tuple[str, ...],
        *,
        inputs: tuple[str, ...] = ("pixel_values",),
        placeholder: str = "image_token",
        feature: str = "image_token",
        token_types: str | None = None,
        still: str | None = None,
        one_view: bool = False,
        several: bool = True,
        decoder_paths: tuple[str, ...] | None = None,
    ) -> None:
        """Describe one family.

        Args:
            name: Short name shown to users.
            model_types: Values of `config.model_type`.
            inputs: What the model takes of the output of the image processor.
            placeholder: Where the processor names what the chat template writes for a picture (a dotted path).
            feature: Where it names the token whose positions hold the features, or that token itself (`<...>`).
            token_types: Argument of forward that marks those positions with 1.
            still: Class of the processor, where it holds a video processor that pictures do not need.
            one_view: Whether a picture reaches the model once, as (1, channels, height, width), and not as tiles that
                show the same pixels again.
            several: Whether several pictures in one prompt are written one like the other.
            decoder_paths: Where the blocks are, if not where most families have them.
        """
        self.name, self.model_types, self.inputs = name, model_types, inputs
        self.placeholder, self.feature, self.token_types, self.still = placeholder, feature, token_types, still
        self.one_view, self.several = one_view, several
        self.counted_by = "image_sizes" if "image_sizes" in inputs else "pixel_values" if one_view else None
        if decoder_paths is not None:
            self.decoder_paths = decoder_paths

    def load_processor(self, source: str, revision: str | None = None) -> Any:
        """The checkpoint's own processor; without torchvision the same one without its video processor."""
        return load_processor(source, revision, self.still)

    def image_token(self, processor: Any) -> str:
        """The placeholder that the chat template writes."""
        return _named(processor, self.placeholder)

    def feature_token(self, processor: Any) -> str:
        """The token whose positions hold the features; often the placeholder itself."""
        return self.feature if self.feature.startswith("<") else _named(processor, self.feature)

    def pixels(self, processor: Any, image: Image.Image) -> PixelInputs:
        """The tensors named by `inputs`, and the token ids that stand for the picture.

        Raises:
            InputError: If the tokenizer cannot read what it wrote, so that the prompt would not be the processor's.
        """
        marker = self.image_token(processor)
        made = processor(text=[marker], images=[image], add_special_tokens=False, return_tensors="pt")
        found = {key: torch.as_tensor(made[key]) for key in self.inputs if key in made}
        found[EXPANSION] = torch.as_tensor(made["input_ids"])
        again = processor.tokenizer(self.expansion(processor, found), add_special_tokens=False)["input_ids"]
        if list(again) != found[EXPANSION][0].tolist():
            raise InputError(f"the tokenizer of this {self.name} model cannot read the placeholders of a picture")
        return found

    def expansion(self, processor: Any, pixels: PixelInputs) -> str:
        """What the processor wrote for this picture."""
        ids = pixels[EXPANSION][0].tolist()
        return str(processor.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def placeholders(self, processor: Any, pixels: PixelInputs) -> int:
        """Positions that hold features of the picture."""
        return int(pixels[EXPANSION].eq(self._feature_id(processor)).sum())

    def expand_all(self, processor: Any, text: str, pixels: Sequence[PixelInputs]) -> str:
        """As `Family.expand_all`; the question must not contain the feature token either."""
        feature = self.feature_token(processor)
        if feature != self.image_token(processor) and feature in text:
            raise InputError(f"a question must not contain the image placeholder {feature}")
        return super().expand_all(processor, text, pixels)

    def join(self, pixels: Sequence[PixelInputs]) -> PixelInputs:
        """Tensors for the model, of several pictures."""
        return super().join([{key: one[key] for key in one if key != EXPANSION} for one in pixels])

    def extra_inputs(self, processor: Any, input_ids: Tensor) -> dict[str, Tensor]:
        """1 on the features of pictures, for models whose positions there attend to each other."""
        if self.token_types is None:
            return {}
        return {self.token_types: (input_ids == self._feature_id(processor)).long()}

    def pixel_bounds(self, processor: Any, batch: BatchFeature) -> PixelSpace:
        """Bounds of shape `(1, 3, 1, 1)`.

        Raises:
            InputError: If a picture reaches the model in several views: no box holds what a picture can give.
        """
        if not self.one_view or getattr(processor.image_processor, "do_pan_and_scan", False):
            raise InputError(
                f"{self.name} cuts a picture into views that share pixels: an attack on the processed picture could "
                "show what no picture can; attack a model that sees a picture once"
            )
        return channel_box(processor, batch)

    def _feature_id(self, processor: Any) -> int:
        return int(processor.tokenizer.convert_tokens_to_ids(self.feature_token(processor)))


def _named(processor: Any, path: str) -> str:
    found = processor
    for name in path.split("."):
        found = getattr(found, name)
    return str(found)


def channel_box(processor: Any, batch: BatchFeature) -> PixelSpace:
    """Bounds of pixels `(pictures, channels, height, width)`, of shape `(1, 3, 1, 1)`."""
    lower, upper, scale = (part.view(1, -1, 1, 1) for part in channel_bounds(processor.image_processor))
    space = PixelSpace(lower, upper, scale, channels=scale.shape[1])
    return space.to(batch["pixel_values"]) if "pixel_values" in batch else space
