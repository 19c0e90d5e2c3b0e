"""Families with a processor that writes the tokens of a picture: tiles, rows, line breaks, begin and end tokens."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import BatchFeature

from mllmeraser.models.families.assembled import load_processor
from mllmeraser.models.families.base import Family, PixelInputs
from mllmeraser.models.families.pixels import PixelSpace, channel_box
from mllmeraser.samples.errors import InputError

EXPANSION = "expansion"
"""Key of the token ids (1, positions) of a picture; it never reaches the model."""


class OwnProcessor(Family):
    """A family declared in one row (`declared.py`).

    The processor gets a picture with its placeholder as the only text. The token ids of its output then replace the
    placeholder in every prompt, so a picture is processed once for all questions.
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
        """Declare one family; for the other arguments see `Family`.

        Args:
            placeholder: Dotted path from the processor to the placeholder of the chat template.
            feature: Dotted path to the token at the positions of the features, or that token itself (`<...>`).
            token_types: Argument of forward that marks those positions with 1.
            still: Class of the processor, if it has a video processor that pictures do not need.
            one_view: Whether the model sees a picture once, as (1, channels, height, width), and not in overlapping
                tiles.
        """
        self.name, self.model_types, self.inputs = name, model_types, inputs
        self.placeholder, self.feature, self.token_types, self.still = placeholder, feature, token_types, still
        self.one_view, self.several = one_view, several
        self.counted_by = "image_sizes" if "image_sizes" in inputs else "pixel_values" if one_view else None
        if decoder_paths is not None:
            self.decoder_paths = decoder_paths

    def load_processor(self, source: str, revision: str | None = None) -> Any:
        """The checkpoint's own processor, without torchvision also without its video processor."""
        return load_processor(source, revision, self.still)

    def image_token(self, processor: Any) -> str:
        """The placeholder of the chat template."""
        return _named(processor, self.placeholder)

    def feature_token(self, processor: Any) -> str:
        """The token at the positions of the features; often the placeholder itself."""
        return self.feature if self.feature.startswith("<") else _named(processor, self.feature)

    def pixels(self, processor: Any, image: Image.Image) -> PixelInputs:
        """The `inputs`, and the token ids of the picture.

        Raises:
            InputError: If decoding and encoding the token ids changes them; the prompt would differ from the
                processor's own.
        """
        marker = self.image_token(processor)
        data = processor(text=[marker], images=[image], add_special_tokens=False, return_tensors="pt")
        pixels = {key: torch.as_tensor(data[key]) for key in self.inputs if key in data}
        pixels[EXPANSION] = torch.as_tensor(data["input_ids"])
        again = processor.tokenizer(self.expansion(processor, pixels), add_special_tokens=False)["input_ids"]
        if list(again) != pixels[EXPANSION][0].tolist():
            raise InputError(f"the tokenizer of this {self.name} model cannot read the placeholders of a picture")
        return pixels

    def expansion(self, processor: Any, pixels: PixelInputs) -> str:
        """The processor's text for this picture."""
        ids = pixels[EXPANSION][0].tolist()
        return str(processor.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def placeholders(self, processor: Any, pixels: PixelInputs) -> int:
        """Number of positions with features of the picture."""
        return int(pixels[EXPANSION].eq(self._feature_id(processor)).sum())

    def expand_all(self, processor: Any, text: str, pixels: Sequence[PixelInputs]) -> str:
        """As `Family.expand_all`; the question must not contain the feature token, either."""
        feature = self.feature_token(processor)
        if feature != self.image_token(processor) and feature in text:
            raise InputError(f"a question must not contain the image placeholder {feature}")
        return super().expand_all(processor, text, pixels)

    def join(self, pixels: Sequence[PixelInputs]) -> PixelInputs:
        """As `Family.join`, without the token ids."""
        return super().join([{key: one[key] for key in one if key != EXPANSION} for one in pixels])

    def extra_inputs(self, processor: Any, input_ids: Tensor) -> dict[str, Tensor]:
        """1 at the features of pictures, for models with bidirectional attention between them."""
        if self.token_types is None:
            return {}
        return {self.token_types: (input_ids == self._feature_id(processor)).long()}

    def pixel_bounds(self, processor: Any, batch: BatchFeature) -> PixelSpace:
        """Bounds of shape `(1, 3, 1, 1)`.

        Raises:
            InputError: If the model sees a picture in several views, because their pixels depend on each other.
        """
        if not self.one_view or getattr(processor.image_processor, "do_pan_and_scan", False):
            raise InputError(
                f"{self.name} cuts a picture into views that share pixels: an attack on the processed views may match "
                "no real picture; attack a model that sees a picture once"
            )
        return channel_box(processor, batch)

    def _feature_id(self, processor: Any) -> int:
        return int(processor.tokenizer.convert_tokens_to_ids(self.feature_token(processor)))


def _named(processor: Any, path: str) -> str:
    return str(attrgetter(path)(processor))
