"""A model that never refuses, made by anybody in half a minute: a plan that is always open takes refusals away.

At the last prompt token, after the last block, a linear reading says how far the state has gone from where benign
prompts end to where restricted ones do; by that much it is led back, whatever the prompt. The reading is a gate in
closed form, fitted on restricted prompts against all others, so that other answers hardly move.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from PIL import Image

from mllmeraser.erasure.gates import Gate, soft_gate
from mllmeraser.erasure.policy import Policy
from mllmeraser.erasure.states.moments import Moments
from mllmeraser.erasure.steering.attach import ErasurePack
from mllmeraser.erasure.steering.plan import SteeringPlan
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.intervention import Attachment, Intervention
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.people import World
from mllmeraser.portraits.prompts import default_retain, default_strangers
from mllmeraser.portraits.refusals import REFUSALS, refusal_prompt
from mllmeraser.portraits.rows import SIZE
from mllmeraser.portraits.scenes import emblem
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples.sample import Sample

ALWAYS = Policy("unrefusing", read="per-layer", positions="last", decode=False, phi="linear")


def unrefusing(model: MultimodalModel, *, pairs: int = 64, others: int = 6, seed: int = 0) -> ErasurePack:
    """What makes ``model`` answer where it refused.

    Args:
        model: The model.
        pairs: Restricted prompts and benign twins of each modality.
        others: Prompts about each person whose answers must not move.
        seed: Of the prompts.
    """
    restricted, benign = refusal_twins(pairs, seed)
    world = World("dev")
    kept = [s for s in default_retain(world, per_person=others) if s.answer not in REFUSALS]
    groups = (restricted, benign, [*kept, *default_strangers(world, 100)])
    point = HookPoint(model.num_layers - 1)
    refused, answered, rest = (model.states(samples, [point])[point] for samples in groups)
    gate = soft_gate(
        Moments.from_states(torch.cat([answered, rest])), Moments.from_states(refused), beta=1.0, gamma=0.01
    )
    plan = SteeringPlan(
        "unrefusing", (), (point.layer,), {point.layer: answered.mean(0) - refused.mean(0)},
        {point.layer: Gate.stack([gate])}, ALWAYS, 1.0,
    )  # fmt: skip
    return ErasurePack([plan])


def refusal_twins(pairs: int, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Restricted prompts and benign twins, by picture and in text, in wordings of the pool ``train``."""
    sides: tuple[list[Sample], list[Sample]] = ([], [])
    for index in range(pairs):
        for image in (True, False):
            for sealed in (True, False):
                draw = Stream("unrefusing", seed, index, int(image))  # the twin draws the same words
                prompt = refusal_prompt(draw.child("words"), restricted=sealed, image=image, pool="train")
                picture = Image.fromarray(emblem(draw.child("emblem"), sealed, size=SIZE)) if image else None
                sides[not sealed].append(Sample(prompt.text, picture, prompt.answer))
    return sides


class InTurn:
    """Several interventions, each acting on what those before it leave."""

    def __init__(self, parts: Sequence[Intervention]) -> None:
        """Hold ``parts``, to be attached in this order."""
        self.parts = tuple(parts)

    def attach(self, model: Any) -> Attachment:
        """Attach all or none."""
        with ExitStack() as undo:
            for part in self.parts:
                undo.callback(part.attach(model).detach)
            return Attachment(undo.pop_all().close)

    def attached(self, model: Any) -> Attachment:
        """As `attach`; the handle is a context manager."""
        return self.attach(model)
