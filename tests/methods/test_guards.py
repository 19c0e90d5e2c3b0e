"""System prompt and block list: in front of the model, and gone after detach."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from methods_kit import SENTENCE, assert_same, logits, request, snapshot

from mllmeraser.methods import load_method
from mllmeraser.methods.block_list import BlockListProduct, nearest, picture_features
from mllmeraser.methods.interception import intercept
from mllmeraser.methods.system_prompt import SystemPromptProduct
from mllmeraser.models.intervention import Intervention
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import AttachError, InputError, Request, Sample
from tiny import picture

RATE = {"false_alarm_rate": 0.1}


@pytest.fixture(scope="module")
def asked() -> Request:
    return request(forget=4, retain=40)


@pytest.fixture
def guard(tiny_llava: MultimodalModel, asked: Request) -> BlockListProduct:
    made = load_method("block-list").make(tiny_llava, asked, settings=RATE)
    assert isinstance(made, BlockListProduct) and isinstance(made, Intervention)
    return made


def test_the_instruction_stands_before_every_prompt(tiny_model: MultimodalModel, asked: Request) -> None:
    product = load_method("system-prompt").make(tiny_model, asked)
    assert isinstance(product, SystemPromptProduct) and isinstance(product, Intervention)
    before, said = snapshot(tiny_model), logits(tiny_model)
    with product.attached(tiny_model):
        for sample in asked.forget[:2]:
            text = tiny_model.prompts.text(sample)
            assert text.index("Mara Velden, Jonas Ferrick") < text.index(sample.question)
        assert not torch.equal(logits(tiny_model), said)
        assert len(tiny_model.generate(asked.forget, max_new_tokens=2)) == 4
        tiny_model.answer_logprobs(asked.forget, ["x"] * 4)
    assert_same(tiny_model, before)
    assert torch.equal(logits(tiny_model), said)


def test_a_system_prompt_needs_names_and_a_place_for_them(tiny_llava: MultimodalModel, asked: Request) -> None:
    nameless = replace(asked, subjects=tuple(replace(one, names=()) for one in asked.subjects))
    with pytest.raises(InputError, match="p1 has none"):
        load_method("system-prompt").make(tiny_llava, nameless)
    for instruction, message in (("Be good.", "where the names go"), ("{names} <image>", "placeholder")):
        with pytest.raises(InputError, match=message):
            load_method("system-prompt").make(tiny_llava, asked, settings={"instruction": instruction})


@pytest.mark.parametrize("name", ["system-prompt", "block-list"])
def test_a_plain_transformers_model_is_refused(tiny_llava: MultimodalModel, asked: Request, name: str) -> None:
    settings = RATE if name == "block-list" else None
    product = load_method(name).make(tiny_llava, asked, settings=settings)
    before = snapshot(tiny_llava)
    with pytest.raises(AttachError, match="load_model"):
        product.attach(tiny_llava.hf)
    assert_same(tiny_llava, before)


def test_names_and_pictures_are_blocked_and_nothing_else(
    tiny_llava: MultimodalModel, asked: Request, guard: BlockListProduct
) -> None:
    before = snapshot(tiny_llava)
    probes = [
        Sample("WHERE does mara VELDEN live?"),
        Sample("Where does Mara Veldenberg live?"),
        Sample("What is shown?", picture(0)),
        Sample("Where does Person 3 live?"),
        Sample("Which one?", task="classification", options=(("A", "Jonas Ferrick"), ("B", "Ada"))),
    ]
    bare = tiny_llava.generate(probes, max_new_tokens=4)
    with guard.attached(tiny_llava):
        answers = tiny_llava.generate(probes, max_new_tokens=4)
        assert tiny_llava.generate_batch(probes[:1], max_new_tokens=4) == [SENTENCE]
    assert [answers[row] for row in (0, 2, 4)] == [SENTENCE] * 3
    assert [answers[row] for row in (1, 3)] == [bare[row] for row in (1, 3)]
    assert_same(tiny_llava, before)
    assert tiny_llava.generate(probes, max_new_tokens=4) == bare


def test_false_alarms_on_the_retain_pictures_stay_below_the_stated_rate(
    tiny_llava: MultimodalModel, asked: Request, guard: BlockListProduct
) -> None:
    shown = [Sample("What is it?", one.image) for one in asked.retain if one.image is not None]
    assert sum(guard.blocked(tiny_llava, shown)) <= 0.1 * len(shown)
    forgotten = [Sample("What is it?", one.image) for one in asked.forget if one.image is not None]
    assert all(guard.blocked(tiny_llava, forgotten))


def test_likelihoods_are_those_of_the_sentence(
    tiny_llava: MultimodalModel, asked: Request, guard: BlockListProduct
) -> None:
    samples = [Sample("Who is Mara Velden?"), Sample("Who is Ada?")]
    bare = tiny_llava.next_token_logits(samples)
    free = tiny_llava.answer_logprobs(samples * 2, [SENTENCE, SENTENCE, "a baker", "a baker"])[0]
    with guard.attached(tiny_llava):
        found = tiny_llava.next_token_logits(samples)
        sums, counts = tiny_llava.answer_logprobs(samples * 2, [SENTENCE, SENTENCE, "a baker", "a baker"])
    first = tiny_llava.processor.tokenizer.decode([int(found[0].argmax())])
    assert SENTENCE.startswith(first.strip()) and torch.equal(found[1], bare[1])
    assert sums[0] == 0.0 and sums[2] == -100.0 * counts[2]
    assert torch.equal(sums[[1, 3]], free[[1, 3]])


def test_a_block_list_knows_whose_features_it_holds(
    tiny_qwen: MultimodalModel, asked: Request, guard: BlockListProduct
) -> None:
    with pytest.raises(AttachError, match="another model"):
        guard.attach(tiny_qwen)
    by_name = replace(
        asked, subjects=tuple(replace(s, samples=(Sample("Who?", subject=s.key),)) for s in asked.subjects)
    )
    names_only = load_method("block-list").make(tiny_qwen, by_name)
    assert isinstance(names_only, BlockListProduct) and names_only.threshold is None
    with names_only.attached(tiny_qwen):
        assert tiny_qwen.generate([Sample("Who is Mara Velden?")]) == [SENTENCE]


def test_too_few_retain_pictures_for_the_rate_are_refused(tiny_llava: MultimodalModel) -> None:
    with pytest.raises(InputError, match="at least 99"):
        load_method("block-list").make(tiny_llava, request(), settings={"false_alarm_rate": 0.01})


def test_features_are_the_models_own_and_one_by_one_the_same(tiny_model: MultimodalModel) -> None:
    images = [picture(1), picture(2, (56, 28)), picture(3)]
    together = picture_features(tiny_model, images)
    assert together.shape == (3, tiny_model.hidden_size)
    alone = torch.cat([picture_features(tiny_model, [one]) for one in images])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(nearest(together, together, torch.zeros(together.shape[1])), torch.ones(3).double())


def test_guards_come_off_in_any_order(tiny_llava_path, asked: Request) -> None:  # type: ignore[no-untyped-def]
    model = load_model(str(tiny_llava_path), device="cpu")
    system = load_method("system-prompt").make(model, asked)
    block = load_method("block-list").make(model, asked, settings=RATE)
    before = snapshot(model)
    handles = [system.attach(model), block.attach(model), system.attach(model)]
    assert model.prompts.text(Sample("q")).count("Mara Velden") == 2
    handles[0].detach()
    assert model.prompts.text(Sample("q")).count("Mara Velden") == 1
    handles[1].detach()
    handles[2].detach()
    handles[2].detach()
    assert_same(model, before)


def test_an_attribute_that_stood_there_before_comes_back() -> None:
    class Owner:
        def say(self) -> str:
            return "class"

    owner = Owner()
    owner.say = lambda: "own"  # type: ignore[method-assign]
    undo = intercept(owner, "say", lambda inner: f"<{inner()}>")
    assert owner.say() == "<own>" and Owner().say() == "class"
    undo()
    assert owner.say() == "own"
