"""Settings that all training methods share."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mllmeraser.methods.forward import LossOn
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
        rank: Rank of each adapter.
        alpha: Numerator of the scale.
        dropout: On the adapter's input while training.
        targets: Which linear layers get one; None: every one but the output head.
    """

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    targets: Pattern | None = None


class TrainSettings(MethodSettings):
    """The training loop (AdamW).

    Attributes:
        learning_rate: Its peak.
        schedule: How it goes from the peak to zero; `constant` stays there.
        warmup: Share of the steps in which it rises linearly to the peak.
        epochs: Passes over the data; ignored if `steps` is given.
        steps: Number of optimiser steps instead of epochs.
        batch_size: Items in a batch.
        weight_decay: Decoupled decay of the trained weights.
        max_grad_norm: The norm of the gradient is clipped to this.
        loss_on: `answer`, or `sequence`: prompt text and answer.
        save_every: Steps between two saves of the state, where there is a folder for it.
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
        trainable: `lora` gives an AdapterProduct, `full` a WeightProduct.
        lora: The adapters.
        parameters: For `full`, which parameters are trained; None: all of them.
    """

    trainable: Literal["lora", "full"] = "lora"
    lora: LoraSettings = LoraSettings()
    parameters: Pattern | None = None
