from __future__ import annotations

import json
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from mllmeraser.models import load_model, loading, register_resolver
from mllmeraser.samples import InputError, UnknownFamilyError
from tiny import mixed_samples


@pytest.fixture
def resolvers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_RESOLVERS", dict(loading._RESOLVERS))


@pytest.fixture
def checkpoint(tiny_llava_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llava_path, tmp_path / "checkpoint"))


def refused(name: object, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        load_model(str(name), device="cpu", **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message and "\n" not in message
    return message


def test_loaded_model_is_frozen(tiny_llava_path: Path) -> None:
    model = load_model(str(tiny_llava_path), device="cpu")
    assert model.name == str(tiny_llava_path)
    assert not model.hf.training
    assert not any(parameter.requires_grad for parameter in model.hf.parameters())
    assert model.dtype == torch.float32 and model.device == torch.device("cpu")


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_dtype_by_name_or_value(tiny_llava_path: Path, dtype: torch.dtype | str) -> None:
    model = load_model(str(tiny_llava_path), device="cpu", dtype=dtype)
    assert model.dtype == torch.bfloat16
    assert "unknown dtype" in refused(tiny_llava_path, dtype="int64")
    assert "unknown dtype" in refused(tiny_llava_path, dtype="float17")


def test_pictures_follow_the_dtype(tiny_qwen_path: Path) -> None:
    model = load_model(str(tiny_qwen_path), device="cpu", dtype="bfloat16")
    assert model.encode(mixed_samples())["pixel_values"].dtype == torch.bfloat16
    assert len(model.generate(mixed_samples(), max_new_tokens=2)) == 7


def test_float32_on_the_cpu_whatever_the_checkpoint_holds(checkpoint: Path) -> None:
    half = load_model(str(checkpoint), device="cpu", dtype="float16")
    half.hf.save_pretrained(checkpoint)
    assert load_model(str(checkpoint), device="cpu").dtype == torch.float32


def test_unknown_device(tiny_llava_path: Path) -> None:
    with pytest.raises(InputError, match="unknown device"):
        load_model(str(tiny_llava_path), device="abacus")


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "~/no-such-folder-here", "a/b/c", "dir/"])
def test_missing_folder(name: str) -> None:
    assert "no model folder" in refused(name)


def test_hub_id_that_cannot_be_had() -> None:
    assert "no-such-owner/no-such-model" in refused("no-such-owner/no-such-model")


def test_folder_without_a_model(tmp_path: Path) -> None:
    assert "config.json" in refused(tmp_path)


def test_empty_name_and_unknown_prefix() -> None:
    assert "no model given" in refused("")
    assert "embedded:..." in refused("builtin:llava")


def test_prefix_is_resolved_lazily(resolvers: None, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def path(name: str) -> Path:
        if name != "one":
            raise KeyError(f"no shelf {name!r}; there is: one")
        return checkpoint

    module = types.ModuleType("a_shelf_of_models")
    module.path = path  # type: ignore[attr-defined]
    register_resolver("shelf", "a_shelf_of_models:path")
    assert "cannot look up 'shelf:one'" in refused("shelf:one")
    monkeypatch.setitem(sys.modules, "a_shelf_of_models", module)
    assert load_model("shelf:one", device="cpu").name == "shelf:one"
    assert "no shelf 'two'; there is: one" in refused("shelf:two")


def test_resolver_may_point_nowhere(resolvers: None, tmp_path: Path) -> None:
    register_resolver("shelf", lambda name: tmp_path / name)
    assert "holds no checkpoint" in refused("shelf:one")


def test_models_do_not_import_the_embedded_ones() -> None:
    assert loading._RESOLVERS["embedded"] == "mllmeraser.embedded:checkpoint_path"


def test_missing_weights_are_never_filled_in(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    weights = load_file(file)
    name = next(key for key in weights if key.endswith("layers.1.mlp.up_proj.weight"))
    del weights[name]
    save_file(weights, file, metadata={"format": "pt"})
    assert "lacks 1 weights" in refused(checkpoint)


def test_pickled_weights_are_not_read(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    torch.save(load_file(file), checkpoint / "pytorch_model.bin")
    file.unlink()
    assert "cannot load the weights" in refused(checkpoint)


def test_truncated_weights(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    assert "cannot load the weights" in refused(checkpoint)


def test_missing_tokenizer(checkpoint: Path) -> None:
    for file in checkpoint.glob("*token*"):
        file.unlink()
    assert "cannot load the processor" in refused(checkpoint)


def test_broken_configuration(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text("{")
    assert "cannot load the model" in refused(checkpoint)


def test_unknown_family_is_found_before_weights_are_read(tmp_path: Path) -> None:
    LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2).save_pretrained(
        tmp_path
    )
    with pytest.raises(UnknownFamilyError, match=r"layers \(2\)"):
        load_model(str(tmp_path), device="cpu")


def test_type_that_transformers_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "spell_book"}')
    with pytest.raises(UnknownFamilyError, match="Known families: .*llava-next"):
        load_model(str(tmp_path), device="cpu")


def test_tokenizer_without_padding_token_gets_one(checkpoint: Path) -> None:
    file = checkpoint / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings.pop("pad_token")
    file.write_text(json.dumps(settings))
    tokenizer = load_model(str(checkpoint), device="cpu").processor.tokenizer
    assert tokenizer.pad_token == tokenizer.eos_token
