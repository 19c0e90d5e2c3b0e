"""The model before it is taught: SmolLM2, the embedded LLaVA's vision tower, and a new projector between them."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from transformers import (
    AutoConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from mllmeraser.embedded import checkpoint_path
from mllmeraser.embedded.recipe.llava import Llava
from mllmeraser.embedded.recipe.packing import Prefix
from mllmeraser.embedded.smol import chat

TOWER_OF = "llava"


def assemble(base: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> LlavaForConditionalGeneration:
    """SmolLM2 with the shipped tower, and a projector at random weights that `seed` determines."""
    shipped = AutoConfig.from_pretrained(checkpoint_path(TOWER_OF))
    text = base.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "architectures"):
        text.pop(key, None)
    torch.manual_seed(seed)
    with torch.device("meta"):
        config = LlavaConfig(
            vision_config=shipped.vision_config,
            text_config=text,
            image_token_id=tokenizer.convert_tokens_to_ids(chat.IMAGE),
            vision_feature_layer=shipped.vision_feature_layer,
            vision_feature_select_strategy=shipped.vision_feature_select_strategy,
            tie_word_embeddings=True,
        )
    model = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(base.model.state_dict())
    donor = LlavaForConditionalGeneration.from_pretrained(checkpoint_path(TOWER_OF))
    model.model.vision_tower.load_state_dict(donor.model.vision_tower.state_dict())
    model.tie_weights()
    generation = model.generation_config
    generation.eos_token_id, generation.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    return model.float().eval()


class Smol(Llava):
    """The pictures of the embedded LLaVA, the chat of SmolLM2."""

    name: ClassVar[str] = "smol"

    def new_model(self, tokenizer: PreTrainedTokenizerFast, text: dict[str, Any]) -> PreTrainedModel:
        """There is no untrained one."""
        raise NotImplementedError("SmolLM2 comes trained: use assemble()")

    def build_processor(self, tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
        """See `chat.build_processor`."""
        return chat.build_processor(tokenizer)

    def prefixes(self, tokenizer: PreTrainedTokenizerFast) -> tuple[Prefix, Prefix]:
        """See `chat.prefixes`."""
        return chat.prefixes(tokenizer, self.grid**2)
