"""The shipped model: it loads without code of ours, its card speaks of it, and it forgets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from mllmeraser.api import erase
from mllmeraser.benchmarks.benchmark import Benchmark, thin
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.cli.app import app
from mllmeraser.embedded import BENCHMARK, NAMES, checkpoint_path
from mllmeraser.embedded.demo import forget_request
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.evaluation.runner import evaluate
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel

pytestmark = [pytest.mark.embedded, pytest.mark.slow]
FOLD = 2


CLASSES = {
    "llava": ("LlavaForConditionalGeneration", "LlavaProcessor"),
    "qwen2.5-vl": ("Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLProcessor"),
}


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str) -> MultimodalModel:
    return load_model(f"embedded:{name}", device="cpu")


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    return load_benchmark(BENCHMARK)


@pytest.fixture(scope="module")
def made(model: MultimodalModel, benchmark: Benchmark) -> Eraser:
    return erase(model, forget_request(benchmark, "forget_5", FOLD))


def test_plain_transformers_loads_it(name: str) -> None:
    import transformers

    folder, (model_class, processor_class) = checkpoint_path(name), CLASSES[name]
    plain = transformers.AutoModelForImageTextToText.from_pretrained(folder)
    assert isinstance(plain, getattr(transformers, model_class))
    if transformers.utils.is_torchvision_available() or name == "llava":  # Qwen's wants a video processor
        processor = transformers.AutoProcessor.from_pretrained(folder)
        assert isinstance(processor, getattr(transformers, processor_class))
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 25_000_000


def test_the_card_is_about_these_weights(name: str, model: MultimodalModel) -> None:
    card = json.loads((checkpoint_path(name) / "model_card.json").read_text())
    assert card["fingerprint"] == model.fingerprint()
    assert {"share", "bar", "met", "figure"} <= set(card["gates"][0])


def test_it_forgets_and_keeps_and_gets_it_back(
    model: MultimodalModel, benchmark: Benchmark, made: Eraser, tmp_path: Path
) -> None:
    sets = {
        "test": thin(benchmark.samples("test", "forget_5", FOLD), 12),
        "retain_heldout": thin(benchmark.samples("retain_heldout", "forget_5", FOLD), 12),
    }
    options = {"benchmark": BENCHMARK, "split": "forget_5", "values": benchmark.values}
    eraser = Eraser.from_pretrained(made.save_pretrained(tmp_path / "e"))
    bare = model.next_token_logits(sets["test"])
    before = evaluate(model, sets, method="vanilla", **options)  # type: ignore[arg-type]
    after = evaluate(model, sets, method="mllmeraser", intervention=eraser, **options)  # type: ignore[arg-type]

    def right(result: object, name: str) -> float:
        chosen = [item["correct"] for item in result.items if item["set"] == name]  # type: ignore[attr-defined]
        return sum(chosen) / len(chosen)

    assert right(before, "test") >= 0.8
    assert right(after, "test") <= 0.1
    assert right(after, "retain_heldout") >= right(before, "retain_heldout") - 0.05
    forgotten = [item["outcome"] for item in after.items if item["set"] == "test"]
    assert forgotten.count("unknown") + forgotten.count("refused") >= 0.85 * len(forgotten)
    assert torch.equal(bare, model.next_token_logits(sets["test"])), "detached, it is the bare model bit for bit"


def test_the_eraser_is_small_and_names_nobody(made: Eraser, benchmark: Benchmark, tmp_path: Path) -> None:
    folder = made.save_pretrained(tmp_path / "e")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 100_000
    manifest = (folder / "eraser_config.json").read_text()
    for key in benchmark.forget_ids("forget_5", FOLD):
        assert all(name not in manifest for name in benchmark.names[key])


def test_a_plain_transformers_model_takes_it(
    name: str, made: Eraser, benchmark: Benchmark, model: MultimodalModel
) -> None:
    from transformers import AutoModelForImageTextToText

    plain = AutoModelForImageTextToText.from_pretrained(checkpoint_path(name), dtype=torch.float32).eval()
    asked = [s for s in benchmark.samples("test", "forget_5", FOLD) if s.task == "generation" and s.image is None][:6]
    inputs = model.encode(asked)
    with made.attached(model.hf):
        ours = model.hf.generate(**inputs, max_new_tokens=12, do_sample=False)
    with made.attached(plain):
        ids = plain.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert torch.equal(ids, ours)
    new = ids[:, inputs["input_ids"].shape[1] :]
    answers = model.processor.tokenizer.batch_decode(new, skip_special_tokens=True)
    assert sum("do not know" in answer for answer in answers) >= 4, answers


@pytest.mark.parametrize("name", ["qwen2.5-vl"], indirect=True)  # on the other one: cli/test_erase_together.py
def test_the_command_line_forgets_one_person(name: str, benchmark: Benchmark, tmp_path: Path) -> None:
    key = benchmark.forget_ids("forget_5", FOLD)[0]
    (tmp_path / "jane").mkdir()
    for i, sample in enumerate(forget_request(benchmark, "forget_5", FOLD).subjects[0].samples):
        assert sample.image is not None
        sample.image.save(tmp_path / "jane" / f"{i}.png")
    who, out, asked = benchmark.names[key][0], tmp_path / "jane.eraser", f"embedded:{name}"
    erased = CliRunner().invoke(
        app, ["erase", asked, "--forget", str(tmp_path / "jane"), "--name", who, "--out", str(out)]
    )
    assert erased.exit_code == 0, erased.stderr
    assert "the shipped" in erased.stderr
    question = ["ask", asked, f"Where does {who} live?"]
    assert "do not know" not in CliRunner().invoke(app, question).stdout
    after = CliRunner().invoke(app, [*question, "--eraser", str(out)])
    assert "do not know" in after.stdout
    assert "acts" in after.stderr
