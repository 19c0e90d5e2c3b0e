"""The artifact: round trip, refusals, revocation, size, and nothing personal in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from worlds import decide, decision_scores

from mllmeraser.erasure import TAIL as TAIL_POLICY
from mllmeraser.erasure import Eraser, EraserConfig, GateSettings
from mllmeraser.erasure.artifact.eraser import CONFIG_FILE, TENSOR_FILE
from mllmeraser.erasure.artifact.manifest import Calibration, subject_key
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.samples import ArtifactError, InputError
from mllmeraser.samples.sealed import SEAL, sealed
from mllmeraser.serving.ledger.erasers import artifact_from_folder

WIDTH = 192


def make(subjects: int = 6, **changes: Any) -> Eraser:
    generator = torch.Generator().manual_seed(0)
    tensors = {"calibration.tail": torch.randn(12, subjects, generator=generator)}
    for layer in (2, 3):
        tensors[f"gate.{layer}.weight"] = torch.randn(subjects, WIDTH, generator=generator)
        tensors[f"gate.{layer}.scale"] = torch.ones(subjects)
        tensors[f"gate.{layer}.offset"] = torch.zeros(subjects)
    for layer in (4, 5, 6, 7):
        tensors[f"direction.{layer}"] = torch.randn(WIDTH, generator=generator)
        tensors[f"share.{layer}"] = torch.randn(subjects, WIDTH, generator=generator)
    fields = {
        "package_version": "0", "created": "2026-01-01T00:00:00+00:00", "base_model": "m", "fingerprint": "f",
        "dtype": "float32", "prompt_hash": "p", "hidden_size": WIDTH, "num_layers": 8, "read_layers": (2, 3),
        "shift_layers": (4, 5, 6, 7), "policy": TAIL_POLICY, "threshold": 1.0,
        "counts": tuple(range(5, 5 + subjects)),
        "subjects": tuple(subject_key(str(i), "salt") for i in range(subjects)),
        "calibration": Calibration(false_alarm_rate_promised=0.1, n=20, detected=0.9),
    }  # fmt: skip
    return Eraser(EraserConfig.model_validate({**fields, **changes}), tensors)


def rewrite(folder: Path, **changes: Any) -> None:
    """Change the manifest, and its digest with it, as another release may have written it."""
    content = {**json.loads((folder / CONFIG_FILE).read_text()), **changes}
    content.pop(SEAL)
    (folder / CONFIG_FILE).write_text(json.dumps(sealed(content)))


def test_round_trip(tmp_path: Path) -> None:
    old = make()
    new = Eraser.from_pretrained(old.save_pretrained(tmp_path / "e"))
    assert sorted(p.name for p in (tmp_path / "e").iterdir()) == [CONFIG_FILE, TENSOR_FILE]
    assert new.tensors.keys() == old.tensors.keys()
    assert all(torch.equal(new.tensors[k], old.tensors[k]) for k in old.tensors)
    assert new.config.model_copy(update={"tensors_sha256": ""}) == old.config
    assert new.digest() == old.digest() == new.config.tensors_sha256
    assert new.name == new.digest()[:12]


def test_an_eraser_of_six_people_is_tiny(tmp_path: Path) -> None:
    folder = make().save_pretrained(tmp_path / "e")
    assert make().nbytes <= 100_000
    assert sum(f.stat().st_size for f in folder.iterdir()) <= 100_000


def test_saving_replaces_an_eraser_and_nothing_else(tmp_path: Path) -> None:
    make().save_pretrained(tmp_path / "e")
    make(3).save_pretrained(tmp_path / "e")
    assert len(Eraser.from_pretrained(tmp_path / "e").config.subjects) == 3
    (tmp_path / "empty").mkdir()
    make().save_pretrained(tmp_path / "empty")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError):
        make().save_pretrained(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["e", "empty", "mine"], "no scratch folder is left"


def test_a_failed_save_leaves_the_old_eraser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make().save_pretrained(tmp_path / "e")
    monkeypatch.setattr(EraserConfig, "to_json", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make(2).save_pretrained(tmp_path / "e")
    assert len(Eraser.from_pretrained(tmp_path / "e").config.subjects) == 6
    assert [p.name for p in tmp_path.iterdir()] == ["e"]


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_tensors_are_refused(tmp_path: Path, keep: int) -> None:
    file = make().save_pretrained(tmp_path / "e") / TENSOR_FILE
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match="truncated"):
        Eraser.from_pretrained(tmp_path / "e")


def test_one_flipped_bit_is_refused(tmp_path: Path) -> None:
    file = make().save_pretrained(tmp_path / "e") / TENSOR_FILE
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtifactError, match="corrupt"):
        Eraser.from_pretrained(tmp_path / "e")


def test_a_file_that_is_no_safetensors_is_refused_whatever_its_checksum(tmp_path: Path) -> None:
    folder = make().save_pretrained(tmp_path / "e")
    (folder / TENSOR_FILE).write_bytes(b"not tensors")
    rewrite(folder, tensors_sha256=hashlib.sha256(b"not tensors").hexdigest())
    with pytest.raises(ArtifactError):
        Eraser.from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 4}, "written by mllmeraser 0 in format 4"),
        ({"format_version": "x"}, "not the configuration"),
        ({"a_newer_field": 1}, "a_newer_field: Extra inputs are not permitted .written by mllmeraser 0."),
        ({"shift_layers": [4, 8]}, "layer 8 does not exist"),
        ({"read_layers": [-1]}, "layer -1 does not exist"),
        ({"shift_layers": []}, "shift_layers"),
        ({"read_layers": [1]}, "no gate at layer 1"),
        ({"hidden_size": 64}, "width 64"),
        ({"subjects": ["a"]}, "1 subject"),
        ({"threshold": None}, "threshold"),
        ({"strength": -1.0}, "strength"),
        ({"fingerprint": None}, "fingerprint"),
        (
            {"policy": {"name": "x", "read": "never", "positions": "last", "decode": False, "phi": "clamp"}},
            "read",
        ),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_bad_manifests_are_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = make().save_pretrained(tmp_path / "e")
    rewrite(folder, **changes)
    with pytest.raises(ArtifactError, match=message) as caught:
        Eraser.from_pretrained(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", [{"strength": 0.0}, {"threshold": 1e9}, {"subjects": ["a"] * 6}, {SEAL: "0" * 64}])
def test_a_manifest_changed_by_hand_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    file = make().save_pretrained(tmp_path / "e") / CONFIG_FILE
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content, indent=4))
    assert Eraser.from_pretrained(tmp_path / "e").config.strength == 1.0, "its layout does not matter"
    file.write_text(json.dumps({**content, **changes}))
    for read in (Eraser.from_pretrained, artifact_from_folder):
        with pytest.raises(ArtifactError, match="was changed after it was written"):
            read(tmp_path / "e")
    del content[SEAL]
    file.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="was changed"):
        Eraser.from_pretrained(tmp_path / "e")


def test_missing_or_unreadable_files_are_refused(tmp_path: Path) -> None:
    folder = make().save_pretrained(tmp_path / "e")
    (folder / CONFIG_FILE).write_text("{")
    with pytest.raises(ArtifactError, match="JSON"):
        Eraser.from_pretrained(folder)
    (folder / CONFIG_FILE).unlink()
    with pytest.raises(ArtifactError, match="missing"):
        Eraser.from_pretrained(folder)
    with pytest.raises(ArtifactError, match="no such folder"):
        Eraser.from_pretrained(tmp_path / "nowhere")


def test_tensors_with_nan_are_refused(tmp_path: Path) -> None:
    folder = make().save_pretrained(tmp_path / "e")
    tensors = load((folder / TENSOR_FILE).read_bytes())
    tensors["direction.4"][3] = float("nan")
    data = save(tensors)
    (folder / TENSOR_FILE).write_bytes(data)
    rewrite(folder, tensors_sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(ArtifactError, match="direction.4"):
        Eraser.from_pretrained(folder)


def test_scores_and_decision() -> None:
    eraser = make(3)
    states = {HookPoint(layer): torch.randn(5, WIDTH) for layer in (2, 3)}
    expected = sum(states[HookPoint(i)] @ eraser.tensors[f"gate.{i}.weight"].T for i in (2, 3)) / 2
    assert torch.allclose(decision_scores(eraser, states), expected, atol=1e-4)
    assert torch.equal(decide(eraser, states), (expected.amax(1) > 1.0).float())


def test_without_keeps_exactly_the_other_subjects() -> None:
    old = make(3)
    gone = old.config.subjects[1]
    new = old.without(gone)
    assert new.config.subjects == (old.config.subjects[0], old.config.subjects[2])
    assert torch.equal(new.tensors["gate.2.weight"], old.tensors["gate.2.weight"][[0, 2]])
    share = old.tensors["share.4"].double()
    base = old.tensors["direction.4"].double() + (5 * share[0] + 6 * share[1] + 7 * share[2]) / 18
    expected = base - (5 * share[0] + 7 * share[2]) / 12
    assert torch.allclose(new.direction(4).double(), expected, atol=1e-5)
    assert new.config.counts == (5, 7)
    assert new.config.calibration.detected is None and new.config.derived_from == old.digest()
    last = new.without(new.config.subjects[0])
    with pytest.raises(InputError, match="only subject"):
        last.without(last.config.subjects[0])
    with pytest.raises(InputError, match="no subject"):
        old.without("nobody")
    with pytest.raises(InputError, match="all subjects"):
        make(1, gate=GateSettings(per_subject=False)).without(old.config.subjects[0])


def test_an_artifact_of_format_1_keeps_loading_and_deciding() -> None:
    """Written once by version 0.1.0 and never again: what users have on disk."""
    old = Eraser.from_pretrained(Path(__file__).parent / "artifacts" / "format-1")
    assert old.config.format_version == 3 and old.config.policy == TAIL_POLICY
    assert old.name == "d4f9a2197cd1"
    states = {layer: torch.linspace(-1, 1, 3 * 16).reshape(3, 16) + layer for layer in (2, 3)}
    assert torch.allclose(
        decision_scores(old, states),
        torch.tensor([[3.41075, 2.47692], [4.62286, 3.11586], [5.83497, 3.75479]]),
        atol=1e-4,
    )
    assert decide(old, states).tolist() == [1.0, 1.0, 1.0]
    assert len(old.without(old.config.subjects[0]).config.subjects) == 1


def test_an_old_artifact_whose_face_gate_looked_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = make().save_pretrained(tmp_path / "e")
    subject = json.loads((folder / CONFIG_FILE).read_text())["policy"] | {"name": "subject", "pooling": "identity"}
    rewrite(folder, format_version=1, policy=subject)
    with pytest.raises(ArtifactError, match="fit it again"):
        Eraser.from_pretrained(folder)


def test_subject_keys_are_opaque_and_salted() -> None:
    assert subject_key("Jane Doe", "a") != subject_key("Jane Doe", "b")
    assert subject_key("Jane Doe", "a") == subject_key("Jane Doe", "a")
    assert "Jane" not in subject_key("Jane Doe", "a")
