"""The rival in conversations: what a sober engineer would build first.

A *block list* matches the names of a request in the text of the conversation, and its pictures by features of the
model's own tower (`methods.block_list`). With the *topic gate* of an eraser in front, it blocks only if a fact about a
person is asked for. A blocked prompt gets one sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from mllmeraser.erasure import Eraser
from mllmeraser.erasure.steering import attach
from mllmeraser.evaluation.attacks.asked import Asked
from mllmeraser.methods.block_list import BlockList, BlockListProduct
from mllmeraser.models import MultimodalModel
from mllmeraser.samples import Request, Sample

TOPIC = 1
"""Position of the topic gate among the read layers of an eraser with subject gates."""
NAMES = ("block list", "block list behind the topic gate")


def rival_answers(
    model: MultimodalModel, eraser: Eraser, request: Request, asked: Sequence[Asked], bare: Sequence[str]
) -> dict[str, list[str]]:
    """What the rivals answer, by `NAMES`: the answers of the bare model, or the sentence where they block."""
    product = BlockList().make(model, request)
    found = blocked(model, product, asked)
    topic = asks_for_a_fact(model, eraser, asked)
    sentence = product.settings.answer
    decided = dict(zip(NAMES, (found, [a and b for a, b in zip(found, topic, strict=True)]), strict=True))
    return {
        name: [sentence if no else text for no, text in zip(blocks, bare, strict=True)]
        for name, blocks in decided.items()
    }


def blocked(model: MultimodalModel, product: BlockListProduct, asked: Sequence[Asked]) -> list[bool]:
    """Whether a conversation names or shows a subject, in any turn."""
    rows = [
        (number, sample)
        for number, one in enumerate(asked)
        for sample in (Sample(one.conversation.text or "-"), *(Sample("-", image) for image in one.conversation.images))
    ]
    found = [False] * len(asked)
    for (number, _), no in zip(rows, product.blocked(model, [sample for _, sample in rows]), strict=True):
        found[number] = found[number] or no
    return found


@torch.no_grad()
def asks_for_a_fact(model: MultimodalModel, eraser: Eraser, asked: Sequence[Asked], *, rows: int = 24) -> list[bool]:
    """Whether the topic gate of an eraser is open, read as in a conversation."""
    plan = replace(eraser.plan(model), strength=0.0)
    layer, found = plan.reads[TOPIC], list[bool]()
    with attach(model, plan) as handle:
        for start in range(0, len(asked), rows):
            inputs = model.encode_conversations([one.conversation for one in asked[start : start + rows]])
            model.hf(**inputs, use_cache=False, logits_to_keep=1)
            assert handle.readings is not None
            scores = handle.readings.per_layer[plan.name][layer].amax(-1)
            found += (scores > plan.threshold).tolist()
    return found
