"""A tiny random model of every family, with the processor of its checkpoints, without downloads.

Every row of `ZOO` states what the family's own classes want: special tokens, a configuration, an image processor.
Weights are drawn alike for all (`build`), so that different prompts give clearly different states.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast
from zoo_grids import GRIDS
from zoo_parts import DEPTH, WIDTH, Kind
from zoo_tiles import TILES
from zoo_towers import TOWERS

from mllmeraser.models import MultimodalModel, family_for
from tiny import build_tokenizer

ZOO: dict[str, Kind] = {**TOWERS, **TILES, **GRIDS}
SPREAD = 0.15
FRAME = ("<|user|>", "<|assistant|>", "<|end|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build(name: str) -> MultimodalModel:
    """The tiny model of the family `name`, its processor made of parts."""
    kind = ZOO[name]
    tokenizer = make_tokenizer(kind)
    text = text_settings(tokenizer)
    config_class = AutoConfig.for_model(kind.model_type).__class__
    config = config_class(**kind.config(tokenizer.convert_tokens_to_ids, text))
    hf = AutoModelForImageTextToText.from_config(config)
    randomise(hf)
    hf.generation_config.eos_token_id = tokenizer.eos_token_id
    hf.generation_config.pad_token_id = tokenizer.pad_token_id
    return MultimodalModel(f"tiny {name}", hf.float().eval(), kind.processor(tokenizer), family_for(config, hf))


def write(model: MultimodalModel, name: str, folder: Path) -> Path:
    """A checkpoint of the result of `build`, in the layout of the hub."""
    kind, processor = ZOO[name], model.processor
    model.hf.save_pretrained(folder)
    if not kind.processor_class:
        processor.save_pretrained(folder)
        return folder
    processor.image_processor.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)
    stated = {"processor_class": kind.processor_class, **kind.settings}
    (folder / "processor_config.json").write_text(json.dumps(stated))
    return folder


def make_tokenizer(kind: Kind) -> PreTrainedTokenizerFast:
    template = kind.opening + TEMPLATE.replace("IMAGE", kind.placeholder)
    plain = build_tokenizer(["<bos>", *FRAME, *kind.tokens], eos="<|end|>", template=template)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain._tokenizer,
        bos_token="<bos>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        extra_special_tokens=dict(kind.named),
    )
    tokenizer.chat_template = template
    return tokenizer


def text_settings(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 1024,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


@torch.no_grad()
def randomise(hf: nn.Module) -> None:
    """Draw all matrices again, and open the gates of cross-attention, which are closed in a new model."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in hf.named_parameters():
        if parameter.dim() >= 2:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * SPREAD)
        elif "gate" in name.rsplit(".", 1)[-1]:
            parameter.fill_(0.5)
