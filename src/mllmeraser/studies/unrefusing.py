"""A model that never refuses, made in half a minute: a steering plan that always acts removes the refusals.

A linear gate reads the state of the last prompt token after the last block. It measures how far the state lies on the
way from benign to restricted prompts, and the state is moved back by that distance, for every prompt. The gate is
fitted in closed form on restricted prompts against all others, so other answers hardly change.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import product
from typing import Any

import torch
from PIL import Image

from mllmeraser.erasure import Moments, Policy
from mllmeraser.erasure.gates import soft_gate
from mllmeraser.erasure.steering import ErasurePack
from mllmeraser.erasure.steering.plan import SteeringPlan
from mllmeraser.models import Attachment, HookPoint, Intervention, MultimodalModel
from mllmeraser.portraits.prompts import default_retain, default_strangers
from mllmeraser.portraits.refusals import REFUSALS, refusal_prompt
from mllmeraser.portraits.rows import SIZE
from mllmeraser.portraits.scenes import emblem
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.taught import world_taught
from mllmeraser.samples import Sample

ALWAYS = Policy("unrefusing", read="per-layer", positions="last", decode=False, phi="linear")


def unrefusing(model: MultimodalModel, *, pairs: int = 64, others: int = 6, seed: int = 0) -> ErasurePack:
    """An intervention that makes ``model`` answer where it refused.

    It is fitted on ``pairs`` restricted prompts and benign twins of each modality. The answers to ``others`` prompts
    about each person must stay the same.
    """
    restricted, benign = refusal_twins(pairs, seed)
    world = world_taught(model.name)
    kept = [s for s in default_retain(world, per_person=others) if s.answer not in REFUSALS]
    groups = (restricted, benign, [*kept, *default_strangers(world, 100)])
    point = HookPoint(model.num_layers - 1)
    refused, answered, rest = (model.states(samples, [point])[point] for samples in groups)
    gate = soft_gate(
        Moments.from_states(torch.cat([answered, rest])), Moments.from_states(refused), beta=1.0, gamma=0.01
    )
    plan = SteeringPlan(
        "unrefusing", (), (point.layer,), {point.layer: answered.mean(0) - refused.mean(0)},
        {point.layer: gate}, ALWAYS, 1.0,
    )  # fmt: skip
    return ErasurePack([plan])


def refusal_twins(pairs: int, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Restricted prompts and benign twins, by picture and in text, in wordings of the pool ``train``."""
    sides: tuple[list[Sample], list[Sample]] = ([], [])
    for index, image, sealed in product(range(pairs), (True, False), (True, False)):
        draw = Stream("unrefusing", seed, index, int(image))  # the twin draws the same words
        prompt = refusal_prompt(draw.child("words"), restricted=sealed, image=image, pool="train")
        picture = Image.fromarray(emblem(draw.child("emblem"), sealed, size=SIZE)) if image else None
        sides[not sealed].append(Sample(prompt.text, picture, prompt.answer))
    return sides


class InTurn:
    """Several interventions, attached in order; each acts on the result of those before it."""

    def __init__(self, parts: Sequence[Intervention]) -> None:
        self.parts = tuple(parts)

    def attach(self, model: Any) -> Attachment:
        """Attach all or none."""
        with ExitStack() as undo:
            for part in self.parts:
                undo.callback(part.attach(model).detach)
            return Attachment(undo.pop_all().close)

    attached = attach
    """As `attach`; the handle is a context manager."""
