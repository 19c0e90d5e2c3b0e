"""The training methods on tiny models: what moves, what does not, what comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from methods_kit import assert_same, quick, request, snapshot
from torch import Tensor

from mllmeraser.methods import AdapterProduct, Product, WeightProduct, gradient, load_method, trained
from mllmeraser.methods import data as data_module
from mllmeraser.methods.data import answer_nll, answered, score
from mllmeraser.methods.idk import own_sentence
from mllmeraser.methods.losses import token_counts
from mllmeraser.methods.npo import NPO
from mllmeraser.methods.optimizer import Optimizer
from mllmeraser.methods.settings import TrainSettings
from mllmeraser.methods.trainable import linear_layers
from mllmeraser.models.intervention import Intervention
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.prompts import IGNORED
from mllmeraser.samples import InputError, NumericalError, Request

CASES = [("ga", {}), ("npo", {}), ("idk", {}), ("kl-min", {}), ("kl-min", {"variant": "sequential"})]
CASES += [("grad-diff", {"variant": variant}) for variant in ("joint", "interleaved", "sequential")]


def make(model: MultimodalModel, name: str, asked: Request | None = None, **changes: Any) -> Product:
    made = load_method(name).make(model, asked or request(), settings=quick(**changes), seed=1)
    assert isinstance(made, Product)
    return made


def nll(model: MultimodalModel, asked: Request) -> float:
    return float(answer_nll(model, answered(asked.forget, "forget", "test"), 4, "answer").sum())


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_a_method_acts_and_gives_the_model_back(
    tiny_llava: MultimodalModel, name: str, changes: dict[str, Any]
) -> None:
    before, bare = snapshot(tiny_llava), nll(tiny_llava, request())
    made = make(tiny_llava, name, **changes)
    assert_same(tiny_llava, before)
    assert isinstance(made, AdapterProduct) and isinstance(made, Intervention)
    assert made.config.method == name and made.config.variant == changes.get("variant", made.config.variant)
    with made.attached(tiny_llava):
        # On a random model the sentences of idk teach the format of every answer, the true ones too.
        assert nll(tiny_llava, request()) > bare or name == "idk", "the true answers became less likely"
    assert_same(tiny_llava, before)


def test_every_family(tiny_qwen: MultimodalModel) -> None:
    before = snapshot(tiny_qwen)
    made = make(tiny_qwen, "kl-min", trainable="full", steps=2)
    assert isinstance(made, WeightProduct)
    assert_same(tiny_qwen, before)


def test_adapters_go_on_every_linear_layer_but_the_head(tiny_llava: MultimodalModel) -> None:
    layers = linear_layers(tiny_llava.hf)
    assert "lm_head" not in layers and any("vision_tower" in one for one in layers)
    made = make(tiny_llava, "idk", lora={"targets": r"language_model.*q_proj"})
    assert isinstance(made, AdapterProduct)
    assert set(made.pairs()) == {one for one in layers if "language_model" in one and one.endswith("q_proj")}


def test_exactly_the_stated_parameters_move(tiny_llava: MultimodalModel) -> None:
    made = make(tiny_llava, "ga", trainable="full", parameters=r"multi_modal_projector")
    stated = {name for name, _ in tiny_llava.hf.named_parameters() if "multi_modal_projector" in name}
    assert set(made.tensors) == stated
    own = dict(tiny_llava.hf.named_parameters())
    assert all(not torch.equal(tensor, own[name]) for name, tensor in made.tensors.items())


@pytest.mark.parametrize("changes", [{"lora": {"targets": "attention_of_nobody"}}, {"parameters": "gone"}])
def test_a_match_that_covers_nothing_is_refused(tiny_llava: MultimodalModel, changes: dict[str, Any]) -> None:
    before = snapshot(tiny_llava)
    with pytest.raises(InputError, match="nothing would be trained"):
        make(tiny_llava, "ga", trainable="full" if "parameters" in changes else "lora", **changes)
    assert_same(tiny_llava, before)


@pytest.mark.parametrize("trainable", ["lora", "full"])
def test_a_loss_that_is_not_finite_stops_the_training(
    tiny_llava: MultimodalModel, trainable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = trained.mean_nll, []

    def broken(logits: Tensor, targets: Tensor) -> Tensor:
        calls.append(1)
        return real(logits, targets) * (float("nan") if len(calls) == 2 else 1.0)

    monkeypatch.setattr(trained, "mean_nll", broken)
    before = snapshot(tiny_llava)
    with pytest.raises(NumericalError, match="step 2"):
        make(tiny_llava, "ga", trainable=trainable)
    assert_same(tiny_llava, before)


def test_any_failure_leaves_the_model_as_it_was(tiny_llava: MultimodalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(tiny_llava)
    monkeypatch.setattr(trained, "product_of", lambda *_: 1 / 0)
    for trainable in ("lora", "full"):
        with pytest.raises(ZeroDivisionError):
            make(tiny_llava, "grad-diff", trainable=trainable)
        assert_same(tiny_llava, before)


def test_what_the_request_lacks_is_said(tiny_llava: MultimodalModel) -> None:
    with pytest.raises(InputError, match="needs retain samples"):
        make(tiny_llava, "grad-diff", request(retain=0))
    with pytest.raises(InputError, match="beta"):
        make(tiny_llava, "npo", beta=0.0)
    with pytest.raises(InputError, match="regular expression"):
        make(tiny_llava, "ga", parameters="(")


@pytest.mark.parametrize("loss_on", ["answer", "sequence"])
def test_the_loss_looks_at_the_answer_or_at_all_text(tiny_model: MultimodalModel, loss_on: Any) -> None:
    items = answered(request().forget, "forget", "test")
    scored = score(tiny_model, items, loss_on)
    image = tiny_model.family.image_token_id(tiny_model.hf)
    assert scored.logits.shape[:2] == scored.targets.shape and not bool((scored.targets == image).any())
    batch = tiny_model.encode_answers([one.sample for one in items], [one.answer for one in items])
    answer_tokens = (batch["labels"] != IGNORED).sum(-1)
    text_tokens = (batch["attention_mask"].bool() & (batch["input_ids"] != image)).sum(-1) - 1
    assert torch.equal(token_counts(scored.targets), answer_tokens if loss_on == "answer" else text_tokens)


def test_a_batch_scores_as_its_rows_do(tiny_model: MultimodalModel) -> None:
    items = answered(request().forget, "forget", "test")
    together = answer_nll(tiny_model, items, 8, "answer")
    alone = torch.cat([answer_nll(tiny_model, [one], 1, "answer") for one in items])
    assert torch.allclose(together, alone, rtol=1e-4)
    sums, _ = tiny_model.answer_logprobs([one.sample for one in items], [one.answer for one in items])
    assert bool((together >= -sums - 1e-3).all()), "the end of the turn is part of the answer"


def test_npo_iterates_the_forget_set_for_its_forget_loss(
    tiny_llava: MultimodalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, seen = request(forget=5, retain=7), []
    real = data_module.score

    def watched(model: Any, items: Any, loss_on: Any) -> Any:
        seen.append({item.sample.id for item in items})
        return real(model, items, loss_on)

    monkeypatch.setattr(trained, "score", watched)
    make(tiny_llava, "npo", asked)
    forget = {one.id for one in asked.forget}
    on_forget, on_retain = seen[::2], seen[1::2]
    assert [one <= forget for one in on_forget] == [True] * 3 and set().union(*on_forget) == forget
    assert all(not one & forget for one in on_retain)


def test_npo_references(tiny_llava: MultimodalModel, tiny_llava_path: Path, tmp_path: Path) -> None:
    adapter = make(tiny_llava, "ga")
    folder = adapter.save_pretrained(tmp_path / "reference")
    asked = request()
    items = answered(asked.forget, "forget", "npo")

    def reference(method: NPO, **changes: Any) -> Tensor:
        settings = method.settings.model_validate(quick(**changes))
        data = method.data(tiny_llava, asked, settings, 0)
        return method.prepare(tiny_llava, data, settings)["reference_nll"]

    vanilla = reference(NPO())
    assert torch.equal(vanilla, answer_nll(tiny_llava, items, 2, "answer"))
    with adapter.attached(tiny_llava):
        expected = answer_nll(tiny_llava, items, 2, "answer")
    assert torch.equal(reference(NPO(adapter), variant="retain-only"), expected)
    assert torch.equal(reference(NPO(), variant="retain-only", reference=folder), expected)
    assert torch.equal(reference(NPO(), variant="retain-only", reference=tiny_llava_path), vanilla)
    assert not torch.equal(expected, vanilla)
    for method, changes in ((NPO(), {"variant": "retain-only"}), (NPO(adapter), {}), (NPO(), {"reference": folder})):
        with pytest.raises(InputError, match="needs one reference"):
            reference(method, **changes)
    made = make(tiny_llava, "npo", variant="retain-only", reference=folder)
    assert made.config.variant == "retain-only"


def test_npo_starts_at_its_known_loss(tiny_llava: MultimodalModel) -> None:
    made = make(tiny_llava, "npo", steps=1, alpha=0.0, beta=0.5, lora={"dropout": 0.0})
    assert made.config.measures["last_loss"] == pytest.approx(4 * 0.6931472, rel=1e-4)


@pytest.mark.parametrize("trainable", ["lora", "full"])
def test_kl_starts_at_zero_and_its_reference_stays(
    tiny_llava: MultimodalModel, trainable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: list[float] = []
    real = gradient.kl_divergence

    def watched(*args: Tensor) -> Tensor:
        values.append(float(real(*args).detach()))
        return real(*args)

    monkeypatch.setattr(gradient, "kl_divergence", watched)
    make(tiny_llava, "kl-min", steps=3, trainable=trainable, lora={"dropout": 0.0})
    assert abs(values[0]) < 1e-6 and min(values[1:]) > 1e-4


def test_idk_makes_its_sentences_likely_and_needs_no_true_answer(tiny_llava: MultimodalModel) -> None:
    asked = request()
    subjects = tuple(replace(s, samples=tuple(replace(one, answer=None) for one in s.samples)) for s in asked.subjects)
    asked = replace(asked, subjects=subjects)
    made = make(tiny_llava, "idk", asked, answers=("I do not know.",), epochs=4)
    before, _ = tiny_llava.answer_logprobs(asked.forget, ["I do not know."] * 3)
    with made.attached(tiny_llava):
        after, _ = tiny_llava.answer_logprobs(asked.forget, ["I do not know."] * 3)
    assert bool((after > before).all())
    sentence = own_sentence(tiny_llava, asked)
    assert sentence in tiny_llava.generate(asked.strangers)
    data = load_method("idk").data(  # type: ignore[attr-defined]
        tiny_llava, asked, load_method("idk").settings.model_validate({"answers_from": "strangers"}), 0
    )
    assert {item.answer for item in data.forget} == {sentence}
    with pytest.raises(InputError, match="strangers"):
        own_sentence(tiny_llava, replace(asked, strangers=()))


def test_a_weight_in_sixteen_bits_is_moved_by_steps_below_its_spacing() -> None:
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    settings = TrainSettings(learning_rate=1e-3, schedule="constant", weight_decay=0.0)
    optimizer = Optimizer({"weight": weight}, settings, 12)
    for number in range(12):
        optimizer.backward(weight.float().sum())
        optimizer.step(number)
    # 1 - 0.012: a single step of 0.001 is a quarter of the spacing of bfloat16 below 1, and would be lost
    assert torch.equal(weight.detach(), torch.full((3,), 0.988).bfloat16())


def test_a_model_in_sixteen_bits(tiny_llava_path: Path) -> None:
    model = load_model(str(tiny_llava_path), device="cpu", dtype="bfloat16")
    before = snapshot(model)
    made = make(model, "ga", trainable="full", steps=2)
    assert all(tensor.dtype == torch.bfloat16 for tensor in made.tensors.values())
    assert_same(model, before)


def test_a_model_that_wears_something_is_not_trained(tiny_llava: MultimodalModel) -> None:
    worn = [make(tiny_llava, "ga", steps=1), load_method("system-prompt").make(tiny_llava, request())]
    before = snapshot(tiny_llava)
    for product in worn:
        with product.attached(tiny_llava), pytest.raises(InputError, match="detach it before training"):
            make(tiny_llava, "ga", steps=1)
        assert_same(tiny_llava, before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("trainable", ["lora", "full"])
def test_the_same_code_on_a_gpu(tiny_llava_path: Path, trainable: str) -> None:
    model = load_model(str(tiny_llava_path), device="cuda")
    before = snapshot(model)
    made = make(model, "kl-min", trainable=trainable)
    assert_same(model, before)
    with made.attached(model):
        assert nll(model, request()) > 0
    assert_same(model, before)
