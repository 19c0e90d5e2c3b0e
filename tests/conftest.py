"""Fixtures every room shares: tiny random models and a mixed set of samples, without network."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path[:0] = [str(Path(__file__).parent / room) for room in (".", "erasure", "models", "serving")]

import pytest
import torch

from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits import World
from mllmeraser.samples import Sample
from tiny import build_llava, build_qwen, mixed_samples


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """A command sets torch's threads for its process; here the next test runs in the same one."""
    count = torch.get_num_threads()
    yield
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests go first, so that no process is left with a long one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def drawn_once() -> Iterator[None]:
    """The shipped prompts, which take ten seconds to draw, are drawn once for all requests that get the same ones."""
    from mllmeraser.benchmarks import defaults

    kept: dict[Any, list[Sample]] = {}

    def once(draw: Callable[..., list[Sample]]) -> Callable[..., list[Sample]]:
        def drawn(world: World, exclude: Collection[str] = ()) -> list[Sample]:
            known = {person.name.casefold() for person in (*world.people, *world.celebrities)}
            gone = frozenset(name.casefold() for name in exclude) & known
            key = (draw.__name__, world.preset, world.seed, gone)
            if key not in kept:
                kept[key] = draw(world, exclude=exclude) if exclude else draw(world)
            return list(kept[key])

        return drawn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(defaults, "default_retain", once(defaults.default_retain))
        patch.setattr(defaults, "default_strangers", once(defaults.default_strangers))
        yield


@pytest.fixture(scope="session", autouse=True)
def captured_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """States of the shipped prompts are captured once for each model, by whichever process of the run comes first."""
    from mllmeraser.api import erasures, serving
    from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "captured"
    folder.mkdir(exist_ok=True)
    fitted = erasures.shipped_basis

    def kept(*args: Any, work: CaptureCheckpoint | None = None, **options: Any) -> Any:
        return fitted(*args, work=work or CaptureCheckpoint(folder), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(erasures, "shipped_basis", kept)
        patch.setattr(serving, "shipped_basis", kept)
        yield


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


@pytest.fixture
def no_conversations(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit asks in conversations once it is done; those passes are neither kept nor shared."""
    module = importlib.import_module("mllmeraser.erasure.fit.subject")
    monkeypatch.setattr(module, "rates_in_context", lambda *_a, **_k: {})
