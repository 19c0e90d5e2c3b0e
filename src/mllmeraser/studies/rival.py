"""The rival in conversations: what a sober engineer would build first.

A *block list* matches the names of a request in the text of the conversation, and its pictures by features of the
model's own tower (`methods.block_list`). With the *topic gate* of an eraser in front, it blocks only if a fact about a
person is asked for. A blocked prompt gets one sentence.
"""

from __future__ import annotations

from collections.abc import Sequence

from mllmeraser.erasure import Eraser
from mllmeraser.erasure.calibration.score_prompts import read_gate
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


def asks_for_a_fact(model: MultimodalModel, eraser: Eraser, asked: Sequence[Asked]) -> list[bool]:
    """Whether the topic gate of an eraser is open, read as in a conversation."""
    scores = read_gate(model, eraser, [one.conversation for one in asked]).layers[eraser.config.read_layers[TOPIC]]
    return (scores.amax(-1) > (eraser.config.threshold or 0.0)).tolist()
