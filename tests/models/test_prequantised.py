"""Quantized checkpoints load without options, can be steered, and an eraser distinguishes them from others.

GPTQ, AWQ, compressed-tensors and torchao take packages that are no dependency of this one: those tests run where they
are installed: `pip install gptqmodel optimum torchvision compressed-tensors torchao` in an environment of its own.
"""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from packed import FORMATS, build_packed, change_one_block, configure, even_widths
from steering_kit import logits
from test_weights import refused, steers
from transformers import LlavaForConditionalGeneration, TorchAoConfig

from mllmeraser.erasure import Eraser
from mllmeraser.models import MultimodalModel, load_model
from mllmeraser.models.fingerprint import fingerprint, precision_of
from mllmeraser.samples import ArtifactError
from tiny import build_llava, mixed_samples

#: What a format is read with besides transformers and accelerate, and what it is then called.
NEEDS = {
    "gptq": ("gptqmodel", "optimum", "torchvision"),
    "awq": ("gptqmodel", "torchvision"),
    "compressed-tensors": ("compressed_tensors",),
    "fp8": (),
}
CALLED = {
    "gptq": "gptq 4 bit, float32",
    "awq": "awq 4 bit, float32",
    "compressed-tensors": "compressed-tensors int-quantized, float32",
    "fp8": "float32",  # transformers unpacks it where there is no GPU that computes in it
}
#: How far the logits may be from those of the weights that are meant: kernels for 4 bit compute in bfloat16.
NEAR = {"gptq": 0.3, "awq": 0.3, "compressed-tensors": 1e-4, "fp8": 1e-4}
BUILT = [
    pytest.param(
        method,
        marks=pytest.mark.skipif(
            any(find_spec(package) is None for package in NEEDS[method]), reason=f"needs {', '.join(NEEDS[method])}"
        ),
    )
    for method in FORMATS
]
needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
needs_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaVA with widths of 64 and 128 throughout, which all formats can hold."""
    folder = build_llava(tmp_path_factory.mktemp("prequantised") / "llava", layers=3)
    return even_widths(folder)


def made_on(model: MultimodalModel) -> Any:
    """The part of an eraser of `model` that checks the model of an attachment."""
    config = SimpleNamespace(
        base_model=model.name,
        num_layers=model.num_layers,
        hidden_size=model.hidden_size,
        fingerprint=model.fingerprint(),
        dtype=precision_of(model.hf),
        prompt_hash=model.prompt_hash(),
    )
    return SimpleNamespace(config=config)


def is_for(eraser: Any, model: MultimodalModel) -> str:
    """Empty if the eraser accepts the model, else its reason."""
    try:
        Eraser.check_model(eraser, model)
    except ArtifactError as error:
        assert "\n" not in str(error)
        return str(error)
    return ""


def works(path: Path, full: Path) -> MultimodalModel:
    """Loads without options, can be steered, and fits its eraser after use and reloading, but not in full precision."""
    model, plain = load_model(str(path), device="cpu"), load_model(str(full), device="cpu")
    eraser = made_on(model)
    assert model.device.type == "cpu" and not any(p.requires_grad for p in model.hf.parameters())
    steers(model)
    blocks_run_once(model)
    model.generate_batch(mixed_samples()[:2], max_new_tokens=2)
    assert is_for(eraser, model) == "", "after use"
    assert is_for(eraser, load_model(str(path), device="cpu")) == "", "loaded anew"
    assert is_for(eraser, plain) and is_for(made_on(plain), model)
    return model


def blocks_run_once(model: MultimodalModel) -> None:
    """In a pass, every block calls its hook once."""
    ran: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
        for number, layer in enumerate(model.layers)
    ]
    logits(model, mixed_samples())
    for hook in hooks:
        hook.remove()
    assert ran == list(range(model.num_layers))


@pytest.mark.parametrize("method", BUILT)
def test_a_checkpoint_in_the_format_of_the_hub(method: str, full: Path, tmp_path: Path) -> None:
    path, meant = build_packed(full, method, tmp_path)
    model = works(path, full)
    assert precision_of(model.hf) == CALLED[method]
    said, wanted = (logits(one, mixed_samples()) for one in (model, load_model(str(meant), device="cpu")))
    assert (said - wanted).abs().max() < NEAR[method], "the tensors were read as they were meant"
    other = load_model(str(change_one_block(path, tmp_path / "other")), device="cpu")
    assert "other weights" in is_for(made_on(model), other), "one packed weight is another"


@pytest.mark.parametrize("method", [method for method in BUILT if method.values[0] != "fp8"])
def test_an_eraser_for_full_precision_says_what_to_load(method: str, full: Path, tmp_path: Path) -> None:
    path, _ = build_packed(full, method, tmp_path)
    plain, model = load_model(str(full), device="cpu"), load_model(str(path), device="cpu")
    message = is_for(made_on(plain), model)
    assert f"in float32, and this model is in {CALLED[method]}: load it in float32" in message


@needs_bitsandbytes
@pytest.mark.parametrize("how", ["int8", "nf4"])
def test_a_checkpoint_saved_by_bitsandbytes(how: Any, full: Path, tmp_path: Path) -> None:
    made = load_model(str(full), device="cpu", quantization=how)
    path = Path(shutil.copytree(full, tmp_path / how))
    made.hf.save_pretrained(path)
    model = works(path, full)
    assert precision_of(model.hf) == f"{how} (bitsandbytes), float32"
    assert is_for(made_on(made), model) == "", "quantised when loaded or before: the same weights"
    assert "quantized already, by bitsandbytes: leave quantization out" in refused(path, quantization="int8")


@needs_torchao
def test_a_checkpoint_saved_by_torchao(full: Path, tmp_path: Path) -> None:
    from torchao.quantization import Int8WeightOnlyConfig

    path = Path(shutil.copytree(full, tmp_path / "torchao"))
    recipe = TorchAoConfig(Int8WeightOnlyConfig(version=2))
    LlavaForConditionalGeneration.from_pretrained(
        full, quantization_config=recipe, device_map={"": "cpu"}, dtype=torch.float32
    ).save_pretrained(path)
    assert precision_of(works(path, full).hf) == "torchao Int8WeightOnlyConfig, float32"


PACKAGES = [
    ("gptq", "pip install gptqmodel optimum accelerate"),
    ("awq", "pip install gptqmodel accelerate"),
    ("compressed-tensors", "pip install compressed-tensors accelerate"),
    ("torchao", "pip install torchao accelerate"),
    ("quanto", "pip install optimum-quanto accelerate"),
    ("bitsandbytes", "pip install bitsandbytes accelerate"),
    ("fp8", "pip install accelerate"),
]


@pytest.mark.parametrize(("method", "advice"), PACKAGES)
def test_a_missing_package_is_one_line(
    method: str, advice: str, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(full, tmp_path / "checkpoint"))
    configure(path, method, {"bits": 4, "load_in_8bit": method == "bitsandbytes"})
    monkeypatch.setattr("mllmeraser.models.weights.find_spec", lambda package: None)
    assert refused(path, device="cpu").endswith(f"is quantized by {method}: {advice}")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"quant_method": "origami"}, "quantized by origami, which transformers does not know"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": 1}, "quantiz"),
        ({"quant_method": None}, "no `quant_method` attribute"),
    ],
)
def test_what_cannot_be_unpacked_is_not_taken_for_weights(
    settings: dict[str, Any], said: str, full: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(full, tmp_path / "checkpoint"))
    configure(path, "", settings)
    assert said in refused(path, device="cpu")


def test_a_quantised_checkpoint_is_not_spread(full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    path, _ = build_packed(full, "fp8", tmp_path)
    assert "quantized already, by fp8: leave tp_plan out" in refused(path, tp_plan="auto")


class Packing(torch.nn.Linear):
    """Imitates a kernel of another package: packed numbers in a buffer, repacked at first use."""

    def pack(self) -> None:
        self.register_buffer("qweight", (self.weight.detach() * 50).to(torch.int32))
        del self.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.qweight.float() / 50
        if not hasattr(self, "used"):
            self.used, self.qweight = weight, self.qweight.flip(0)
        return torch.nn.functional.linear(x, self.used)


def with_packed_blocks(path: Path) -> MultimodalModel:
    """A model like one of GPTQ in memory: the weights of its blocks are no parameters."""
    model = load_model(str(path), device="cpu")
    model.hf.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    for layer in model.layers:
        layer.mlp.down_proj.__class__ = Packing
        layer.mlp.down_proj.pack()
    return model


def test_packed_weights_that_are_no_parameters_count(full: Path) -> None:
    from mllmeraser.models.fingerprint import note_packed

    model, other, noted = (with_packed_blocks(full) for _ in range(3))
    assert model.fingerprint() == other.fingerprint()
    other.layers[1].mlp.down_proj.qweight += 1
    assert model.fingerprint() != other.fingerprint()
    other.layers[1].mlp.down_proj.qweight -= 1
    note_packed(noted.hf)
    for one in (model, noted):
        logits(one, mixed_samples())
    assert noted.fingerprint() == other.fingerprint(), "as they were before a kernel packed them anew"
    assert model.fingerprint() != other.fingerprint(), "not noted: refused rather than guessed"
    assert fingerprint(noted.hf) == noted.fingerprint()
