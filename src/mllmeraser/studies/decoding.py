"""Answers decoded for a study: to their natural end or forced past it, greedily or sampled, with log-probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mllmeraser.models import MultimodalModel
from mllmeraser.samples import Sample

GREEDY: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


@dataclass(frozen=True, slots=True)
class Decoding:
    """How answers are decoded: greedily, or sampled from the whole distribution if there is a temperature.

    `forced` suppresses all tokens that end an answer, so that it reaches the full length.
    """

    forced: bool = False
    temperature: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Certainty:
    """The log-probabilities of one answer, in nats.

    Attributes:
        mean: Mean log-probability of all tokens, the end mark included.
        margin: Log-probability of the likeliest first token minus that of the next.
        entropy: Of the distribution of the first token.
    """

    first: float
    mean: float
    margin: float
    entropy: float


def decode(
    model: MultimodalModel, samples: Sequence[Sample], how: Decoding, *, max_new_tokens: int, batch_size: int = 64
) -> list[list[int]]:
    """Token ids of the answers, in the order of ``samples``, without padding and chat marks."""
    special = _special(model)
    answers: list[list[int]] = [[]] * len(samples)
    for rows, ids, _ in _batches(model, samples, how, max_new_tokens, batch_size, logits=False):
        for row, tokens in zip(rows, ids.tolist(), strict=True):
            answers[row] = [token for token in tokens if token not in special]
    return answers


def text(model: MultimodalModel, ids: Sequence[int]) -> str:
    """The text of token ids."""
    return str(model.processor.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()


def answers_with_certainty(
    model: MultimodalModel, samples: Sequence[Sample], *, max_new_tokens: int = 24, batch_size: int = 64
) -> list[tuple[str, Certainty]]:
    """Greedy answers and their log-probabilities, in the order of ``samples``."""
    answers: dict[int, tuple[str, Certainty]] = {}
    pad = model.processor.tokenizer.pad_token_id
    for rows, ids, logits in _batches(model, samples, Decoding(), max_new_tokens, batch_size, logits=True):
        assert logits is not None
        for row, tokens, own in zip(rows, ids, logits, strict=True):
            answers[row] = text(model, tokens.tolist()), certainty(own, tokens, tokens != pad)
    return [answers[row] for row in range(len(samples))]


def certainty(logits: Tensor, ids: Tensor, real: Tensor) -> Certainty:
    """`Certainty` from the logits (tokens, vocabulary) of one answer, its ids, and a mask of tokens without padding."""
    logprobs = logits.float().log_softmax(-1)
    chosen = logprobs.gather(-1, ids[:, None])[:, 0]
    best = logprobs[0].topk(2).values
    return Certainty(
        first=float(chosen[0]),
        mean=float(chosen[real].mean()),
        margin=float(best[0] - best[1]),
        entropy=float(torch.distributions.Categorical(logits=logprobs[0]).entropy()),
    )


@torch.no_grad()
def _batches(
    model: MultimodalModel, samples: Sequence[Sample], how: Decoding, tokens: int, batch_size: int, *, logits: bool
) -> Iterator[tuple[list[int], Tensor, Tensor | None]]:
    """Row numbers, token ids and, if wanted, logits of each batch."""
    sampling = {"do_sample": True, "temperature": how.temperature, "top_p": 1.0, "top_k": 0}
    chosen = GREEDY if how.temperature is None else sampling
    forced = {"suppress_tokens": sorted(_special(model))} if how.forced else {}
    for rows in model.prompts.plan(samples, batch_size):
        inputs = model.encode([samples[row] for row in rows], "left")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(how.seed + rows[0])  # another seed for each batch, the same in every run
            output = model.hf.generate(
                **inputs, **chosen, **forced, max_new_tokens=tokens, num_beams=1, repetition_penalty=1.0,
                pad_token_id=model.processor.tokenizer.pad_token_id, return_dict_in_generate=True, output_logits=logits,
            )  # fmt: skip
        ids = output.sequences[:, inputs["input_ids"].shape[1] :]
        yield rows, ids, torch.stack(output.logits, dim=1) if logits else None


def _special(model: MultimodalModel) -> set[int]:
    """Tokens without text: end marks, padding, chat marks, image placeholders."""
    ends = model.hf.generation_config.eos_token_id
    listed = ends if isinstance(ends, list) else [] if ends is None else [ends]
    return {*model.processor.tokenizer.all_special_ids, *listed, model.family.image_token_id(model.hf)}
