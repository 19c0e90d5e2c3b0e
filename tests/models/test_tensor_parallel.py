"""A model spread over two processes (gloo, on the CPU) is read and steered like the whole model."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_weights import refused
from torch.distributed.tensor import distribute_tensor

from mllmeraser.models import load_model

pytest.importorskip("transformers.distributed.configuration_utils", reason="this transformers cannot spread a model")
if "src_data_rank" not in inspect.signature(distribute_tensor).parameters:
    pytest.skip("this torch cannot spread a model", allow_module_level=True)

SAME = 1e-4


@pytest.fixture(scope="module")
def said(tiny_llava_path: Path, tiny_qwen_path: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of both processes."""
    out = tmp_path_factory.mktemp("spread")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        str(Path(__file__).with_name("spread.py")), str(out), str(tiny_llava_path), str(tiny_qwen_path),
    ]  # fmt: skip
    tests = Path(__file__).parents[1]
    room = {
        "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join([str(tests), str(tests / "erasure")]),
    }  # fmt: skip
    running = subprocess.Popen(
        command, env={**os.environ, **room}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        spoken, _ = running.communicate(timeout=200)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 0, spoken[-3000:]
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["tiny-llava", "tiny-qwen"])
def test_a_spread_model_is_steered_as_the_whole_one(said: list[dict[str, Any]], family: str) -> None:
    for found in (process[family] for process in said):
        own, all_of_it = found["share"]
        assert own < 0.8 * all_of_it, "each process holds a share"
        kind, shape = found["hooks"]
        assert kind == "Tensor" and shape[-1] == 64, "hooks see whole states"
        assert max(found["bare"], found["states"], found["scores"], found["steered"]) < SAME
        assert found["moved"] > 1 and found["answers"]
        assert 0 < sum(map(sum, found["fired"])) < len(found["fired"])
        assert found["bits"], "no trace is left"
        assert found["fingerprint"] and found["taken"], "an eraser made on the whole model is for the spread one"


@pytest.mark.slow
def test_both_processes_say_the_same_to_the_bit(said: list[dict[str, Any]]) -> None:
    first, second = ({k: v for k, v in process.items() if k != "misused"} for process in said)
    assert {k: v["digest"] for k, v in first.items()} == {k: v["digest"] for k, v in second.items()}


@pytest.mark.slow
def test_processes_that_do_not_steer_alike_give_no_answer(said: list[dict[str, Any]]) -> None:
    """Half of the shift would be neither the model's answer nor the erased one."""
    for process in said:
        assert process["misused"] == dict.fromkeys(process["misused"], True) and len(process["misused"]) == 8


@pytest.mark.parametrize(
    ("name", "value"), [("device", "cpu"), ("device_map", "auto"), ("quantization", "int8"), ("adapter", "a/b")]
)
def test_what_was_not_tried_with_it_is_refused(
    tiny_llava_path: Path, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = refused(tiny_llava_path, tp_plan="auto", **{name: value})
    assert f"cannot be combined with {name}" in message


def test_heads_that_cannot_be_dealt_out_evenly_are_refused(
    tiny_llava_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert "num_key_value_heads 2" in refused(tiny_llava_path, tp_plan="auto")


def test_a_plan_that_spreads_nothing_is_refused(tiny_llava_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    whole = load_model(str(tiny_llava_path), device="cpu").hf
    monkeypatch.setattr("mllmeraser.models.weights._pretrained", lambda *_: whole)
    assert "no plan to spread" in refused(tiny_llava_path, tp_plan="auto")


def test_one_process_alone_cannot_share(tiny_llava_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert "torchrun" in refused(tiny_llava_path, tp_plan="auto")
    assert "known is auto" in refused(tiny_llava_path, tp_plan="rows")
