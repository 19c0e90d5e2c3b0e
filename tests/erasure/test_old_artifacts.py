"""Artifacts of every earlier format: they load, decide and answer as when they were written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mllmeraser import load_benchmark, load_model
from mllmeraser.erasure import Eraser
from mllmeraser.erasure.artifact.manifest import CONFIG_FILE
from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.erasure.settings import NeuralSettings, SubjectSettings
from mllmeraser.evaluation.protocols import default_protocol
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import Sample
from mllmeraser.samples.expansion import ViewSettings

FOLDER = Path(__file__).parent / "artifacts" / "format-2"
SETS = ("test", "retain_heldout", "perception")


@pytest.fixture(scope="module")
def embedded_llava() -> MultimodalModel:
    return load_model("embedded:llava")


def questions() -> list[Sample]:
    """The prompts that the expected scores and answers belong to."""
    benchmark = load_benchmark("portraits:dev")
    sets = default_protocol(benchmark).read(benchmark, "forget_5", 0, names=None)
    return [s for name in SETS for s in list(sets[name])[:: max(1, len(sets[name]) // 8)][:8]]


@pytest.mark.embedded
@pytest.mark.parametrize("preset", ["default", "tail"])
def test_an_eraser_of_format_2_answers_as_then(embedded_llava: MultimodalModel, preset: str) -> None:
    """Written by the last release of format 2, on the embedded LLaVA; scores are equal to the bit."""
    expected = json.loads((FOLDER / f"{preset}.json").read_text())
    eraser = Eraser.from_pretrained(FOLDER / preset)
    assert eraser.digest() == expected["digest"]
    assert eraser.without(eraser.config.subjects[0]).digest() == expected["without_first"]
    assert eraser.config.calibration.false_alarm_rate_promised == expected["promised"]
    samples = questions()
    scores = read_gate(embedded_llava, eraser, samples).pooled
    then = torch.tensor([float.fromhex(score) for score in expected["pooled"]])
    nothing_to_read = then < -9000  # a sentinel then, minus infinity now
    assert torch.equal(scores[~nothing_to_read], then[~nothing_to_read])
    assert bool(torch.isneginf(scores[nothing_to_read]).all())
    with eraser.attached(embedded_llava):
        assert embedded_llava.generate(samples, max_new_tokens=24) == expected["answers"]


@pytest.mark.parametrize("preset", ["default", "tail"])
def test_an_old_eraser_keeps_its_constants_whatever_the_defaults_become(
    preset: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A new default of any constant must not reach an eraser on disk, of this format or an older one."""
    old = Eraser.from_pretrained(FOLDER / preset)
    saved = old.save_pretrained(tmp_path / "saved")
    stored = json.loads((saved / CONFIG_FILE).read_text())
    assert set(SubjectSettings.model_fields) == set(stored["gate"]["subject"])
    assert set(NeuralSettings.model_fields) == set(stored["gate"]["neural"])
    assert set(ViewSettings.model_fields) == set(stored["views"])
    for kind in (SubjectSettings, NeuralSettings, ViewSettings):
        for field in kind.model_fields.values():
            monkeypatch.setattr(field, "default", type(field.default)(7))
        kind.model_rebuild(force=True)
    try:
        assert SubjectSettings().rivalry == 7.0, "the default has changed"
        for folder in (FOLDER / preset, saved):
            assert Eraser.from_pretrained(folder).config == old.config
    finally:
        monkeypatch.undo()
        for kind in (SubjectSettings, NeuralSettings, ViewSettings):
            kind.model_rebuild(force=True)
