"""The interface of one model family to the rest of the package."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import BatchFeature

from mllmeraser.models.families.assembled import load_processor
from mllmeraser.models.families.pixels import PixelSpace, channel_box
from mllmeraser.samples.errors import InputError

Rows = Sequence[Sequence[int]]
PixelInputs = dict[str, Tensor]
"""Inputs of the model's forward for one picture, with a leading batch axis."""


@dataclass(frozen=True)
class VideoTokens:
    """Placeholders of videos, for a forward pass with the argument `video_grid_thw`.

    Attributes:
        token: Their token id.
        merged: Patches of a frame that share one position.
    """

    token: int
    merged: int


class Family(ABC):
    """Adapter of one model family: the place of its decoder, and the format of its prompts.

    The default methods fit a processor with the placeholder `image_token` and an image processor that returns
    `pixel_values` (1, 3, height, width).

    Attributes:
        name: Short name for users.
        model_types: Values of `config.model_type`; `type/vision type` if the type of the vision tower decides.
        decoder_paths: Dotted paths of the decoder's blocks below the top model, newest transformers first.
        inputs: Outputs of the image processor that the model takes.
        mixes: Whether rows with and without a picture may share a batch.
        several: Whether a prompt with several pictures writes each like a single one.
        counted_by: Argument of forward with one entry for each picture; None if its entries are tiles.
        in_prompt: Whether the features of a picture have positions in the prompt.
    """

    name: str
    model_types: tuple[str, ...]
    decoder_paths: tuple[str, ...] = ("model.language_model.layers", "language_model.model.layers")
    inputs: tuple[str, ...] = ("pixel_values",)
    mixes: bool = True
    several: bool = True
    counted_by: str | None = None
    in_prompt: bool = True

    # -- the model -------------------------------------------------------------------------------------

    def text_config(self, hf: nn.Module) -> Any:
        """Configuration of the language model (depth and width of its residual stream)."""
        config: Any = hf.config
        return getattr(config, "text_config", config)

    def image_token_id(self, hf: nn.Module) -> int:
        """Token id that marks the positions of image features in the prompt."""
        config: Any = hf.config
        token = getattr(config, "image_token_id", None)
        return int(config.image_token_index if token is None else token)

    def video_tokens(self, hf: nn.Module) -> VideoTokens | None:
        """Placeholders of video frames in the prompt; None if the configuration does not name them."""
        config: Any = hf.config
        token = getattr(config, "video_token_id", None)
        merge = getattr(getattr(config, "vision_config", None), "spatial_merge_size", None)
        return None if token is None or merge is None else VideoTokens(int(token), int(merge) ** 2)

    def decoder_layers(self, hf: nn.Module) -> nn.ModuleList:
        """Blocks of the language decoder, never those of the vision tower.

        Raises:
            InputError: If no known path leads to a list of blocks, or its depth or width differs from the text
                configuration.
        """
        return self._blocks(hf)[1]

    def hook_layers(self, hf: nn.Module) -> tuple[int, ...]:
        """Numbers of the blocks that run for every prompt; only those can have hooks."""
        return tuple(range(len(self.decoder_layers(hf))))

    def check_hooks(self, hf: nn.Module, layers: Iterable[int]) -> None:
        """Raise an `InputError` if one of the existing `layers` is not among `hook_layers`."""
        usable, depth = self.hook_layers(hf), len(self.decoder_layers(hf))
        idle = sorted({layer for layer in layers if layer < depth} - set(usable))
        if idle:
            raise InputError(
                f"block {idle[0]} of this {self.name} model does not run for every prompt, so an eraser cannot use it; "
                f"use one of {', '.join(map(str, usable))}"
            )

    def decoder(self, hf: nn.Module) -> nn.Module:
        """The language model that runs those blocks, and takes their `attention_mask`."""
        path, _ = self._blocks(hf)
        return hf.get_submodule(path.rpartition(".")[0])

    def _blocks(self, hf: nn.Module) -> tuple[str, nn.ModuleList]:
        config, root = self.text_config(hf), cast(Any, hf)
        if getattr(config, "is_encoder_decoder", False):
            raise InputError(f"{type(hf).__name__} is an encoder-decoder model: its decoder never reads the prompt")
        for path in self.decoder_paths:
            layers = reduce(lambda module, name: getattr(module, name, None), path.split("."), root)
            if isinstance(layers, nn.ModuleList):
                _check_decoder(layers, path, int(config.num_hidden_layers), int(config.hidden_size))
                return path, layers
        raise InputError(
            f"no decoder found in this {self.name} model ({type(hf).__name__}): tried {', '.join(self.decoder_paths)}"
        )

    # -- the prompt ------------------------------------------------------------------------------------

    def load_processor(self, source: str, revision: str | None = None) -> Any:
        """Processor of the checkpoint `source` (folder or hub id), with `image_processor` and `tokenizer`.

        Raises:
            OSError: If the checkpoint has no processor files.
        """
        return load_processor(source, revision)

    def image_token(self, processor: Any) -> str:
        """Text of the image placeholder; the chat template writes it once per image."""
        return str(processor.image_token)

    def pixels(self, processor: Any, image: Image.Image) -> PixelInputs:
        """The `inputs` of the model for one picture."""
        data = processor.image_processor(images=[image], return_tensors="pt")
        return {key: torch.as_tensor(data[key]) for key in self.inputs}

    @abstractmethod
    def placeholders(self, processor: Any, pixels: PixelInputs) -> int:
        """Number of prompt positions of one picture."""

    def pixel_bounds(self, processor: Any, batch: BatchFeature) -> PixelSpace:
        """Valid range and step of `batch["pixel_values"]`, for attacks on the processor's output."""
        return channel_box(processor, batch)

    def join(self, pixels: Sequence[PixelInputs]) -> PixelInputs:
        """Tensors of several pictures as one batch, in prompt order; zeros fill up smaller ones."""
        return {key: cat_padded([one[key] for one in pixels]) for key in pixels[0]} if pixels else {}

    def extra_inputs(self, processor: Any, input_ids: Tensor) -> dict[str, Tensor]:
        """Further inputs of this family's forward, from the token ids `(batch, length)`."""
        return {}

    def answer_inputs(self, batch: BatchFeature, answers: Tensor) -> dict[str, Tensor]:
        """Inputs that differ at answer tokens, such as those of attention; `answers` is (batch, length) bool."""
        return {}

    def render(self, processor: Any, prompt_text: str, has_image: bool) -> str:
        """Prompt in the checkpoint's own chat format, up to the start of the answer.

        The image comes first, as one placeholder; `expand` repeats it as the model needs.
        """
        content = [*([{"type": "image"}] if has_image else []), {"type": "text", "text": prompt_text}]
        messages = [{"role": "user", "content": content}]
        return str(processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    def expansion(self, processor: Any, pixels: PixelInputs) -> str:
        """Text of one picture in the prompt, which replaces its placeholder."""
        return self.image_token(processor) * self.placeholders(processor, pixels)

    def expand(self, processor: Any, text: str, pixels: PixelInputs | None) -> str:
        """As `expand_all`, for one picture or none."""
        return self.expand_all(processor, text, [] if pixels is None else [pixels])

    def expand_all(self, processor: Any, text: str, pixels: Sequence[PixelInputs]) -> str:
        """`text` with each image placeholder replaced by the `expansion` of its picture.

        Raises:
            InputError: If the numbers of placeholders and pictures differ, or the family takes one picture only. A
                placeholder in a question would shift the image features.
        """
        token = self.image_token(processor)
        first, *rest = text.split(token)
        if len(rest) != len(pixels):
            raise InputError(
                f"the prompt has {len(rest)} image placeholders ({token}) for {len(pixels)} image(s); "
                "a question must not contain the placeholder itself"
            )
        if len(pixels) > 1 and not self.several:
            raise InputError(f"{self.name} takes one picture per prompt here, not {len(pixels)}")
        expanded = [self.expansion(processor, one) for one in pixels]
        return first + "".join(picture + part for picture, part in zip(expanded, rest, strict=True))

    def collate(
        self, processor: Any, ids: Rows, pixels: Sequence[PixelInputs | None], padding_side: str = "left"
    ) -> BatchFeature:
        """Model inputs of one batch, from token ids of expanded prompts and processed pictures.

        Returns:
            `input_ids` and `attention_mask` `(batch, length)`, the pixel tensors of all pictures, and the further
            inputs of the family's forward.
        """
        data = pad(ids, int(processor.tokenizer.pad_token_id), padding_side)
        data.update(self.extra_inputs(processor, data["input_ids"]))
        data.update(self.join([one for one in pixels if one is not None]))
        return BatchFeature(data)


def tokenize(processor: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of prompts; the begin token is not added if the template has written it."""
    tokenizer = processor.tokenizer
    bos = tokenizer.bos_token
    if not texts:
        return []
    special = not (bos and texts[0].startswith(bos))
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=special)["input_ids"]
    return ids


def cat_padded(tensors: Sequence[Tensor]) -> Tensor:
    """Concatenate along the first axis; zeros fill the other axes up to the largest."""
    sizes = [max(extent) for extent in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    grown = []
    for tensor in tensors:
        missing = [size - have for size, have in zip(sizes, tensor.shape[1:], strict=True)]
        # `pad` counts axes from the last to the first, with two numbers for each.
        grown.append(functional.pad(tensor, [n for size in reversed(missing) for n in (0, size)]))
    return torch.cat(grown)


def pad(ids: Rows, pad_token_id: int, padding_side: str) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask` `(batch, longest)` of ragged rows.

    Raises:
        InputError: If `padding_side` is neither `"left"` nor `"right"`, or there are no rows.
    """
    if padding_side not in ("left", "right"):
        raise InputError(f"padding_side must be 'left' or 'right', not {padding_side!r}")
    if not ids:
        raise InputError("nothing to encode: the batch is empty")
    longest = max(len(row) for row in ids)
    input_ids = torch.full((len(ids), longest), pad_token_id, dtype=torch.long)
    mask = torch.zeros((len(ids), longest), dtype=torch.long)
    for number, row in enumerate(ids):
        place = slice(longest - len(row), longest) if padding_side == "left" else slice(0, len(row))
        input_ids[number, place] = torch.tensor(row, dtype=torch.long)
        mask[number, place] = 1
    return {"input_ids": input_ids, "attention_mask": mask}


def _check_decoder(layers: nn.ModuleList, path: str, depth: int, width: int) -> None:
    if len(layers) != depth:
        raise InputError(f"{path} has {len(layers)} blocks, but the text configuration states {depth}")
    norm = getattr(layers[0], "input_layernorm", None)
    weight = getattr(norm, "weight", None)
    if not isinstance(weight, Tensor) or weight.shape[-1] != width:
        actual = "no input_layernorm" if weight is None else f"width {weight.shape[-1]}"
        raise InputError(f"{path} has {actual}, but the text configuration states width {width}")
