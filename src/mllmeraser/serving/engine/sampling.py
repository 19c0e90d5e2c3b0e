"""Choice of the next token, with separate settings for each row of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mllmeraser.samples.errors import InputError

MAX_TEMPERATURE = 2.0
MAX_STOPS = 16
MAX_STOP_LENGTH = 200
MAX_ALTERNATIVES = 20


@dataclass(frozen=True)
class Sampling:
    """Settings of one answer.

    Attributes:
        max_tokens: Longest answer in tokens.
        temperature: 0 takes the most likely token; higher values sample.
        top_p: Smallest total probability of the most likely tokens that are sampled from.
        seed: Makes the samples of this row repeatable; None differs every time.
        stop: Texts that end the answer and are not part of it.
        logprobs: Alternatives to report for every token: 0 for the chosen token alone, None for nothing.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        """Raise `InputError` if a value is out of range."""
        checks = {
            "max_tokens is at least 1": self.max_tokens >= 1,
            f"temperature is between 0 and {MAX_TEMPERATURE:g}": 0.0 <= self.temperature <= MAX_TEMPERATURE,
            "top_p is above 0 and at most 1": 0.0 < self.top_p <= 1.0,
            "seed is a whole number of at most 64 bits": self.seed is None or -(2**63) <= self.seed < 2**64,
            f"stop holds at most {MAX_STOPS} texts of 1 to {MAX_STOP_LENGTH} characters": len(self.stop) <= MAX_STOPS
            and all(0 < len(text) <= MAX_STOP_LENGTH for text in self.stop),
            f"logprobs is between 0 and {MAX_ALTERNATIVES}": 0 <= (self.logprobs or 0) <= MAX_ALTERNATIVES,
        }
        for rule, kept in checks.items():
            if not kept:
                raise InputError(rule)


class Draw:
    """Random choices of one row, independent of the rest of the batch."""

    def __init__(self, sampling: Sampling) -> None:
        """Seed the row's own generator; without a seed, randomly."""
        self.temperature, self.top_p = sampling.temperature, sampling.top_p
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def next(self) -> float:
        """Return the next number of [0, 1); `pick` takes exactly one per token."""
        return float(torch.rand((), generator=self._generator, dtype=torch.float64))


def pick(logits: Tensor, draws: Sequence[Draw | None]) -> Tensor:
    """Choose token ids (rows,) from logits (rows, vocabulary): the most likely one in a row without `Draw`."""
    tokens = logits.argmax(-1)
    rows = [row for row, draw in enumerate(draws) if draw is not None]
    if rows:
        tokens[rows] = _drawn(logits[rows], [draw for draw in draws if draw is not None])
    return tokens


def _drawn(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Draw one token per row by inverting the cumulative probabilities, most likely token first."""

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).to(logits.device)[:, None]

    temperature = column([draw.temperature for draw in draws])
    top_p = column([draw.top_p for draw in draws])
    drawn = column([draw.next() for draw in draws])
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    shares = ((ordered - ordered[:, :1]).double() / temperature).softmax(-1)
    kept = torch.where(shares.cumsum(-1) - shares < top_p, shares, torch.zeros_like(shares))
    reached = kept.cumsum(-1)
    place = (reached <= drawn * reached[:, -1:]).sum(-1)
    last = (kept > 0).sum(-1) - 1  # rounding must not lead beyond the kept tokens
    return order.gather(-1, torch.minimum(place, last)[:, None])[:, 0]
