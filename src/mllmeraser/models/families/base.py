"""What the rest of the package needs to know about one model family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import BatchFeature

from mllmeraser.models.families.pixels import PixelSpace
from mllmeraser.samples.errors import InputError

PixelInputs = dict[str, Tensor]
"""Output of the image processor for one picture, as the model's forward wants it (a leading batch axis)."""


@dataclass(frozen=True)
class VideoTokens:
    """Placeholders of videos whose sizes a forward pass is told as `video_grid_thw`.

    Attributes:
        token: Their id.
        merged: Patches of a frame that share one position.
    """

    token: int
    merged: int


class Family(ABC):
    """Adapter of one model family: where its decoder is, and how a prompt is put to it.

    Attributes:
        name: Short name shown to users.
        model_types: Values of `config.model_type` this adapter serves; `type/vision type` where the type of the
            vision tower decides.
        decoder_paths: Dotted paths of the decoder's blocks below the top model, newest transformers first.
        mixes: Whether rows with and without a picture may share a batch.
        several: Whether several pictures in one prompt are written and read one like the other.
        counted_by: Argument of forward with one entry for each picture; None where its entries are tiles.
        in_prompt: Whether features of a picture stand at positions of the prompt, so that there is none without.
    """

    name: str
    model_types: tuple[str, ...]
    decoder_paths: tuple[str, ...] = ("model.language_model.layers", "language_model.model.layers")
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
        """How frames of a video stand in the prompt; None where it is not known how to tell them apart."""
        config: Any = hf.config
        token = getattr(config, "video_token_id", None)
        merge = getattr(getattr(config, "vision_config", None), "spatial_merge_size", None)
        return None if token is None or merge is None else VideoTokens(int(token), int(merge) ** 2)

    def decoder_layers(self, hf: nn.Module) -> nn.ModuleList:
        """Blocks of the language decoder, never those of the vision tower.

        Raises:
            InputError: If no known path leads to a list of blocks, or if what is found has another depth or
                width than the text configuration states.
        """
        return self._blocks(hf)[1]

    def hook_layers(self, hf: nn.Module) -> tuple[int, ...]:
        """Numbers of the blocks that run for every prompt: only after those can a state be read and moved.

        Raises:
            InputError: As `decoder_layers`.
        """
        return tuple(range(len(self.decoder_layers(hf))))

    def check_hooks(self, hf: nn.Module, layers: Iterable[int]) -> None:
        """Make sure that all of `layers` can be read and moved, whatever the prompt.

        Raises:
            InputError: If one is not among `hook_layers`; of those that do not exist nothing is said here.
        """
        usable, depth = self.hook_layers(hf), len(self.decoder_layers(hf))
        idle = sorted({layer for layer in layers if layer < depth} - set(usable))
        if idle:
            raise InputError(
                f"block {idle[0]} of this {self.name} model does not run for every prompt, so nothing can be read or "
                f"moved there; use one of {', '.join(map(str, usable))}"
            )

    def decoder(self, hf: nn.Module) -> nn.Module:
        """The language model that runs those blocks: it takes the `attention_mask` of all of them.

        Raises:
            InputError: As `decoder_layers`.
        """
        path, _ = self._blocks(hf)
        owner = _submodule(hf, path.rpartition(".")[0])
        assert owner is not None
        return owner

    def _blocks(self, hf: nn.Module) -> tuple[str, nn.ModuleList]:
        config = self.text_config(hf)
        if getattr(config, "is_encoder_decoder", False):
            raise InputError(f"{type(hf).__name__} is an encoder-decoder model: its decoder never reads the prompt")
        for path in self.decoder_paths:
            layers = _submodule(hf, path)
            if isinstance(layers, nn.ModuleList):
                _check_decoder(layers, path, int(config.num_hidden_layers), int(config.hidden_size))
                return path, layers
        raise InputError(
            f"no decoder found in this {self.name} model: looked at {', '.join(self.decoder_paths)} "
            f"in {type(hf).__name__}"
        )

    # -- the prompt ------------------------------------------------------------------------------------

    @abstractmethod
    def load_processor(self, source: str, revision: str | None = None) -> Any:
        """Processor of the checkpoint `source` (folder or hub id): has `image_processor` and `tokenizer`.

        Raises:
            OSError: If the checkpoint holds no processor files.
        """

    @abstractmethod
    def image_token(self, processor: Any) -> str:
        """Text of the image placeholder, as the chat template writes it once per image."""

    @abstractmethod
    def pixels(self, processor: Any, image: Image.Image) -> PixelInputs:
        """Tensors the model wants for one picture."""

    @abstractmethod
    def placeholders(self, processor: Any, pixels: PixelInputs) -> int:
        """Number of prompt positions one picture occupies."""

    @abstractmethod
    def pixel_bounds(self, processor: Any, batch: BatchFeature) -> PixelSpace:
        """Valid range and step of `batch["pixel_values"]`, for attacks in the processor's output space."""

    def join(self, pixels: Sequence[PixelInputs]) -> PixelInputs:
        """Tensors of several pictures as one batch, in prompt order; smaller ones are filled up with zeros."""
        return {key: cat_padded([one[key] for one in pixels]) for key in pixels[0]} if pixels else {}

    def extra_inputs(self, processor: Any, input_ids: Tensor) -> dict[str, Tensor]:
        """Further inputs the forward of this family needs, derived from the token ids `(batch, length)`."""
        return {}

    def answer_inputs(self, batch: BatchFeature, answers: Tensor) -> dict[str, Tensor]:
        """Inputs that change where the tokens `answers` (batch, length) bool follow a prompt, as attention may."""
        return {}

    def render(self, processor: Any, prompt_text: str, has_image: bool) -> str:
        """Prompt in the checkpoint's own chat format, ready for the answer to follow.

        The image comes first, as one placeholder; `encode` repeats it as often as the model needs.
        """
        content: list[dict[str, str]] = [{"type": "image"}] if has_image else []
        content.append({"type": "text", "text": prompt_text})
        messages = [{"role": "user", "content": content}]
        return str(processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    def expansion(self, processor: Any, pixels: PixelInputs) -> str:
        """What stands in the prompt for one picture, in place of its placeholder."""
        return self.image_token(processor) * self.placeholders(processor, pixels)

    def expand(self, processor: Any, text: str, pixels: PixelInputs | None) -> str:
        """`text` with its image placeholder replaced by what stands for the picture; see `expand_all`."""
        return self.expand_all(processor, text, [] if pixels is None else [pixels])

    def expand_all(self, processor: Any, text: str, pixels: Sequence[PixelInputs]) -> str:
        """`text` with each image placeholder replaced by what stands for its picture.

        Raises:
            InputError: If the text holds another number of placeholders than pictures (a question that
                spells the placeholder out would otherwise shift the image features), or the family writes
                several pictures otherwise than one and one.
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
        shown = [self.expansion(processor, one) for one in pixels]
        return first + "".join(picture + part for picture, part in zip(shown, rest, strict=True))

    def encode(
        self,
        processor: Any,
        texts: Sequence[str],
        images: Sequence[Image.Image | None],
        padding_side: str = "left",
    ) -> BatchFeature:
        """Model inputs of rendered prompts, rows with and without image mixed freely.

        Args:
            processor: What `load_processor` gave.
            texts: Rendered prompts (see `render`).
            images: For each prompt its picture, or None.
            padding_side: `"left"` or `"right"`.

        Returns:
            `input_ids` and `attention_mask` `(batch, length)`, the pixel tensors where there is a picture,
            and what else the family's forward needs.

        Raises:
            InputError: If numbers of texts and images differ, or a text does not fit its image.
        """
        if len(texts) != len(images):
            raise InputError(f"{len(texts)} prompts but {len(images)} images")
        pixels = [None if image is None else self.pixels(processor, image) for image in images]
        rows = [self.expand(processor, text, one) for text, one in zip(texts, pixels, strict=True)]
        return self.collate(processor, tokenize(processor, rows), pixels, padding_side)

    def collate(
        self,
        processor: Any,
        ids: Sequence[Sequence[int]],
        pixels: Sequence[PixelInputs | None],
        padding_side: str = "left",
    ) -> BatchFeature:
        """As `encode`, from token ids of expanded texts and from pictures that went through `pixels`."""
        data = pad(ids, int(processor.tokenizer.pad_token_id), padding_side)
        data.update(self.extra_inputs(processor, data["input_ids"]))
        data.update(self.join([one for one in pixels if one is not None]))
        return BatchFeature(data)


def tokenize(processor: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of prompts; a template that wrote the begin token itself does not get a second one."""
    tokenizer = processor.tokenizer
    bos = tokenizer.bos_token
    if not texts:
        return []
    special = not (bos and texts[0].startswith(bos))
    ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=special)["input_ids"]
    return ids


