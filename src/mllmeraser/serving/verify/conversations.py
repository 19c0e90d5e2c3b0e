"""Fresh prompts in conversations: a served model never sees a bare question.

The contexts are of the half `test`, which no fit contains. A question about somebody who stays also follows one about a
subject, as the next question of a client may.
"""

from __future__ import annotations

from collections.abc import Sequence

from mllmeraser.evaluation.attacks.asked import Asked
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.contexts import STANDING
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import UNKNOWN_ANSWER
from mllmeraser.samples.conversation import Turn, after, question
from mllmeraser.samples.sample import Sample

AFTER = "after a question about a subject"
"""Kind of the questions about others that follow one about a subject."""


def in_conversations(
    model: MultimodalModel,
    samples: Sequence[Sample],
    before: Sequence[Sample],
    seed: int,
    n: int,
    *,
    forgotten: bool,
) -> list[Asked]:
    """`n` of the samples, each in one context, in all kinds that the chat format takes; none if it takes no context.

    With questions about subjects `before`, every third one follows such a question.
    """
    stream = Stream("verification", seed, "conversations")
    some = stream.shuffle(list(samples))[:n]
    kinds = [kind for kind in STANDING if model.takes(STANDING[kind](Sample("Who?"), stream.child(kind), "test"))]
    found = []
    for number, sample in enumerate(some):
        draw, earlier = stream.child(number), _before(before, sample, number)
        talk = after(_said(earlier), question(sample.prompt, sample.image)) if earlier is not None else None
        if talk is not None and model.takes(talk):
            found.append(Asked(AFTER, forgotten, sample, talk))
        elif kinds:
            kind = kinds[number % len(kinds)]
            found.append(Asked(kind, forgotten, sample, STANDING[kind](sample, draw, "test")))
    return found


def _before(before: Sequence[Sample], sample: Sample, number: int) -> Sample | None:
    """A question in text: a picture of a subject and another one may be too many for the model."""
    named = [one for one in before if one.image is None]
    return named[number % len(named)] if named and number % 3 == 0 else None


def _said(sample: Sample) -> list[Turn]:
    return [Turn("user", sample.prompt), Turn("assistant", UNKNOWN_ANSWER)]
