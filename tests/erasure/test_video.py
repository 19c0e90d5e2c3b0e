"""A video is looked at frame by frame, or refused: never answered without a look."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from steering_kit import ALWAYS, make_plan
from torch import Tensor

from mllmeraser.erasure.policy import SUBJECT, TAIL
from mllmeraser.erasure.steering import attach
from mllmeraser.erasure.steering.media_inputs import frame_starts
from mllmeraser.erasure.steering.plan import SteeringPlan
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import AttachError, Sample
from tiny import picture

FIRST, SECOND = (Sample("Who is this?", picture(seed)) for seed in (1, 2))
VIDEO = 1
"""Token that stands for a video in these tests: one that no prompt holds."""


@pytest.fixture
def model(tiny_qwen: MultimodalModel, monkeypatch: pytest.MonkeyPatch) -> MultimodalModel:
    used = set(tiny_qwen.encode([FIRST])["input_ids"].flatten().tolist())
    free = next(token for token in range(len(tiny_qwen.processor.tokenizer)) if token not in used)
    monkeypatch.setattr(tiny_qwen.hf.config, "video_token_id", free)
    return tiny_qwen


def film(model: MultimodalModel, *shown: Sample) -> dict[str, Tensor]:
    """A prompt with one video, whose frames are these pictures."""
    made = [model.encode([sample]) for sample in shown]
    ids, image = made[0]["input_ids"][0], model.family.image_token_id(model.hf)
    first = int((ids == image).int().argmax())
    count = int((ids == image).sum())
    video = model.hf.config.video_token_id
    ids = torch.cat([ids[:first], torch.full((count * len(shown),), video), ids[first + count :]])[None]
    grid = made[0]["image_grid_thw"].clone()
    grid[0, 0] = len(shown)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": 2 * (ids == video).int(),
        "pixel_values_videos": torch.cat([one["pixel_values"] for one in made]),
        "video_grid_thw": grid,
    }


def scores(model: MultimodalModel, plan: SteeringPlan, inputs: dict[str, Any]) -> Tensor:
    """What the face gate says: the largest score over all that is shown."""
    with attach(model, plan) as handle, torch.no_grad():
        model.hf(**inputs)
        assert handle.readings is not None
        return handle.readings.per_layer[plan.name][plan.reads[2]]


@pytest.fixture
def plan(model: MultimodalModel) -> SteeringPlan:
    return make_plan(model, SUBJECT, threshold=ALWAYS)


def test_a_frame_is_seen_as_a_picture_is(model: MultimodalModel, plan: SteeringPlan) -> None:
    for sample in (FIRST, SECOND):
        shown = scores(model, plan, dict(model.encode([sample])))
        assert torch.allclose(scores(model, plan, film(model, sample)), shown, rtol=1e-3, atol=1e-4)


def test_frames_are_told_apart(model: MultimodalModel, plan: SteeringPlan) -> None:
    """The gate gets the largest score of a frame, not that of the mean of all."""
    inputs, (_, _, face) = film(model, FIRST, SECOND), plan.reads
    kept: list[Tensor] = []
    with model.layers[face].register_forward_hook(lambda _m, _a, out: kept.append(out)), torch.no_grad():
        model.hf(**inputs)
    places = (inputs["input_ids"][0] == model.hf.config.video_token_id).nonzero().flatten()
    means = torch.stack([kept[0][0][half].mean(0) for half in places.chunk(2)])
    by_hand = plan.gates[face].scores(means).amax(0, keepdim=True)
    assert torch.allclose(scores(model, plan, inputs), by_hand, rtol=1e-4, atol=1e-5)
    whole = plan.gates[face].scores(means.mean(0, keepdim=True))
    assert not torch.allclose(by_hand, whole, rtol=1e-2, atol=1e-3)


def test_placeholders_of_a_video_are_no_text(model: MultimodalModel, plan: SteeringPlan) -> None:
    inputs, name = film(model, FIRST), plan.reads[0]
    kept: list[Tensor] = []
    with model.layers[name].register_forward_hook(lambda _m, _a, out: kept.append(out)), torch.no_grad():
        model.hf(**inputs)
    text = inputs["input_ids"][0] != model.hf.config.video_token_id
    wanted = plan.gates[name].scores(kept[0][0][text]).amax(0, keepdim=True)
    with attach(model, plan) as handle, torch.no_grad():
        model.hf(**inputs)
        assert handle.readings is not None
        assert torch.allclose(handle.readings.per_layer[plan.name][name], wanted, rtol=1e-4, atol=1e-5)


def test_generate_looks_at_frames_as_forward_does(model: MultimodalModel, plan: SteeringPlan) -> None:
    """It reads videos before its first pass, and hands on their features alone."""
    inputs = film(model, FIRST, SECOND)
    wanted = scores(model, plan, inputs)
    with attach(model, plan) as handle, torch.no_grad():
        model.hf.generate(**inputs, max_new_tokens=2, do_sample=False)
        assert handle.readings is not None
        assert torch.equal(handle.readings.per_layer[plan.name][plan.reads[2]], wanted)
        model.hf.generate(**inputs, max_new_tokens=2, num_beams=2, do_sample=False)
        assert torch.allclose(handle.readings.per_layer[plan.name][plan.reads[2]], wanted.expand(2, -1), atol=1e-4)


def test_what_cannot_be_told_apart_is_refused(
    model: MultimodalModel, plan: SteeringPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = film(model, FIRST)
    longer = {**inputs, "video_grid_thw": inputs["video_grid_thw"] * torch.tensor([[2, 1, 1]])}
    asks = (lambda given: model.hf(**given), lambda given: model.hf.generate(**given, max_new_tokens=1))
    with attach(model, plan), torch.no_grad():
        with pytest.raises(AttachError, match="frames as pictures"):
            model.hf(**longer)
        monkeypatch.setattr(type(model.family), "video_tokens", lambda *_: None)
        for ask in asks:
            with pytest.raises(AttachError, match="frames as pictures"):
                ask(inputs)
    with torch.no_grad():
        model.hf(**inputs)  # detached, nothing stays in the way


def test_features_of_a_video_without_the_video_are_refused(model: MultimodalModel, plan: SteeringPlan) -> None:
    inputs = film(model, FIRST)
    pixels, grid = inputs.pop("pixel_values_videos"), inputs.pop("video_grid_thw")
    with attach(model, plan), torch.no_grad(), pytest.raises(AttachError, match="frames as pictures"):
        features = model.hf.model.get_video_features(pixels, grid, return_dict=True)
        model.hf(**inputs, mm_encoder_outputs={"video": features})


def test_a_policy_that_looks_for_no_face_takes_any_video(
    model: MultimodalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(model.family), "video_tokens", lambda *_: None)
    with attach(model, make_plan(model, TAIL)), torch.no_grad():
        assert model.hf(**film(model, FIRST)).logits.isfinite().all()


def test_frames_of_several_videos() -> None:
    ids = torch.tensor([[9, VIDEO, VIDEO, 9, VIDEO, VIDEO], [VIDEO, VIDEO, VIDEO, VIDEO, 9, 9]])
    grid = [[2, 2, 2], [1, 2, 4], [4, 2, 2]]
    found = frame_starts(ids.eq(VIDEO), grid, 4)
    assert found.int().tolist() == [[0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 0, 0]]
    with pytest.raises(AttachError, match="frames as pictures"):
        frame_starts(ids.eq(VIDEO), grid[:2], 4)
