"""A training that was killed ends where an uninterrupted one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from methods_kit import assert_same, quick, request, snapshot

from mllmeraser.methods import Product, load_method
from mllmeraser.methods.loop import PREPARED_FILE, STATE_FILE
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import ArtifactError, InputError


class Killed(BaseException):
    """As a KeyboardInterrupt, which no handler of ours may swallow."""


def killed_at(step: int) -> Any:
    def progress(stage: str, done: int, total: int) -> None:
        if done == step:
            raise Killed

    return progress


def run(model: MultimodalModel, name: str, folder: Path | None, progress: Any = None, **changes: Any) -> Product:
    settings = quick(epochs=2, save_every=2, learning_rate=1e-3, **changes)
    made = load_method(name).make(model, request(), settings=settings, folder=folder, seed=3, progress=progress)
    assert isinstance(made, Product)
    return made


@pytest.mark.parametrize(
    ("name", "changes"),
    [("grad-diff", {"variant": "sequential"}), ("npo", {"trainable": "full"}), ("mmunlearner", {"variant": "both"})],
)
def test_resuming_gives_the_same_weights(
    tiny_llava: MultimodalModel, tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    whole = run(tiny_llava, name, None, **changes)
    before, folder = snapshot(tiny_llava), tmp_path / "work"
    with pytest.raises(Killed):
        run(tiny_llava, name, folder, killed_at(3), **changes)
    assert_same(tiny_llava, before)
    kept = sorted(one.name for one in folder.iterdir())
    assert kept == [STATE_FILE] if name == "grad-diff" else [PREPARED_FILE, STATE_FILE]
    told: list[int] = []
    resumed = run(tiny_llava, name, folder, lambda stage, done, total: told.append(done), **changes)
    assert told[0] == 2, "it went on from the last state saved"
    assert resumed.tensors.keys() == whole.tensors.keys()
    assert all(torch.equal(resumed.tensors[one], whole.tensors[one]) for one in whole.tensors)
    assert [one.name for one in folder.iterdir()] == ["product"]


def test_a_finished_training_is_read_back_and_another_one_refused(tiny_llava: MultimodalModel, tmp_path: Path) -> None:
    first = run(tiny_llava, "ga", tmp_path / "work")
    told: list[int] = []
    again = run(tiny_llava, "ga", tmp_path / "work", lambda stage, done, total: told.append(done))
    assert again.config == first.config and not told
    with pytest.raises(InputError, match="another training"):
        run(tiny_llava, "ga", tmp_path / "work", batch_size=1)


def test_a_foreign_or_corrupt_state_is_refused(tiny_llava: MultimodalModel, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    with pytest.raises(Killed):
        run(tiny_llava, "ga", folder, killed_at(2))
    with pytest.raises(ArtifactError, match="another training"):
        run(tiny_llava, "ga", folder, weight_decay=0.5)
    before = snapshot(tiny_llava)
    (folder / STATE_FILE).write_bytes((folder / STATE_FILE).read_bytes()[:100])
    with pytest.raises(InputError, match="corrupt"):
        run(tiny_llava, "ga", folder)
    assert_same(tiny_llava, before)
    assert not [one for one in folder.iterdir() if one.name.startswith(".")], "no half-written file is left"


def test_a_file_is_no_folder(tiny_llava: MultimodalModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot hold"):
        run(tiny_llava, "ga", tmp_path / "file")


def test_the_seed_decides(tiny_llava: MultimodalModel) -> None:
    method = load_method("ga")
    first, same, other = (method.make(tiny_llava, request(), settings=quick(), seed=seed) for seed in (0, 0, 1))
    assert isinstance(first, Product) and isinstance(same, Product) and isinstance(other, Product)
    assert all(torch.equal(first.tensors[one], same.tensors[one]) for one in first.tensors)
    assert any(not torch.equal(first.tensors[one], other.tensors[one]) for one in first.tensors if one in other.tensors)
