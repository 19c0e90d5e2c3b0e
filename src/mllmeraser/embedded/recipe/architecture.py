"""What the recipe has to know about a model architecture: one object of one class for each."""

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
    """Builds an untrained model of one family and says how its pictures and its positions are handled.

    Attributes:
        name: What follows ``embedded:``.
        grid: Patches a side of a training picture, as ``patches`` gives them.
        merge: Patches a side that become one image token.
        special_tokens: In the order of their ids, from 0 on.
        image_text: How the chat template writes a picture.
    """

    name: ClassVar[str]
    grid: ClassVar[int]
    merge: ClassVar[int]
    special_tokens: ClassVar[tuple[str, ...]]
    image_text: ClassVar[str]

    # --- what is built --------------------------------------------------------------------------------------------

    @abstractmethod
    def build_model(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> PreTrainedModel:
        """The model at random weights, which the seed determines."""

    @abstractmethod
    def build_processor(self, tokenizer: PreTrainedTokenizerFast) -> Any:
        """The family's own processor around our tokenizer: ``image_processor`` and ``tokenizer``."""

    def train_tokenizer(self, texts: Iterable[str]) -> PreTrainedTokenizerFast:
        """A tokenizer with the special tokens and the chat template of this architecture."""
        return train_tokenizer(texts, special=self.special_tokens, image_text=self.image_text)

    def packer(self, tokenizer: PreTrainedTokenizerFast, rows: int, length: int) -> Packer:
        """Packs turns behind the prefixes of this architecture."""
        return Packer(*self.prefixes(tokenizer), tokenizer.pad_token_id, rows, length)

    def save_checkpoint(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
        """Write the ordinary checkpoint layout: safetensors weights, configs, tokenizer and processor."""
        model.save_pretrained(folder, safe_serialization=True)
        self.build_processor(tokenizer).save_pretrained(folder)

    # --- how it sees ----------------------------------------------------------------------------------------------

    @abstractmethod
    def prefixes(self, tokenizer: PreTrainedTokenizerFast) -> tuple[Prefix, Prefix]:
        """What stands before a question: without a picture, and with one."""

    @abstractmethod
    def tower(self, model: PreTrainedModel) -> PreTrainedModel:
        """The vision tower; its ``config.hidden_size`` is the width of ``patches``."""

    @abstractmethod
    def in_tower(self, name: str) -> bool:
        """Whether a parameter of the model learns at the rate of the tower; what projects its tokens does not."""

    @abstractmethod
    def patches(self, tower: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, IMAGE_SIZE, IMAGE_SIZE) pixel values to (n, grid**2, width) tokens before projection, row by row."""

    @abstractmethod
    def look(self, model: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
        """The same pixel values to what takes the place of the image tokens: (..., text width), picture by picture."""

    @abstractmethod
    def projector(self, model: PreTrainedModel) -> nn.Module:
        """What makes image tokens, (..., text width), of the tower's tokens, merged if need be, (..., any width)."""
