"""The policy `subject` on tiny models: where it looks, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from steering_kit import (
    ALWAYS,
    NEVER,
    alone,
    count_hooks,
    expected_scores,
    logits,
    make_plan,
    middle_gap,
    site_scores,
    states_at,
    text_samples,
)
from torch import Tensor
from worlds import close

from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.erasure.fit.discriminants import named_states
from mllmeraser.erasure.gates import NO_SITE, Gate, SoftGate, SubjectGate
from mllmeraser.erasure.policy import SUBJECT
from mllmeraser.erasure.states.prompt_states import PromptStateCache, name_ends
from mllmeraser.erasure.steering import attach
from mllmeraser.erasure.steering.plan import SUBJECT_SITES, SteeringPlan
from mllmeraser.models.capture import hidden_of
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import AttachError, Sample


def subject_plan(model: MultimodalModel, samples: list[Sample], *, threshold: float | None = None) -> SteeringPlan:
    """A plan with identity gates around states that the samples do have; some of them fire."""
    plan = make_plan(model, SUBJECT, threshold=ALWAYS)
    cache = PromptStateCache(model, plan.reads, ()).of(samples)
    generator = torch.Generator().manual_seed(4)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    gates: dict[int, Gate] = {}
    for site, layer in zip(SUBJECT_SITES, plan.reads, strict=True):
        centre = torch.cat([states_at(site, prompt) for prompt in cache]).mean(0)
        if site == "last":
            weight = draw(2, len(centre)) / 4
            gates[layer] = SoftGate({"weight": weight}).affine(torch.ones(2), 0.3 - weight @ centre)
            continue
        tensors = {"weight": draw(2, 6), "projection": draw(len(centre), 6), "centre": centre}
        tensors["weight"] = torch.nn.functional.normalize(tensors["weight"], dim=-1)
        if site == "image":
            tensors["cohort"] = torch.nn.functional.normalize(draw(3, 6), dim=-1)
        gates[layer] = SubjectGate(tensors)
    plan = replace(plan, gates=gates)
    return replace(
        plan, threshold=middle_gap(expected_scores(model, plan, samples)) if threshold is None else threshold
    )


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_mixed_batch_equals_one_by_one(tiny_model, samples, side):
    plan = subject_plan(tiny_model, samples)
    expected, bare = expected_scores(tiny_model, plan, samples), logits(tiny_model, samples, side)
    hooks = count_hooks(tiny_model.hf)
    with attach(tiny_model, plan) as handle:
        together = logits(tiny_model, samples, side)
        pooled, fired = handle.readings.pooled[:, 0], handle.readings.amplitudes[:, 0] > 0
        close(pooled, expected, 1e-4)
        torch.testing.assert_close(together, alone(tiny_model, samples), atol=2e-4, rtol=2e-4)
    assert 0 < int(fired.sum()) < len(samples)
    assert torch.equal(together[~fired], bare[~fired]), "a shut gate leaves every bit"
    assert ((together[fired] - bare[fired]).abs().amax(1) > 1e-2).all()
    assert count_hooks(tiny_model.hf) == hooks
    assert torch.equal(logits(tiny_model, samples, side), bare)


def test_strength_zero_and_a_shut_gate_are_bit_identical(tiny_model, samples):
    bare = logits(tiny_model, samples)
    for plan in (
        replace(subject_plan(tiny_model, samples, threshold=ALWAYS), strength=0.0),
        subject_plan(tiny_model, samples, threshold=NEVER),
    ):
        with attach(tiny_model, plan):
            assert torch.equal(logits(tiny_model, samples), bare)


def generated(model: MultimodalModel, inputs: dict[str, Tensor], **options: object) -> Tensor:
    out = model.hf.generate(
        **inputs, max_new_tokens=4, min_new_tokens=4, do_sample=False,
        output_logits=True, return_dict_in_generate=True, **options,
    )  # fmt: skip
    return torch.stack(out.logits)


def test_a_prefill_in_chunks_is_fed_whole(tiny_model):
    samples = text_samples()
    inputs = tiny_model.encode(samples)
    with attach(tiny_model, subject_plan(tiny_model, samples)) as handle:
        whole, readings = generated(tiny_model, inputs), handle.readings
        assert torch.equal(generated(tiny_model, inputs, prefill_chunk_size=3), whole)
        assert torch.equal(handle.readings.pooled, readings.pooled)
        close(whole[0], logits(tiny_model, samples), 3e-4)


@torch.no_grad()
def test_a_foreign_prefix_is_refused(tiny_model):
    samples = text_samples()[:1]
    inputs = tiny_model.encode(samples)
    length, plan = inputs["input_ids"].shape[1], subject_plan(tiny_model, samples, threshold=ALWAYS)
    part = {"input_ids": inputs["input_ids"][:, :3], "attention_mask": inputs["attention_mask"][:, :3]}

    def prefix():
        return tiny_model.hf(**part, use_cache=True).past_key_values

    rest = {"input_ids": inputs["input_ids"][:, 3:], "attention_mask": inputs["attention_mask"]}
    caches = [prefix() for _ in range(3)]
    with attach(tiny_model, plan) as handle:
        with pytest.raises(AttachError, match="whole"):
            generated(tiny_model, inputs, past_key_values=caches[0])
        with handle.prompt(length), pytest.raises(AttachError, match="whole"):
            tiny_model.hf(**rest, past_key_values=caches[1], use_cache=True)
        with pytest.raises(AttachError):
            tiny_model.hf(**rest, past_key_values=caches[2], use_cache=True)
        with handle.prompt(length), pytest.raises(AttachError, match="whole"):
            tiny_model.hf(**part, use_cache=True)
        generated(tiny_model, inputs)


@torch.no_grad()
def test_embeddings_without_ids_are_refused(tiny_llava):
    samples = text_samples()
    inputs = tiny_llava.encode(samples)
    embeds = tiny_llava.hf.get_input_embeddings()(inputs["input_ids"])
    given = {"inputs_embeds": embeds, "attention_mask": inputs["attention_mask"]}
    with attach(tiny_llava, subject_plan(tiny_llava, samples)):
        with pytest.raises(AttachError, match="input_ids"):
            tiny_llava.hf(**given)
        with pytest.raises(AttachError, match="input_ids"):
            generated(tiny_llava, given)
        logits(tiny_llava, samples)


# -- sites ---------------------------------------------------------------------------------------------


@torch.no_grad()
def sites_by_hand(model: MultimodalModel, sample: Sample, layers: tuple[int, ...]) -> list[Tensor]:
    """States at the text tokens, at the last prompt token, and the mean over the picture."""
    inputs, kept = model.encode([sample]), {}
    hooks = [
        model.layers[layer].register_forward_hook(lambda _m, _a, out, at=layer: kept.update({at: hidden_of(out)[0]}))
        for layer in layers
    ]
    model.hf(**inputs)
    for hook in hooks:
        hook.remove()
    ids, image = inputs["input_ids"][0].tolist(), model.family.image_token_id(model.hf)
    text = [i for i, token in enumerate(ids) if token != image]
    placeholders = [i for i, token in enumerate(ids) if token == image]
    assert bool(placeholders) == (sample.image is not None)
    assert placeholders == list(range(placeholders[0], placeholders[-1] + 1)) if placeholders else True
    name, topic, face = (kept[layer] for layer in layers)
    return [name[text], topic[[len(ids) - 1]], face[placeholders].mean(0, keepdim=True)[: len(placeholders)]]


def test_sites_are_text_tokens_the_last_one_and_the_whole_picture(tiny_model, samples):
    """Padding, placeholders and other rows have no part in it, whatever the batch."""
    plan = subject_plan(tiny_model, samples)
    assert tuple(plan.site(layer) for layer in plan.reads) == SUBJECT_SITES
    cache = PromptStateCache(tiny_model, plan.reads, (3,), batch_size=4).of(samples, shifted=samples)
    readings = read_gate(tiny_model, plan, samples, batch_size=4)
    for row, sample in enumerate(samples):
        by_hand = sites_by_hand(tiny_model, sample, plan.reads)
        for site, layer, states in zip(SUBJECT_SITES, plan.reads, by_hand, strict=True):
            close(states_at(site, cache[row]), states, 1e-4)
            best = plan.gates[layer].scores(states).amax(0) if len(states) else torch.full((2,), NO_SITE)
            close(readings.layers[layer][row], best, 1e-4)
    anchored = site_scores(tiny_model, plan, samples)
    for layer in plan.reads:
        close(readings.layers[layer], anchored[layer], 1e-4)
    close(readings.pooled, plan.policy.pool(list(readings.layers.values())), 1e-6)
    last = torch.stack([prompt.shifts[0] for prompt in cache])
    close(last, tiny_model.states(samples, [HookPoint(3)])[HookPoint(3)], 1e-4)


def test_a_name_is_found_after_a_blank_and_at_the_start(tiny_model):
    tokenizer, name = tiny_model.processor.tokenizer, "Jonas Ferrick"
    for question, times in (
        ("Where was Jonas Ferrick born?", 1),
        ("Jonas Ferrick, who is he?", 1),
        ("Jonas Ferrick is Jonas Ferrick's name.", 2),
        ("Where was Jonas born, and Ferrick?", 0),
    ):
        ids = tiny_model.encode([Sample(question)])["input_ids"][0].tolist()
        ends = name_ends(tiny_model, ids, name)
        assert len(ends) == times
        assert all(tokenizer.decode(ids[: end + 1]).endswith(name) for end in ends)


def test_what_was_captured_once_is_not_captured_again(tiny_model, samples):
    cache = PromptStateCache(tiny_model, (0, 1, 2), (3,))
    passes: list[int] = []
    hook = tiny_model.hf.register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        first = cache.of(samples[:4])
        before = len(passes)
        again = cache.of([samples[2], samples[0], samples[2]])
        assert before and len(passes) == before
        cache.of(samples)
        assert len(passes) > before
    finally:
        hook.remove()
    assert [id(a) for a in again] == [id(first[i]) for i in (2, 0, 2)]


def test_a_pass_ends_where_the_last_wanted_layer_is(tiny_model, samples):
    ran: list[int] = []
    hooks = [
        layer.register_forward_pre_hook(lambda *_, number=number: ran.append(number))
        for number, layer in enumerate(tiny_model.layers)
    ]
    try:
        gates = PromptStateCache(tiny_model, (0, 1, 2), (3,), batch_size=8)
        alone = gates.of(samples)
        assert set(ran) == {0, 1, 2}
        before = len(ran)
        some = gates.of(samples, shifted=samples[1:3])
        assert set(ran[before:]) == {0, 1, 2, 3}, "what is wanted now and was not read is read again"
        assert [len(prompt.shifts) for prompt in some] == [int(number in (1, 2)) for number in range(len(samples))]
        before = len(ran)
        assert all(some[n].kept["text"] is alone[n].kept["text"] for n in (1, 2)), "what was read stays to the bit"
        assert gates.of(samples[1:3]) == some[1:3] == gates.of(samples[1:3], shifted=samples[1:3])
        assert len(ran) == before
    finally:
        for hook in hooks:
            hook.remove()
    whole = PromptStateCache(tiny_model, (0, 1, 2), (3,), batch_size=8).of(samples, shifted=samples)
    for one, other in zip(alone, whole, strict=True):
        for name in ("text", "last", "image"):
            assert torch.equal(getattr(one, name), getattr(other, name)), "to the bit: the blocks behind change nothing"
    assert count_hooks(tiny_model.hf) == 0


def test_the_states_of_a_name_are_those_at_its_last_token(tiny_model):
    samples = [Sample("Where was Jonas Ferrick born?"), Sample("Hi"), Sample("Jonas Ferrick is not Nobody Else.")]
    cache = PromptStateCache(tiny_model, (0, 1, 2), ()).of(samples)
    states = named_states(tiny_model, cache, ("Jonas Ferrick", "Nobody Else"))
    ids = tiny_model.encode(samples[:1])["input_ids"][0].tolist()
    every, *_ = sites_by_hand(tiny_model, samples[0], (0, 1, 2))
    close(states[0], every[name_ends(tiny_model, ids, "Jonas Ferrick")], 1e-4)
    assert [len(rows) for rows in states] == [1, 0, 2], "a name that is not said has no position"
    assert len(named_states(tiny_model, cache, ())[1]) == tiny_model.encode(samples[1:2])["input_ids"].shape[1]


def test_text_alone_is_not_searched_for_pictures(tiny_model, samples, monkeypatch):
    """`generate` hands on an empty mapping of features, which is none."""
    plan, inputs = subject_plan(tiny_model, samples), tiny_model.encode(text_samples())
    monkeypatch.setattr(
        "mllmeraser.erasure.states.image_spans.run_means", lambda *_: pytest.fail("pictures were looked for")
    )
    with attach(tiny_model, plan), torch.no_grad():
        tiny_model.hf(**inputs)
        generated(tiny_model, inputs)
