"""Adapters and weights: attach, detach without a trace, save, load, refuse."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from methods_kit import assert_same, logits, quick, request, snapshot
from safetensors.torch import load_file
from torch import nn

from mllmeraser.methods import AdapterProduct, Product, WeightProduct, load_method, load_product
from mllmeraser.methods.product import CONFIG_FILE
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import ArtifactError, AttachError, InputError
from mllmeraser.samples.sealed import SEAL, sealed

KINDS = {"adapter": AdapterProduct, "weights": WeightProduct}


@pytest.fixture(scope="module")
def products(tiny_llava: MultimodalModel) -> dict[str, Product]:
    made = {}
    for kind, trainable in (("adapter", "lora"), ("weights", "full")):
        settings = quick(trainable=trainable, steps=2)
        made[kind] = load_method("ga").make(tiny_llava, request(), settings=settings)
    return made  # type: ignore[return-value]


@pytest.fixture(params=["adapter", "weights"])
def product(request: pytest.FixtureRequest, products: dict[str, Product]) -> Product:
    return products[request.param]


def test_kinds(products: dict[str, Product]) -> None:
    assert {kind: type(one) for kind, one in products.items()} == KINDS


def test_attached_it_acts_and_detached_it_never_was(tiny_llava: MultimodalModel, product: Product) -> None:
    before, said = snapshot(tiny_llava), logits(tiny_llava)
    with product.attached(tiny_llava) as handle:
        assert handle.attached and handle.names == ("ga",)
        assert not torch.equal(logits(tiny_llava), said)
    assert_same(tiny_llava, before)
    assert torch.equal(logits(tiny_llava), said)
    with pytest.raises(RuntimeError, match="half-way"), product.attached(tiny_llava.hf):
        raise RuntimeError("half-way")
    assert_same(tiny_llava, before)


def test_round_trip(tiny_llava: MultimodalModel, product: Product, tmp_path: Path) -> None:
    folder = product.save_pretrained(tmp_path / "p")
    again = load_product(folder)
    assert type(again) is type(product) and again.config == product.config
    assert again.tensors.keys() == product.tensors.keys()
    with product.attached(tiny_llava):
        said = logits(tiny_llava)
    with again.attached(tiny_llava):
        assert torch.equal(logits(tiny_llava), said)
    assert [one.name for one in tmp_path.iterdir()] == ["p"], "no scratch folder is left"
    with pytest.raises(InputError, match="exists"):
        product.save_pretrained(folder)


def test_a_failed_save_leaves_nothing(product: Product, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        product.save_pretrained(tmp_path / "p")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("keep", [0, 9, -1])
def test_truncated_tensors_are_refused(product: Product, tmp_path: Path, keep: int) -> None:
    folder = product.save_pretrained(tmp_path / "p")
    file = folder / product.tensor_file
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(InputError, match="corrupt or truncated"):
        load_product(folder)


def test_what_is_no_safetensors_is_refused_whatever_its_checksum(product: Product, tmp_path: Path) -> None:
    folder = product.save_pretrained(tmp_path / "p")
    (folder / product.tensor_file).write_bytes(b"not tensors")
    rewrite(folder, tensors_sha256=hashlib.sha256(b"not tensors").hexdigest())
    with pytest.raises(ArtifactError, match=product.tensor_file):
        load_product(folder)


def rewrite(folder: Path, **changes: Any) -> None:
    """Change the manifest, and its digest with it, as another release may have written it."""
    content = {**json.loads((folder / CONFIG_FILE).read_text()), **changes}
    content.pop(SEAL)
    (folder / CONFIG_FILE).write_text(json.dumps(sealed(content)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"format_version": 2}, "newer"), ({"format_version": "1"}, "not the configuration"), ({"seed": "x"}, "seed"),
     ({"surprise": 1}, "surprise"), ({"kind": "prompt"}, "kind")],
)  # fmt: skip
def test_bad_manifests_are_refused(product: Product, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = product.save_pretrained(tmp_path / "p")
    rewrite(folder, **changes)
    with pytest.raises(ArtifactError, match=message) as caught:
        load_product(folder)
    assert "\n" not in str(caught.value)


def test_a_manifest_changed_by_hand_is_refused(product: Product, tmp_path: Path) -> None:
    file = product.save_pretrained(tmp_path / "p") / CONFIG_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), "seed": 77}))
    with pytest.raises(ArtifactError, match="was changed"):
        load_product(tmp_path / "p")


def test_missing_and_mistaken_folders_are_refused(products: dict[str, Product], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no product"):
        load_product(tmp_path)
    folder = products["adapter"].save_pretrained(tmp_path / "p")
    with pytest.raises(ArtifactError, match="kind 'adapter'"):
        WeightProduct.from_pretrained(folder)


def test_another_model_is_refused_and_left_alone(
    tiny_qwen: MultimodalModel, tiny_llava_path: Path, product: Product
) -> None:
    other = load_model(str(tiny_llava_path), device="cpu")
    with torch.no_grad():
        next(other.hf.parameters()).add_(1.0)
    for model in (tiny_qwen, other):
        before = snapshot(model)
        with pytest.raises(AttachError, match="other weights"):
            product.attach(model)
        assert_same(model, before)


@pytest.mark.parametrize("fault", ["name", "shape", "module"])
def test_adapters_that_do_not_fit_are_refused(
    tiny_llava: MultimodalModel, products: dict[str, Product], fault: str
) -> None:
    good = products["adapter"]
    tensors = dict(good.tensors)
    last = sorted(tensors)[-1].removesuffix(".lora_B.weight")
    down, up = tensors.pop(f"{last}.lora_A.weight"), tensors.pop(f"{last}.lora_B.weight")
    place = {"name": f"{last}_gone", "shape": last, "module": "base_model.model.model.language_model.norm"}[fault]
    tensors[f"{place}.lora_A.weight"] = down[:, :-1] if fault == "shape" else down
    tensors[f"{place}.lora_B.weight"] = up
    before = snapshot(tiny_llava)
    with pytest.raises(AttachError):
        AdapterProduct(good.config, tensors).attach(tiny_llava)
    assert_same(tiny_llava, before)


@pytest.mark.parametrize("fault", ["name", "shape", "dtype"])
def test_weights_that_do_not_fit_are_refused(
    tiny_llava: MultimodalModel, products: dict[str, Product], fault: str
) -> None:
    good = products["weights"]
    tensors = dict(good.tensors)
    last = sorted(tensors)[-1]
    tensor = tensors.pop(last)
    tensors[f"{last}_gone" if fault == "name" else last] = {
        "name": tensor, "shape": tensor[:-1], "dtype": tensor.bfloat16(),
    }[fault]  # fmt: skip
    before = snapshot(tiny_llava)
    with pytest.raises(AttachError):
        WeightProduct(good.config, tensors).attach(tiny_llava)
    assert_same(tiny_llava, before)


def test_two_weight_products_exclude_each_other(tiny_llava: MultimodalModel, products: dict[str, Product]) -> None:
    before = snapshot(tiny_llava)
    with products["weights"].attached(tiny_llava):
        for product in products.values():
            with pytest.raises(AttachError, match="ga has changed the weights"):
                product.attach(tiny_llava)
        with pytest.raises(InputError, match="detach its product before training"):
            load_method("ga").make(tiny_llava, request(), settings=quick(steps=1))
    assert_same(tiny_llava, before)


def test_adapters_stack_and_come_off_in_any_order(tiny_llava: MultimodalModel, products: dict[str, Product]) -> None:
    before = snapshot(tiny_llava)
    first, second = products["adapter"].attach(tiny_llava), products["adapter"].attach(tiny_llava)
    twice = logits(tiny_llava)
    first.detach()
    once = logits(tiny_llava)
    second.detach()
    assert not torch.equal(once, twice)
    assert_same(tiny_llava, before)


def test_the_hooks_compute_what_peft_computes(
    tiny_llava: MultimodalModel, tiny_llava_path: Path, products: dict[str, Product], tmp_path: Path
) -> None:
    import peft

    folder = products["adapter"].save_pretrained(tmp_path / "p")
    other = load_model(str(tiny_llava_path), device="cpu")
    peft.PeftModel.from_pretrained(other.hf, str(folder)).eval()
    with products["adapter"].attached(tiny_llava):
        assert torch.equal(logits(tiny_llava), logits(other))
    assert set(load_file(folder / "adapter_model.safetensors")) == set(products["adapter"].tensors)


def test_a_product_that_changes_nothing_or_is_not_finite_is_refused(products: dict[str, Product]) -> None:
    config = products["weights"].config
    with pytest.raises(ArtifactError, match="changes nothing"):
        WeightProduct(config, {})
    with pytest.raises(ArtifactError, match="NaN"):
        WeightProduct(config, {"x": torch.tensor([float("nan")])})


def test_a_plain_module_is_refused(product: Product) -> None:
    with pytest.raises(AttachError, match="cannot attach to a Linear"):
        product.attach(nn.Linear(2, 2))
