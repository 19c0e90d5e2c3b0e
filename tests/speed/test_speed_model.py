"""Overhead of an attached eraser: the whole path on tiny models, and a complete report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from full_size import NAMES, config_of, random_eraser, random_model, random_prompts
from speed_kit import Run, is_ratio, is_timing
from speed_model import decoding, empty_hooks, main, prefill
from transformers import LlavaForConditionalGeneration, Qwen2_5_VLForConditionalGeneration
from worlds import quick, small_request

from mllmeraser.erasure import fit
from mllmeraser.erasure.steering import attach
from mllmeraser.models.model import MultimodalModel

PUBLISHED = {"llava-1.5-7b": 7_063_427_072, "qwen2.5-vl-7b": 8_292_166_656}
DRY = ["--layers", 4, "--width", 64, "--batches", 1, 2, "--repeats", 2, "--warmup", 0, "--new-tokens", 2]


@pytest.mark.parametrize("name", NAMES)
def test_full_size_is_the_published_size(name: str) -> None:
    kind = LlavaForConditionalGeneration if name == NAMES[0] else Qwen2_5_VLForConditionalGeneration
    with torch.device("meta"):
        model = kind(config_of(name))
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name]


@pytest.fixture(scope="module", params=NAMES)
def dry(request: pytest.FixtureRequest) -> Any:
    """A random model of few layers."""
    return random_model(config_of(request.param, 4, 64), "cpu", torch.float32, 0)


@torch.no_grad()
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_the_random_eraser_moves_every_prompt(dry: Any, preset: str) -> None:
    inputs = random_prompts(dry, 2, 0)
    bare = prefill(dry, inputs).logits
    with attach(dry, random_eraser(dry, preset, 0)) as attachment:
        moved = prefill(dry, inputs).logits
        assert bool((attachment.readings.amplitudes != 0).all())
    assert bool(((moved - bare).abs().amax(-1) > 1e-4).all())
    assert torch.equal(prefill(dry, inputs).logits, bare)


@torch.no_grad()
def test_decoding_says_what_generate_says(dry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, seen = random_prompts(dry, 2, 0), []
    with attach(dry, random_eraser(dry, "default", 0)) as attachment:
        options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
        wanted = dry.generate(**inputs, **options)[:, -5:]

        def forward(**arguments: Any) -> Any:
            out = dry(**arguments)
            seen.append(out.logits[:, -1].argmax(-1))
            return out

        with decoding(dry, forward, inputs, 4, lambda: attachment.prompt(inputs["input_ids"].shape[1])) as run:
            run()
    assert torch.equal(torch.stack(seen, 1), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_dry_run_of_a_full_size_model(name: str, report: Run) -> None:
    found = report(main, "--full-size", name, *DRY, "--eager-only")
    assert f"--full-size {name}" in found["provenance"]["command"]
    assert [entry["key"] for entry in found["results"]] == ["1 rows, eager", "2 rows, eager"]
    for entry in found["results"]:
        for stage in ("prefill", "decoding"):
            assert set(entry["seconds"][stage]) == {"bare", "default", "paper"}
            assert all(is_timing(times, 2) for times in entry["seconds"][stage].values())
            assert all(is_ratio(entry["overhead_percent"][stage][preset]) for preset in ("default", "paper"))


@pytest.mark.slow
def test_a_compiled_model_is_steered_as_an_eager_one(report: Run) -> None:
    arguments = [*DRY, "--batches", 2, "--repeats", 1, "--new-tokens", 1, "--backend", "eager", "--presets", "default"]
    found = report(main, "--full-size", NAMES[0], *arguments)
    entry = found["results"][-1]
    assert entry["key"] == "2 rows, compiled"
    assert set(entry["seconds"]) == set(entry["logits"]) == {"bare", "default"}
    assert entry["logits"]["bare"]["moved"] < 1e-5 < 1e-3 < entry["logits"]["default"]["moved"]
    assert max(side["from_eager"] for side in entry["logits"].values()) < 1e-5
    breaks = entry["graph_breaks"]
    assert breaks["default"]["prefill"] >= breaks["bare"]["prefill"] >= 0


def test_full_size_without_a_gpu_is_one_line_and_code_2(
    report: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for arguments in ([], ["--layers", 2]):
        with pytest.raises(SystemExit) as ended:
            report(main, "--full-size", NAMES[1], *arguments)
        (line,) = capsys.readouterr().err.splitlines()
        assert ended.value.code == 2 and "needs a CUDA device" in line


def test_overhead_on_a_model_with_an_eraser(
    tiny_llava: MultimodalModel, tiny_llava_path: Path, tmp_path: Path, report: Run
) -> None:
    folder = fit(tiny_llava, small_request(), quick()).eraser.save_pretrained(tmp_path / "eraser")
    arguments = ["--model", tiny_llava_path, "--eraser", folder, "--batch", 3]
    found = report(main, *arguments, "--repeats", 2, "--warmup", 0, "--new-tokens", 2)
    assert found["fingerprint"] == tiny_llava.fingerprint()
    assert [entry["key"] for entry in found["results"]] == ["image, eager", "text, eager", "turns, eager"]
    for entry in found["results"]:
        assert set(entry["seconds"]) == {"prefill", "decoding", "generate"} and entry["rows"] == 3
        for side in ("attached", "empty hooks"):
            assert all(is_ratio(stage[side]) for stage in entry["overhead_percent"].values())


def test_empty_hooks_are_where_the_erasers_are_and_go(tiny_llava: MultimodalModel) -> None:
    eraser = fit(tiny_llava, small_request(), quick()).eraser

    def counts() -> list[int]:
        return [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in tiny_llava.hf.modules()]

    bare = counts()
    with eraser.attached(tiny_llava):
        steered = counts()
    with empty_hooks(tiny_llava, eraser):
        assert counts() == steered != bare
    assert counts() == bare


def test_an_eraser_that_is_not_there_is_one_line_and_code_2(
    tiny_llava_path: Path, report: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        report(main, "--model", tiny_llava_path, "--eraser", "nowhere")
    *_, line = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and "nowhere" in line
