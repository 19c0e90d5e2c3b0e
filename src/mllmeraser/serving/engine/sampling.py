"""How the tokens of an answer are chosen, for each row of a batch by itself."""

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
        temperature: 0 takes the most likely token, above that one is drawn.
        top_p: Share of the probability, most likely tokens first, that is drawn from.
        seed: Makes the draws of this row repeatable; None: other ones every time.
        stop: Texts that end the answer; neither they nor what follows is part of it.
        logprobs: Alternatives to report for every token, 0 the chosen token alone, None nothing.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be done.

        Raises:
            InputError: If a value is out of range.
        """
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
    """Random choices of one row: its own generator, so that they do not depend on the rest of the batch."""

    def __init__(self, sampling: Sampling) -> None:
        """Begin with the row's seed, or with any."""
        self.temperature, self.top_p = sampling.temperature, sampling.top_p
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def next(self) -> float:
        """The next number of [0, 1)."""
        return float(torch.rand((), generator=self._generator, dtype=torch.float64))

    @classmethod
    def of(cls, sampling: Sampling) -> Draw | None:
        """None where the most likely token is taken."""
        return cls(sampling) if sampling.temperature > 0.0 else None


def pick(logits: Tensor, draws: Sequence[Draw | None]) -> Tensor:
    """(rows,) token ids by logits (rows, vocabulary), each row with its own settings; None: the most likely.

    A draw takes one number of the row's generator, whatever the logits are.
    """
    tokens = logits.argmax(-1)
    rows = [row for row, draw in enumerate(draws) if draw is not None]
    if rows:
        tokens[rows] = _drawn(logits[rows], [draw for draw in draws if draw is not None])
    return tokens


def _drawn(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """One token per row by the inverse of the cumulated probabilities, most likely first."""

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
    last = (kept > 0).sum(-1) - 1  # rounding must not lead beyond what is drawn from
    return order.gather(-1, torch.minimum(place, last)[:, None])[:, 0]
