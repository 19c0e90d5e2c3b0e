"""Tiny random models with real classes, built from configurations: no network, no downloads.

Both are written as ordinary checkpoint folders and loaded back through the package's own loader, so a test
that uses them walks the same path as a user's checkpoint.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BatchFeature,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from mllmeraser.models.families import AssembledProcessor, Family
from mllmeraser.models.families.base import tokenize
from mllmeraser.samples import Sample

WIDTH = 64
LLAVA_LAYERS = 5
QWEN_LAYERS = 4
SPREAD = 0.12  # of the random weights: wide enough that different prompts get different answers

CORPUS = [
    "Who is this? This is Mara Velden. She is a baker and lives in Tolm.",
    "What does this person do for a living? He works as a tailor in Hesk.",
    "I do not know this person. Sorry, I cannot help with that.",
    "Where was Jonas Ferrick born? Answer with one letter. A: baker B: tailor C: pilot D: nurse",
]

LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
QWEN_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN_TOKENS = [
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]


def build_tokenizer(special: list[str], *, eos: str, template: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE tokenizer trained on a few sentences; any text can be encoded."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=["<|pad|>", *special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=eos, pad_token="<|pad|>")
    tokenizer.chat_template = template
    return tokenizer


def build_llava(folder: Path, *, layers: int = LLAVA_LAYERS, seed: int = 0) -> Path:
    """Write a tiny LLaVA checkpoint: CLIP 24x24 in patches of 8 (9 image positions), Llama of width 64."""
    special = ["<|user|>", "<image>", "<|assistant|>", "<|end|>"]
    tokenizer = build_tokenizer(special, eos="<|end|>", template=LLAVA_TEMPLATE)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=24,
            patch_size=8,
            initializer_range=SPREAD,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=96,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            initializer_range=SPREAD,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}, do_convert_rgb=True
        ),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    model = _random(LlavaForConditionalGeneration, config, seed)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def build_qwen(folder: Path, *, layers: int = QWEN_LAYERS, seed: int = 0) -> Path:
    """Write a tiny Qwen2.5-VL checkpoint: patches of 14 merged two by two, text width 64."""
    tokenizer = build_tokenizer(QWEN_TOKENS, eos="<|im_end|>", template=QWEN_TEMPLATE)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in QWEN_TOKENS}
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
            "patch_size": 14,
            "window_size": 56,
            "fullatt_block_indexes": [1],
            "initializer_range": SPREAD,
        },
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 96,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "initializer_range": SPREAD,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    model = _random(Qwen2_5_VLForConditionalGeneration, config, seed)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    image_processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 9})
    AssembledProcessor(image_processor, tokenizer, QWEN_TEMPLATE).save_pretrained(folder)
    return folder


def brief(folder: Path, out: Path) -> Path:
    """Copy a tiny checkpoint to `out` with a third of all tokens as ends: random models rarely end an answer."""
    shutil.copytree(folder, out)
    settings = json.loads((out / "generation_config.json").read_text())
    vocabulary = json.loads((out / "config.json").read_text())["text_config"]["vocab_size"]
    settings["eos_token_id"] = sorted({settings["eos_token_id"], *range(0, vocabulary, 3)})
    (out / "generation_config.json").write_text(json.dumps(settings))
    return out


def _random(kind: type, config: object, seed: int) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(config).float().eval()


def picture(seed: int, size: tuple[int, int] = (24, 24)) -> Image.Image:
    """A deterministic RGB picture: a coloured ground with two coloured shapes."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.randint(0, 256, (3, 3), generator=generator).tolist()
    corners = torch.rand(4, generator=generator).tolist()
    width, height = size
    image = Image.new("RGB", size, tuple(colours[0]))
    draw = ImageDraw.Draw(image)
    left, top = corners[0] * width / 2, corners[1] * height / 2
    draw.ellipse((left, top, left + width / 3, top + height / 3), fill=tuple(colours[1]))
    draw.rectangle((corners[2] * width / 2, height / 2, width * 0.9, height * 0.9), fill=tuple(colours[2]))
    return image


def mixed_samples() -> list[Sample]:
    """Seven samples: with and without image, short and long, three picture sizes, all three tasks."""
    options = (("A", "baker"), ("B", "tailor"), ("C", "pilot"), ("D", "nurse"))
    return [
        Sample("Who is this?", picture(1), answer="Mara Velden", subject="p1", id="s1"),
        Sample("Where does Jonas Ferrick live, and since when?", subject="p2", id="s2"),
        Sample("What does this person do?", picture(2, (56, 28)), task="cloze", subject="p1", id="s3"),
        Sample("Hi", id="s4"),
        Sample("The occupation is:", picture(3, (40, 60)), "A", "classification", options, subject="p3", id="s5"),
        Sample("What is the occupation of Mara Velden?", None, "B", "classification", options, id="s6"),
        Sample("Who is this person in the picture?", picture(1), subject="p1", id="s7"),
    ]


def encode(
    family: Family, processor: Any, texts: Sequence[str], images: Sequence[Image.Image | None], side: str = "left"
) -> BatchFeature:
    """A batch of rendered prompts, each with its picture or None, from the adapter alone."""
    pixels = [None if image is None else family.pixels(processor, image) for image in images]
    rows = [family.expand(processor, text, one) for text, one in zip(texts, pixels, strict=True)]
    return family.collate(processor, tokenize(processor, rows), pixels, side)
