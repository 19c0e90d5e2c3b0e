"""The embedded Qwen2.5-VL: pictures of any size as patches merged two by two, positions on three axes."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from mllmeraser.embedded.recipe.architecture import IMAGE_SIZE, Architecture
from mllmeraser.embedded.recipe.packing import Prefix
from mllmeraser.embedded.recipe.tokenizer import SPECIAL, USER
from mllmeraser.models.families import AssembledProcessor

START, STOP, IMAGE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
PATCH, MERGE, COPIES = 7, 2, 2
MERGED = IMAGE_SIZE // PATCH // MERGE
AT_LEAST, AT_MOST = 52 * 52, 60 * 60
"""Pixels of a picture after resizing. A square of any size becomes 56 x 56. The bounds are away from 56 * 56, where
rounding errors would decide, and from the neighbouring multiples of 14."""


class Qwen25VL(Architecture):
    """ViT width 160 x 4 over 8 x 8 patches, Qwen2 width 160 x 6; a training picture takes 16 positions and a frame."""

    name: ClassVar[str] = "qwen2.5-vl"
    grid: ClassVar[int] = IMAGE_SIZE // PATCH
    merge: ClassVar[int] = MERGE
    special_tokens: ClassVar[tuple[str, ...]] = (*SPECIAL, START, STOP, IMAGE, VIDEO)
    image_text: ClassVar[str] = START + IMAGE + STOP
    tower_path: ClassVar[str] = "model.visual"
    projector_path: ClassVar[str] = "model.visual.merger.mlp"

    def new_model(self, tokenizer: PreTrainedTokenizerFast, text: dict[str, Any]) -> PreTrainedModel:
        """A Qwen2.5-VL at random weights."""
        vision = {
            "depth": 4,
            "hidden_size": 160,
            "intermediate_size": 320,
            "num_heads": 5,
            "out_hidden_size": 160,
            "patch_size": PATCH,
            "temporal_patch_size": COPIES,
            "spatial_merge_size": MERGE,
            "window_size": IMAGE_SIZE,  # a training picture is one window, so that patches keep their order
            "fullatt_block_indexes": [1, 3],
        }
        rotation = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]}
        # five heads have width 32, which all serving engines support; some refuse width 40
        text = {**text, "num_key_value_heads": 1, "rms_norm_eps": 1e-6, "rope_parameters": rotation}
        start, stop, image, video = tokenizer.convert_tokens_to_ids([START, STOP, IMAGE, VIDEO])
        config = Qwen2_5_VLConfig(
            vision_config=vision,
            text_config=text,
            vision_start_token_id=start,
            vision_end_token_id=stop,
            image_token_id=image,
            video_token_id=video,
            tie_word_embeddings=True,
        )
        return Qwen2_5_VLForConditionalGeneration(config)

    def build_processor(self, tokenizer: PreTrainedTokenizerFast) -> AssembledProcessor:
        """The hub's image processor with smaller patches, without the video processor that needs torchvision."""
        image_processor = Qwen2VLImageProcessorPil(
            size={"shortest_edge": AT_LEAST, "longest_edge": AT_MOST},
            patch_size=PATCH,
            temporal_patch_size=COPIES,
            merge_size=MERGE,
        )
        return AssembledProcessor(image_processor, tokenizer)

    def prefixes(self, tokenizer: PreTrainedTokenizerFast) -> tuple[Prefix, Prefix]:
        """In an image time is constant, and rows and columns count up. Text continues after the larger of them."""
        user, start, stop, image = tokenizer.convert_tokens_to_ids([USER, START, STOP, IMAGE])
        cells = [(2, 2 + row, 2 + column) for row in range(MERGED) for column in range(MERGED)]
        end = 2 + MERGED
        ids = [user, start, *[image] * len(cells), stop]
        return Prefix([user], [(0, 0, 0)], 1), Prefix(ids, [(0, 0, 0), (1, 1, 1), *cells, (end, end, end)], end + 1)

    def patches(self, tower: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
        """Tokens come in blocks of two by two; they are put back in row order."""
        tokens = tower(*_rows(pixels)).last_hidden_state
        blocks = tokens.reshape(len(pixels), MERGED, MERGED, MERGE, MERGE, -1)
        return blocks.transpose(2, 3).reshape(len(pixels), self.grid**2, -1)

    def look(self, model: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
        """(n * 16, text width)."""
        return model.model.visual(*_rows(pixels)).pooler_output


def _rows(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixel values in the layout of the image processor (a row per patch, block by block), and each picture's grid.

    (n, 3, IMAGE_SIZE, IMAGE_SIZE) to (n * grid**2, 3 * COPIES * PATCH**2) and (n, 3).
    """
    n, side = len(pixels), MERGED * MERGE
    cells = pixels.reshape(n, 3, MERGED, MERGE, PATCH, MERGED, MERGE, PATCH).permute(0, 2, 5, 3, 6, 1, 4, 7)
    still = cells[:, :, :, :, :, :, None].expand(*(-1,) * 6, COPIES, -1, -1)
    return still.reshape(n * side**2, -1), torch.tensor([[1, side, side]]).expand(n, -1)
