"""What the recipe must know about a model architecture: one object of one class for each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.packing import Packer, Prefix
from mllmeraser.embedded.recipe.tokenizer import train_tokenizer

IMAGE_SIZE = 56


class Architecture(ABC):
    """Builds an untrained model of one family, and handles its pictures and positions.

    Attributes:
        name: The part after ``embedded:``.
        grid: Patches per side of a training picture, as `patches` returns them.
        merge: Patches per side that become one image token.
        special_tokens: In the order of their ids, from 0 on.
        image_text: A picture in the chat template.
        tower_path: Module name of the vision tower in the model.
        projector_path: Module name of the layers from the tower's tokens, merged if need be, to image tokens.
    """

    name: ClassVar[str]
    grid: ClassVar[int]
    merge: ClassVar[int]
    special_tokens: ClassVar[tuple[str, ...]]
    image_text: ClassVar[str]
    tower_path: ClassVar[str]
    projector_path: ClassVar[str]

    def build_model(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> PreTrainedModel:
        """The model at random weights that `seed` determines."""
        torch.manual_seed(seed)
        model = self.new_model(tokenizer, {
            "vocab_size": len(tokenizer), "hidden_size": 160, "intermediate_size": 448, "num_hidden_layers": 6,
            "num_attention_heads": 5, "max_position_embeddings": 512, "tie_word_embeddings": True,
            "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id,
        })  # fmt: skip
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        return model

    @abstractmethod
    def new_model(self, tokenizer: PreTrainedTokenizerFast, text: dict[str, Any]) -> PreTrainedModel:
        """The model at random weights; `text` configures its language model."""

    @abstractmethod
    def build_processor(self, tokenizer: PreTrainedTokenizerFast) -> Any:
        """The family's own processor with our tokenizer: `image_processor` and `tokenizer`."""

    def train_tokenizer(self, texts: Iterable[str]) -> PreTrainedTokenizerFast:
        """A tokenizer with the special tokens and the chat template of this architecture."""
        return train_tokenizer(texts, special=self.special_tokens, image_text=self.image_text)

    def packer(self, tokenizer: PreTrainedTokenizerFast, rows: int, length: int) -> Packer:
        """A packer with the prefixes of this architecture."""
        return Packer(*self.prefixes(tokenizer), tokenizer.pad_token_id, rows, length)

    def save_checkpoint(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
        """Write the usual checkpoint layout: safetensors weights, configs, tokenizer and processor."""
        model.save_pretrained(folder, safe_serialization=True)
        self.build_processor(tokenizer).save_pretrained(folder)

    @abstractmethod
    def prefixes(self, tokenizer: PreTrainedTokenizerFast) -> tuple[Prefix, Prefix]:
        """The tokens before a question: without a picture, and with one."""

    def tower(self, model: PreTrainedModel) -> PreTrainedModel:
        """The vision tower; its `config.hidden_size` is the width of `patches`."""
        return model.get_submodule(self.tower_path)

    def projector(self, model: PreTrainedModel) -> nn.Module:
        """The module from the tower's tokens (..., any width) to image tokens (..., text width)."""
        return model.get_submodule(self.projector_path)

    def in_tower(self, name: str) -> bool:
        """Whether a parameter of the model is part of the tower. Qwen's merger is part of the projector."""
        return name.startswith(f"{self.tower_path}.") and ".merger." not in name

    @abstractmethod
    def patches(self, tower: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, IMAGE_SIZE, IMAGE_SIZE) pixel values to (n, grid**2, width) tokens before projection, row by row."""

    @abstractmethod
    def look(self, model: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
        """The same pixel values to the embeddings of the image tokens: (..., text width), picture by picture."""
