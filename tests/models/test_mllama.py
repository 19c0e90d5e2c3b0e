"""A family without positions for pictures in the prompt."""

from __future__ import annotations

import pytest
import torch
import zoo
from steering_kit import ALWAYS, make_plan

from mllmeraser.erasure.policy import SUBJECT
from mllmeraser.erasure.steering import attach
from mllmeraser.erasure.steering.plan import SteeringPlan
from mllmeraser.samples import AttachError, Sample
from tiny import picture

SHOWN, TOLD = Sample("Who is this?", picture(1)), Sample("Where was Jonas Ferrick born?")


def test_a_picture_without_a_place_in_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mllama sees pictures through cross-attention, independent of the prompt tokens."""
    model = zoo.build("mllama")
    reads = model.family.hook_layers(model.hf)
    bare = make_plan(model, SUBJECT, threshold=ALWAYS)
    gates = dict(zip(reads[:3], bare.gates.values(), strict=True))
    last = reads[-1]
    direction = next(iter(bare.directions.values()))
    plan = SteeringPlan("jane", reads[:3], (last,), {last: direction}, gates, SUBJECT, 1.0, ALWAYS, bare.image_token)
    inputs = dict(model.encode([SHOWN]))
    keep = inputs["input_ids"][0] != bare.image_token
    ids = inputs["input_ids"][:, keep]
    given = {name: inputs[name] for name in ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")}
    with attach(model, plan), torch.no_grad():
        with pytest.raises(AttachError, match="stand apart"):
            model.hf(input_ids=ids, attention_mask=torch.ones_like(ids), **given)
        model.hf(**inputs)
        model.hf(**model.encode([TOLD]))
        model.hf.generate(**model.encode([TOLD]), max_new_tokens=1)
        with pytest.raises(AttachError, match="stand apart"):
            model.hf.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **given, max_new_tokens=1)