def cat_padded(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors one after the other along the first axis; the other axes grow to the largest, filled with zeros."""
    sizes = [max(extent) for extent in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    grown = []
    for tensor in tensors:
        missing = [size - have for size, have in zip(sizes, tensor.shape[1:], strict=True)]
        # `pad` counts axes from the last to the first, with two numbers for each.
        grown.append(functional.pad(tensor, [n for size in reversed(missing) for n in (0, size)]))
    return torch.cat(grown)


def pad(ids: Sequence[Sequence[int]], pad_token_id: int, padding_side: str) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask` `(batch, longest)` of ragged rows.

    Raises:
        InputError: If `padding_side` is neither `"left"` nor `"right"`, or there are no rows.
    """
    if padding_side not in ("left", "right"):
        raise InputError(f"padding_side is 'left' or 'right', not {padding_side!r}")
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


def _submodule(root: nn.Module, path: str) -> nn.Module | None:
    module: Any = root
    for name in path.split("."):
        module = getattr(module, name, None)
        if module is None:
            return None
    return module if isinstance(module, nn.Module) else None


def _check_decoder(layers: nn.ModuleList, path: str, depth: int, width: int) -> None:
    if len(layers) != depth:
        raise InputError(f"{path} has {len(layers)} blocks, but the text configuration states {depth}")
    norm = getattr(layers[0], "input_layernorm", None)
    weight = getattr(norm, "weight", None)
    if not isinstance(weight, Tensor) or weight.shape[-1] != width:
        found = "no input_layernorm" if weight is None else f"width {weight.shape[-1]}"
        raise InputError(f"{path} has {found}, but the text configuration states width {width}")
