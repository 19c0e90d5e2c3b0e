"""The embedded LLaVA: a CLIP tower, a projector and a Llama, real transformers classes at small size."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
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
    """ViT width 160 x 6 over 7 x 7 patches, Llama width 160 x 6; an image takes 49 positions."""

    name: ClassVar[str] = "llava"
    grid: ClassVar[int] = IMAGE_SIZE // PATCH
    merge: ClassVar[int] = 1
    special_tokens: ClassVar[tuple[str, ...]] = (*SPECIAL, IMAGE)
    image_text: ClassVar[str] = IMAGE
    tower_path: ClassVar[str] = "model.vision_tower"
    projector_path: ClassVar[str] = "model.multi_modal_projector"

    def new_model(self, tokenizer: PreTrainedTokenizerFast, text: dict[str, Any]) -> PreTrainedModel:
        """A LLaVA at random weights."""
        vision = CLIPVisionConfig(
            hidden_size=160,
            intermediate_size=480,
            num_hidden_layers=6,
            num_attention_heads=5,
            image_size=IMAGE_SIZE,
            patch_size=PATCH,
            projection_dim=160,
        )
        config = LlavaConfig(
            vision_config=vision,
            text_config=LlamaConfig(**text, num_key_value_heads=5),
            image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
            vision_feature_layer=-1,
            vision_feature_select_strategy="default",
            tie_word_embeddings=True,
        )
        model = LlavaForConditionalGeneration(config)
        # at the default 0.02 positions are too weak beside the patches, and shapes are learnt late
        torch.nn.init.normal_(model.model.vision_tower.embeddings.position_embedding.weight, std=0.3)
        return model

    def build_processor(self, tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
        """The usual LLaVA processor, with CLIP preprocessing at 56 pixels (the hub's LLaVA: 336)."""
        size, crop_size = {"shortest_edge": IMAGE_SIZE}, {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
        image_processor = CLIPImageProcessorPil(size=size, crop_size=crop_size, do_convert_rgb=True)
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
        """Positions continue through the image, on one axis."""
        user, image = tokenizer.convert_tokens_to_ids([USER, IMAGE])
        ids = [user, *[image] * self.grid**2]
        return Prefix([user], [(0,)], 1), Prefix(ids, [(i,) for i in range(len(ids))], len(ids))

    def patches(self, tower: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
        """All tokens but the class token."""
        return tower(pixel_values=pixels).last_hidden_state[:, 1:]

    def look(self, model: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
        """(n, grid**2, text width)."""
        return self.projector(model)(self.patches(self.tower(model), pixels))
