"""What the tests of the recipe share: a small world, and each architecture in turn with its tokenizer."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.architecture import Architecture
from mllmeraser.embedded.recipe.sentences import tokenizer_texts
from mllmeraser.embedded.train import ARCHITECTURES
from mllmeraser.portraits import World


@pytest.fixture(scope="session")
def world() -> World:
    return World("unit", 0)


@pytest.fixture(scope="session", params=list(ARCHITECTURES))
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return ARCHITECTURES[request.param]


@pytest.fixture(scope="session")
def tokenizer(architecture: Architecture, world: World) -> PreTrainedTokenizerFast:
    return architecture.train_tokenizer(tokenizer_texts(world, 0, n=4000))


@pytest.fixture(scope="module")
def model(architecture: Architecture, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """At random weights, wide enough that places and pictures matter; do not train it."""
    made = architecture.build_model(tokenizer, 0).eval()
    with torch.no_grad():
        for name, p in made.named_parameters():
            p.mul_(4 if p.ndim >= 2 and "embed" not in name else 1)
    return made
