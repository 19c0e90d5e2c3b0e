"""Fixtures every room shares: tiny random models and a mixed set of samples, without network."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path[:0] = [str(Path(__file__).parent / room) for room in (".", "erasure", "models", "serving")]

import pytest
import torch

from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import Sample
from tiny import build_llava, build_qwen, mixed_samples


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """A command sets torch's threads for its process; here the next test runs in the same one."""
    count = torch.get_num_threads()
    yield
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


@pytest.fixture(scope="session")
def tiny_llava_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny LLaVA checkpoint; do not write into it."""
    return build_llava(tmp_path_factory.mktemp("checkpoints") / "tiny-llava")


@pytest.fixture(scope="session")
def tiny_qwen_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny Qwen2.5-VL checkpoint; do not write into it."""
    return build_qwen(tmp_path_factory.mktemp("checkpoints") / "tiny-qwen")


@pytest.fixture(scope="session")
def tiny_llava(tiny_llava_path: Path) -> MultimodalModel:
    """Tiny LLaVA, shared by the session: detach what you attach, and never train it."""
    return load_model(str(tiny_llava_path), device="cpu")


@pytest.fixture(scope="session")
def tiny_qwen(tiny_qwen_path: Path) -> MultimodalModel:
    """Tiny Qwen2.5-VL, shared by the session: detach what you attach, and never train it."""
    return load_model(str(tiny_qwen_path), device="cpu")


@pytest.fixture(params=["llava", "qwen"])
def tiny_model(request: pytest.FixtureRequest) -> MultimodalModel:
    """Each tiny model in turn."""
    model: MultimodalModel = request.getfixturevalue(f"tiny_{request.param}")
    return model


@pytest.fixture
def samples() -> list[Sample]:
    """Seven samples that mix images and text, lengths, picture sizes and tasks."""
    return mixed_samples()
