"""From samples to model inputs: chat format, pictures, tokens, padding."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from PIL import Image
from transformers import BatchFeature

from mllmeraser.models.families import Family, PixelInputs
from mllmeraser.models.families.base import tokenize
from mllmeraser.models.turns import render_messages
from mllmeraser.samples.conversation import Turn
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.images import given_image
from mllmeraser.samples.sample import Sample

IGNORED = -100
"""Label of a position without loss."""

WORST_RATIO = 200
"""Longest side over shortest. Beyond it, some families refuse a picture and others would scale it to gigabytes."""


class Prompts:
    """Turns samples into batches for one processor.

    It keeps up to `cache_bytes` of processed pixels, by content. An evaluation asks dozens of questions about the same
    picture; for a small model, processing the picture again would cost more than the answer.
    """

    def __init__(self, family: Family, processor: Any, cache_bytes: int = 128 * 2**20) -> None:
        self.family = family
        self.processor = processor
        self._cache_bytes, self._held_bytes = cache_bytes, 0
        self._cache: OrderedDict[bytes, PixelInputs] = OrderedDict()
        self._render = lru_cache(maxsize=4096)(self._rendered)

    def text(self, sample: Sample) -> str:
        """Rendered prompt of a sample, its image as a single placeholder."""
        return self._render(sample.prompt, sample.image is not None, sample.before)

    def _rendered(self, text: str, pictured: bool, before: tuple[Turn, ...]) -> str:
        if not before:
            return self.family.render(self.processor, text, pictured)
        content = [*([{"type": "image"}] if pictured else []), {"type": "text", "text": text}]
        return render_messages(
            self.processor, [*(turn.message() for turn in before), {"role": "user", "content": content}]
        )

    def pixels(self, image: Image.Image) -> PixelInputs:
        """Processed picture; equal ones are processed once. One that the model cannot take is an `InputError`."""
        image = given_image(image)
        digest = hashlib.blake2b(image.tobytes(), digest_size=20)
        digest.update(b"%dx%d" % image.size)
        key = digest.digest()
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        pixels = self._processed(image)
        self._cache[key] = pixels
        self._held_bytes += _size(pixels)
        while self._held_bytes > self._cache_bytes:
            self._held_bytes -= _size(self._cache.popitem(last=False)[1])
        return pixels

    def _processed(self, image: Image.Image) -> PixelInputs:
        width, height = image.size
        if max(width, height) > WORST_RATIO * min(width, height):
            raise InputError(f"a picture of {width} x {height}: one side is more than {WORST_RATIO} times the other")
        try:
            return self.family.pixels(self.processor, image)
        except (ValueError, ArithmeticError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"this model cannot take a picture of {width} x {height} ({reason})") from None

    def encode(self, samples: Sequence[Sample], padding_side: str = "left") -> BatchFeature:
        """One batch, rows in the order of `samples` (see `Family.collate`)."""
        pixels = self._all_pixels(samples)
        return self.family.collate(self.processor, self._ids(samples, pixels), pixels, padding_side)

    def encode_answers(
        self, samples: Sequence[Sample], answers: Sequence[str], *, end: bool = True, padding_side: str = "right"
    ) -> BatchFeature:
        """One batch of prompts with their answers appended.

        With `end`, the end-of-turn token is a part of the answer.

        Returns:
            As `encode`, and `labels` `(batch, length)`: token ids on the answer, -100 elsewhere.

        Raises:
            InputError: If the numbers of samples and answers differ, or an answer has no tokens.
        """
        if len(samples) != len(answers):
            raise InputError(f"{len(samples)} samples but {len(answers)} answers")
        pixels = self._all_pixels(samples)
        prompts = self._ids(samples, pixels)
        tails = [
            self._answer_ids(self.text(sample), answer, end) for sample, answer in zip(samples, answers, strict=True)
        ]
        rows = [prompt + tail for prompt, tail in zip(prompts, tails, strict=True)]
        batch = self.family.collate(self.processor, rows, pixels, padding_side)
        labels = torch.full_like(batch["input_ids"], IGNORED)
        for number, (row, tail) in enumerate(zip(rows, tails, strict=True)):
            stop = labels.shape[1] if padding_side == "left" else len(row)
            labels[number, stop - len(tail) : stop] = torch.tensor(tail)
        batch.update(self.family.answer_inputs(batch, labels != IGNORED))
        batch["labels"] = labels
        return batch

    def plan(self, samples: Sequence[Sample], batch_size: int) -> list[list[int]]:
        """Row numbers of batches of similar samples: image or text, by picture size and text length.

        Raises:
            InputError: If `batch_size` is below 1.
        """
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}")

        def key(number: int) -> tuple[bool, int, int, int]:
            image = samples[number].image
            area = 0 if image is None else image.size[0] * image.size[1]
            return (image is not None, area, len(self.text(samples[number])), number)

        order = sorted(range(len(samples)), key=key)
        text = [number for number in order if samples[number].image is None]
        image = [number for number in order if samples[number].image is not None]
        return [part[i : i + batch_size] for part in (text, image) for i in range(0, len(part), batch_size)]

    def _all_pixels(self, samples: Sequence[Sample]) -> list[PixelInputs | None]:
        return [None if sample.image is None else self.pixels(sample.image) for sample in samples]

    def _ids(self, samples: Sequence[Sample], pixels: Sequence[PixelInputs | None]) -> list[list[int]]:
        texts = [
            self.family.expand(self.processor, self.text(sample), one)
            for sample, one in zip(samples, pixels, strict=True)
        ]
        return tokenize(self.processor, texts)

    def continued(self, prompt: str, answer: str) -> str:
        """The text of an answer as it follows the prompt.

        After a template that ends in plain text ("ASSISTANT:") the model writes the space before the answer.
        """
        last = tokenize(self.processor, [prompt])[0][-1]
        spaced = prompt[-1:].isspace() or last in self.processor.tokenizer.added_tokens_decoder
        return answer if spaced else f" {answer}"

    def _answer_ids(self, prompt: str, answer: str, end: bool) -> list[int]:
        """Tokens of the answer, in the context of the prompt's last characters."""
        tokenizer = self.processor.tokenizer
        before = tokenize(self.processor, [prompt])[0]
        written = self.continued(prompt, answer)
        whole = tokenize(self.processor, [prompt + written])[0]
        tail = whole[len(before) :]
        if whole[: len(before)] != before:
            tail = list(tokenizer(written, add_special_tokens=False)["input_ids"])
        if not tail:
            raise InputError(f"the answer {answer!r} has no tokens")
        return [*tail, int(tokenizer.eos_token_id)] if end else tail


def end_tokens(hf: Any, processor: Any) -> tuple[int, ...]:
    """Tokens that end an answer: those of the checkpoint's generation settings, then that of its tokenizer."""
    listed = getattr(hf.generation_config, "eos_token_id", None)
    tokens = [*(listed if isinstance(listed, (list, tuple)) else [listed]), processor.tokenizer.eos_token_id]
    return tuple(int(token) for token in tokens if token is not None)


def _size(pixels: PixelInputs) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in pixels.values())
