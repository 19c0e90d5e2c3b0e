"""What the tests of the recipe share: a small world, and each architecture in turn with its tokenizer."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

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
