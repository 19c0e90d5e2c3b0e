"""The functions a program calls, on tiny models: what they return, and that nothing stays attached."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from worlds import quick, small_request

import mllmeraser
from mllmeraser import api
from mllmeraser.erasure import fit
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.models import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import ArtifactError, InputError, Sample
from tiny import LLAVA_LAYERS, WIDTH, picture


@pytest.fixture(scope="module")
def eraser(tiny_llava: MultimodalModel) -> Eraser:
    return fit(tiny_llava, small_request(), quick()).eraser


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    picture(0).save(tmp_path / "0.png")
    return tmp_path / "0.png"


def test_every_public_name_is_there() -> None:
    assert all(hasattr(mllmeraser, name) for name in mllmeraser.__all__)
    assert all(hasattr(api, name) for name in api.__all__)


def test_ask_without_an_eraser_is_the_bare_model(tiny_llava: MultimodalModel, photo: Path) -> None:
    told = api.ask(tiny_llava, "Who is this?", image=photo, max_new_tokens=4)
    assert told.answer == tiny_llava.generate([Sample("Who is this?", picture(0))], max_new_tokens=4)[0]
    assert told.readings == ()
    assert json.loads(json.dumps(told.as_dict())) == {"answer": told.answer, "readings": []}


def test_ask_tells_what_each_gate_read(
    tiny_llava: MultimodalModel, eraser: Eraser, photo: Path, tmp_path: Path
) -> None:
    folder = eraser.save_pretrained(tmp_path / "jane.eraser")
    bare = api.ask(tiny_llava, "Who is this?", image=photo, max_new_tokens=4)
    told = api.ask(tiny_llava, "Who is this?", image=photo, erasers=[folder, folder, eraser], max_new_tokens=4)
    assert [reading.eraser for reading in told.readings] == ["jane.eraser", "jane.eraser+", eraser.name]
    for reading in told.readings:
        assert reading.threshold == pytest.approx(eraser.config.threshold)
        assert reading.fired == (reading.score > reading.threshold)
        assert set(reading.layers) == set(eraser.config.read_layers)
        assert reading.line().endswith("acts" if reading.fired else "does not act")
    first, *others = (reading.score for reading in told.readings)
    assert others == pytest.approx([first, first], abs=1e-4), "the same eraser three times, in one product of matrices"
    assert api.ask(tiny_llava, "Who is this?", image=photo, max_new_tokens=4) == bare


def test_a_closed_gate_leaves_the_answer(tiny_llava: MultimodalModel, eraser: Eraser, photo: Path) -> None:
    closed = eraser.replace_config(threshold=1e9)
    told = api.ask(tiny_llava, "Who is this?", image=photo, erasers=[closed], max_new_tokens=4)
    assert not told.readings[0].fired
    assert told.answer == api.ask(tiny_llava, "Who is this?", image=photo, max_new_tokens=4).answer


def test_bad_input_is_found_before_the_model_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="question is empty"):
        api.ask("no/such/model", "  ")
    with pytest.raises(InputError, match=r"nowhere\.png"):
        api.ask("no/such/model", "Who is this?", image=tmp_path / "nowhere.png")
    with pytest.raises(ArtifactError):
        api.ask("no/such/model", "Who is this?", erasers=[tmp_path])
    with pytest.raises(InputError, match="no such preset"):
        api.evaluate("no/such/model", "portraits:huge")


def test_evaluate_bare_and_with_an_eraser(tiny_llava: MultimodalModel, eraser: Eraser, tmp_path: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    options = {"split": "forget_10", "sets": ["test", "general"], "limit": 1}
    bare = api.evaluate(
        tiny_llava, "portraits:unit", **options, progress=lambda stage, done, total: heard.append((stage, done, total))
    )
    steered = api.evaluate(tiny_llava, "portraits:unit", **options, erasers=[eraser])
    assert {record.set for record in bare} == {"test", "general"}
    assert {(r.method, r.policy) for r in bare} == {("vanilla", None)}
    assert {(r.method, r.policy) for r in steered} == {("mllmeraser", eraser.config.policy.name)}
    cells = [[(r.set, r.modality, r.task, r.n) for r in records] for records in (bare, steered)]
    assert cells[0] == cells[1] and all(record.n == 1 for record in bare)
    assert {r.task for r in bare if r.set == "test"} == {"classification", "generation", "cloze"}
    assert heard[-1] == ("score", heard[-1][2], len(bare))
    rows = api.write_records(bare, tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text()) == rows


def test_families() -> None:
    found = {family["family"]: family for family in api.list_families()}
    assert set(found) >= {"llava", "qwen2.5-vl"}
    assert found["llava"]["embedded"] == ["embedded:llava", "embedded:smol"]
    assert json.loads(json.dumps(api.list_families())) == api.list_families()


def test_check_model(tiny_llava_path: Path) -> None:
    facts = api.check_model(str(tiny_llava_path))
    assert facts["ok"] and all(test["ok"] for test in facts["tests"]) and len(facts["tests"]) == 5
    assert (facts["family"], facts["layers"], facts["width"]) == ("llava", LLAVA_LAYERS, WIDTH)
    assert (facts["precision"], facts["weights_bytes"] > 0) == ("float32", True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_thorough_check_holds_a_model_to_its_contract(
    tiny_llava_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(tiny_llava_path), device="cpu", dtype=dtype)
    facts = api.check_model(model, thorough=True)
    assert facts["ok"], facts["tests"]
    assert {"hook exact", "left padding", "mixed batch", "cached decoding"} <= {test["name"] for test in facts["tests"]}
    monkeypatch.setattr(model, "layers", model.layers[::-1])  # as if the adapter had them in another order
    facts = api.check_model(model, thorough=True)
    assert not facts["ok"] and [test["name"] for test in facts["tests"] if not test["ok"]]


def test_description_names_nobody(eraser: Eraser, tmp_path: Path) -> None:
    folder = api.save_eraser(eraser, tmp_path / "two.eraser")
    facts = api.describe_eraser(eraser, folder)
    assert facts["subjects"] == 2 and facts["bytes"] == sum(f.stat().st_size for f in folder.iterdir())
    assert "Person" not in json.dumps(facts)
