"""Precision, quantization, offloading and adapters: they load as requested, and erasers check them."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from packed import even_widths
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from steering_kit import logits, make_plan

from mllmeraser.erasure.steering import attach
from mllmeraser.models import load_model
from mllmeraser.models.fingerprint import precision_of
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import AttachError, InputError
from tiny import mixed_samples

needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


def refused(name: object, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        load_model(str(name), **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message and "\n" not in message
    return message


def steers(model: MultimodalModel) -> None:
    """Strength 0 leaves the logits as they are, a shift moves them, and nothing stays."""
    samples = mixed_samples()
    bare = logits(model, samples)
    with attach(model, make_plan(model, strength=0.0)):
        assert torch.equal(logits(model, samples), bare)
    with attach(model, make_plan(model)):
        assert not torch.allclose(logits(model, samples), bare, atol=1e-3)
    assert torch.equal(logits(model, samples), bare)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_steering_in_every_precision(tiny_llava_path: Path, dtype: str) -> None:
    model = load_model(str(tiny_llava_path), device="cpu", dtype=dtype)
    assert precision_of(model.hf) == dtype
    steers(model)


@pytest.fixture(scope="module")
def even_path(tiny_llava_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny LLaVA with widths of 64 and 128 throughout: 4-bit weights come in blocks of 64."""
    folder = Path(shutil.copytree(tiny_llava_path, tmp_path_factory.mktemp("even") / "llava"))
    return even_widths(folder)


@needs_bitsandbytes
@pytest.mark.parametrize("how", ["int8", "nf4"])
def test_quantised_weights_steer_and_are_told_from_full_ones(even_path: Path, how: Any) -> None:
    full = load_model(str(even_path), device="cpu")
    model = load_model(str(even_path), device="cpu", quantization=how)
    kinds = {type(module).__name__ for module in model.layers.modules()}
    assert kinds & {"Linear8bitLt", "Linear4bit"}, "the blocks are quantised"
    assert precision_of(model.hf) == f"{how} (bitsandbytes), float32"
    assert model.fingerprint() != full.fingerprint()
    assert model.fingerprint() == load_model(str(even_path), device="cpu", quantization=how).fingerprint()
    steers(model)
    assert model.fingerprint() == load_model(str(even_path), device="cpu", quantization=how).fingerprint()


def spread(model: MultimodalModel) -> dict[str, str]:
    """A device map that leaves the last block on the disk."""
    last = len(model.layers) - 1
    blocks = {f"model.language_model.layers.{k}": "disk" if k == last else "cpu" for k in range(last + 1)}
    rest = ("model.vision_tower", "model.multi_modal_projector", "model.language_model.embed_tokens",
            "model.language_model.norm", "model.language_model.rotary_emb", "lm_head")  # fmt: skip
    return {**blocks, **dict.fromkeys(rest, "cpu")}


def test_a_model_that_is_partly_on_the_disk(tiny_llava_path: Path) -> None:
    whole = load_model(str(tiny_llava_path), device="cpu")
    model = load_model(str(tiny_llava_path), device_map=spread(whole))
    assert any(parameter.is_meta for parameter in model.layers.parameters()), "a block is on the disk"
    assert model.fingerprint() == whole.fingerprint()
    assert torch.equal(logits(model, mixed_samples()), logits(whole, mixed_samples()))
    steers(model)


@pytest.fixture
def adapter(tiny_llava_path: Path, tmp_path: Path) -> Path:
    base = load_model(str(tiny_llava_path), device="cpu")
    settings = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    get_peft_model(base.hf, settings).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_on_the_weights(tiny_llava_path: Path, adapter: Path) -> None:
    base = load_model(str(tiny_llava_path), device="cpu")
    model = load_model(str(tiny_llava_path), device="cpu", adapter=str(adapter))
    assert not torch.allclose(logits(model, mixed_samples()), logits(base, mixed_samples()), atol=1e-3)
    assert model.fingerprint() != base.fingerprint(), "an eraser of the one is not for the other"
    assert not any(parameter.requires_grad for parameter in model.hf.parameters())
    steers(model)


def test_an_adapter_is_read_from_safetensors_alone(tiny_llava_path: Path, adapter: Path, tmp_path: Path) -> None:
    pickled = Path(shutil.copytree(adapter, tmp_path / "pickled"))
    weights = pickled / "adapter_model.safetensors"
    torch.save(load_file(weights), pickled / "adapter_model.bin")
    weights.unlink()
    assert "adapter_model.safetensors is missing" in refused(tiny_llava_path, adapter=str(pickled))
    assert "no-such/adapter" in refused(tiny_llava_path, adapter="no-such/adapter")


def test_a_peft_wrapper_is_refused_and_what_is_inside_is_not(tiny_llava_path: Path) -> None:
    model = load_model(str(tiny_llava_path), device="cpu")
    wrapped = get_peft_model(model.hf, LoraConfig(r=4, target_modules=["q_proj"]))
    with pytest.raises(AttachError, match="get_base_model"):
        attach(wrapped, make_plan(model))
    with attach(wrapped.get_base_model(), make_plan(model)) as handle:
        assert handle.names


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "cpu", "device_map": "auto"}, "not both"),
        ({"quantization": "int3"}, "known are int8, nf4"),
    ],
)
def test_what_does_not_go_together_is_refused(tiny_llava_path: Path, options: dict[str, object], said: str) -> None:
    assert said in refused(tiny_llava_path, **options)


def test_a_missing_package_is_named(tiny_llava_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mllmeraser.models.weights.find_spec", lambda package: None)
    assert "mllmeraser[quantised]" in refused(tiny_llava_path, quantization="int8")
