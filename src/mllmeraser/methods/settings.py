"""Settings that all training methods share."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mllmeraser.methods.data import LossOn
from mllmeraser.methods.method import MethodSettings


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression ({error})") from None
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
"""A regular expression, searched for in the full name of a module or parameter."""


class LoraSettings(MethodSettings):
    """Low-rank adapters: W x becomes W x + (alpha / rank) B A x.

    Attributes:
        dropout: Dropout on the adapter's input.
        targets: Linear layers that get an adapter; None: all except the output head.
    """

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    targets: Pattern | None = None


class TrainSettings(MethodSettings):
    """The training loop (AdamW).

    Attributes:
        schedule: Course from the peak to zero; `constant` stays at the peak.
        warmup: Share of the steps in which the rate rises linearly to the peak.
        epochs: Passes over the data, unless `steps` is set.
        max_grad_norm: Largest norm of the gradient; larger gradients are clipped.
        loss_on: `answer`, or `sequence`: prompt text and answer.
        save_every: Steps between two saves of the state, if there is a folder for it.
    """

    learning_rate: float = Field(default=1e-4, gt=0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = Field(default=0.0, ge=0, lt=1)
    epochs: int = Field(default=1, ge=1)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=4, ge=1)
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    loss_on: LossOn = "answer"
    save_every: int = Field(default=50, ge=1)


class TunedSettings(TrainSettings):
    """A training of adapters, or of the weights themselves.

    Attributes:
        trainable: `lora` makes an AdapterProduct, `full` a WeightProduct.
        parameters: The trained parameters under `full`; None: all.
    """

    trainable: Literal["lora", "full"] = "lora"
    lora: LoraSettings = LoraSettings()
    parameters: Pattern | None = None
