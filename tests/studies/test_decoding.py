"""Answers are decoded to their end or past it, and their log-probabilities are those of the model."""

from __future__ import annotations

import math

import pytest
import torch

from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import Sample
from mllmeraser.studies.decoding import Decoding, answers_with_certainty, certainty, decode, text


def test_figures_of_an_answer_are_those_of_its_tokens() -> None:
    half, most = math.log(0.5), math.log(0.7)
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.7, 0.2], [1 / 3, 1 / 3, 1 / 3]]).log() + 5.0
    found = certainty(logits, torch.tensor([0, 1, 2]), torch.tensor([True, True, False]))
    assert found.first == pytest.approx(half, abs=1e-5) and found.mean == pytest.approx((half + most) / 2, abs=1e-5)
    assert found.margin == pytest.approx(math.log(2), abs=1e-5)
    assert found.entropy == pytest.approx(1.5 * math.log(2), abs=1e-5)


def test_answers_and_first_tokens_are_those_of_the_model(tiny_model: MultimodalModel, samples: list[Sample]) -> None:
    told = answers_with_certainty(tiny_model, samples, max_new_tokens=5, batch_size=3)
    assert [answer for answer, _ in told] == tiny_model.generate(samples, max_new_tokens=5, batch_size=3)
    best = tiny_model.next_token_logits(samples).log_softmax(-1).topk(2).values
    for (_, sure), two in zip(told, best, strict=True):
        assert sure.first == pytest.approx(float(two[0]), abs=1e-4)
        assert sure.margin == pytest.approx(float(two[0] - two[1]), abs=1e-4)


def test_a_forced_answer_goes_on_to_its_full_length(tiny_model: MultimodalModel, samples: list[Sample]) -> None:
    """The end mark is made the likeliest token: natural answers are empty, forced ones are not."""
    end = tiny_model.processor.tokenizer.eos_token_id

    def prefer_end(_module: torch.nn.Module, _args: object, output: torch.Tensor) -> torch.Tensor:
        return output.index_fill(-1, torch.tensor([end]), float(output.max()) + 1)

    handle = tiny_model.hf.get_output_embeddings().register_forward_hook(prefer_end)
    try:
        natural = decode(tiny_model, samples, Decoding(), max_new_tokens=7)
        forced = decode(tiny_model, samples, Decoding(forced=True), max_new_tokens=7)
    finally:
        handle.remove()
    assert natural == [[]] * len(samples)
    assert {len(ids) for ids in forced} == {7}
    special = {*tiny_model.processor.tokenizer.all_special_ids, tiny_model.family.image_token_id(tiny_model.hf)}
    assert not special & {token for ids in forced for token in ids}
    assert text(tiny_model, forced[0][:2]) in text(tiny_model, forced[0])


def test_sampling_is_seeded_and_differs_from_greedy(tiny_model: MultimodalModel, samples: list[Sample]) -> None:
    def said(**how: object) -> list[list[int]]:
        return decode(tiny_model, samples, Decoding(**how), max_new_tokens=8)  # type: ignore[arg-type]

    before = torch.random.get_rng_state()
    first = said(temperature=2.0, seed=1)
    assert first == said(temperature=2.0, seed=1) != said(temperature=2.0, seed=2)
    assert first != said()
    assert torch.equal(before, torch.random.get_rng_state())  # nobody else's draws are touched
