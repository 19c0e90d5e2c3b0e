"""The embedded LLaVA: a CLIP tower, a projector and a Llama, real transformers classes at small size."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from mllmeraser.embedded.recipe.architecture import IMAGE_SIZE, Architecture
from mllmeraser.embedded.recipe.packing import Prefix
from mllmeraser.embedded.recipe.tokenizer import IMAGE, SPECIAL, USER

PATCH = 8


class Llava(Architecture):
    """ViT width 160 x 4 over 7 x 7 patches, Llama width 160 x 6; an image takes 49 positions."""

    name: ClassVar[str] = "llava"
    grid: ClassVar[int] = IMAGE_SIZE // PATCH
    merge: ClassVar[int] = 1
    special_tokens: ClassVar[tuple[str, ...]] = (*SPECIAL, IMAGE)
    image_text: ClassVar[str] = IMAGE

    def build_model(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlavaForConditionalGeneration:
        """A randomly initialised LLaVA."""
        torch.manual_seed(seed)
        vision = CLIPVisionConfig(
            hidden_size=160,
            intermediate_size=480,
            num_hidden_layers=6,
            num_attention_heads=5,
            image_size=IMAGE_SIZE,
            patch_size=PATCH,
            projection_dim=160,
        )
        text = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=160,
            intermediate_size=448,
            num_hidden_layers=6,
            num_attention_heads=5,
            num_key_value_heads=5,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        )
        config = LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
            vision_feature_layer=-1,
            vision_feature_select_strategy="default",
            tie_word_embeddings=True,
        )
        model = LlavaForConditionalGeneration(config)
        # at the default 0.02 places drown in the patches' own signal, and shapes are learnt late
        torch.nn.init.normal_(model.model.vision_tower.embeddings.position_embedding.weight, std=0.3)
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        return model

    def build_processor(self, tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
        """The ordinary LLaVA processor; CLIP preprocessing at 56 pixels is what the hub's LLaVA does at 336."""
        image_processor = CLIPImageProcessorPil(
            size={"shortest_edge": IMAGE_SIZE},
            crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
            do_convert_rgb=True,
        )
        return LlavaProcessor(
            image_processor=image_processor,
            tokenizer=tokenizer,
            patch_size=PATCH,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            image_token=IMAGE,
            chat_template=tokenizer.chat_template,
        )

    def prefixes(self, tokenizer: PreTrainedTokenizerFast) -> tuple[Prefix, Prefix]:
        """Positions count on through the image, on one axis."""
        user, image = tokenizer.convert_tokens_to_ids([USER, IMAGE])
        ids = [user, *[image] * self.grid**2]
        return Prefix([user], [(0,)], 1), Prefix(ids, [(i,) for i in range(len(ids))], len(ids))

    def tower(self, model: PreTrainedModel) -> PreTrainedModel:
        """The CLIP tower."""
        tower: PreTrainedModel = model.model.vision_tower
        return tower

    def in_tower(self, name: str) -> bool:
        """All of the CLIP tower."""
        return ".vision_tower." in name

    def patches(self, tower: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
        """All tokens but the class token."""
        seen: torch.Tensor = tower(pixel_values=pixels).last_hidden_state[:, 1:]
        return seen

    def look(self, model: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
        """(n, grid**2, text width)."""
        seen: torch.Tensor = model.model.multi_modal_projector(self.patches(self.tower(model), pixels))
        return seen

    def projector(self, model: PreTrainedModel) -> nn.Module:
        """Two layers with a GELU between them."""
        projector: nn.Module = model.model.multi_modal_projector
        return projector
