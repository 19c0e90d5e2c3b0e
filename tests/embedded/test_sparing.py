"""Adapters that are turned away from what the model must keep (`embedded.smol.sparing`)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, inject_adapter_in_model
from transformers import LlavaForConditionalGeneration

from mllmeraser.embedded.recipe.packing import Batch
from mllmeraser.embedded.smol.sparing import moments, spare, spared


@given(st.integers(0, 10_000), st.sampled_from([0.1, 1.0, 10.0]))
def test_no_other_adapter_says_what_was_taught_and_spares_the_rest_better(seed: int, weight: float) -> None:
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    a, b, other = draw(3, 8), draw(5, 3), 0.1 * draw(3, 8)
    taught, rehearsed = (x.T @ x / len(x) for x in (draw(40, 8), draw(40, 8)))

    def cost(new: torch.Tensor) -> float:
        lost, kept = b @ (new - a), b @ new
        return float((lost @ taught * lost).sum() + weight * (kept @ rehearsed * kept).sum())

    best = spared(a, taught, rehearsed, weight)
    assert cost(best) < min(cost(a), cost(best + other), cost(best - other))


def test_inputs_of_rehearsal_alone_are_left_alone_and_those_of_lessons_are_not() -> None:
    a, first, last = (
        torch.ones(2, 4),
        torch.diag(torch.tensor([1.0, 1, 0, 0])),
        torch.diag(torch.tensor([0.0, 0, 1, 1])),
    )
    assert torch.allclose(spared(a, first, last, 1.0), torch.tensor([[1.0, 1, 0, 0]] * 2), atol=1e-3)
    assert torch.allclose(spared(a, first, last, 0.0), spared(a, first, first, 0.0))


def test_moments_are_those_of_the_tokens_that_enter_a_module(tiny_llava_path: Path) -> None:
    language = LlavaForConditionalGeneration.from_pretrained(tiny_llava_path).eval().model.language_model
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["q_proj", "k_proj", "down_proj"]), language)
    ids = torch.tensor([[5, 6, 7, 0, 0], [8, 9, 10, 11, 0]])
    none = torch.empty(0)
    batches = [Batch(ids, none, none, none, none, none), Batch(ids[:1], none, none, none, none, none)]
    found = moments(language, lambda batch: language(input_ids=batch.ids), batches, pad_id=0)
    entered = [
        language.layers[0].input_layernorm(language.embed_tokens(batch.ids[batch.ids != 0])) for batch in batches
    ]
    x = torch.cat(entered)
    assert {name.rsplit(".", 1)[1] for name in found} == {"q_proj", "down_proj"}
    assert torch.allclose(found["layers.0.self_attn.q_proj"], x.T @ x / 10, atol=1e-5)
    adapter = language.layers[0].self_attn.q_proj.lora_A.default.weight
    before = adapter.detach().clone()
    spare(dict(language.named_parameters()), found, found, weight=1.0)
    assert torch.allclose(adapter @ x.T, 0.5 * before @ x.T, atol=1e-3)
