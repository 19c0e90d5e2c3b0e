"""The basis that all subjects share on one model: discriminants of names and of faces, and the topic.

It is made from retained people, strangers and background prompts, never from the subjects. So the gates of one subject
do not depend on any other. Subjects are added and removed exactly, and erasers made with one basis can be consolidated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mllmeraser.erasure.fit.background_prompts import (
    NAMES,
    mentions,
    open_questions,
    requests,
    world_questions,
)
from mllmeraser.erasure.gates import DiscriminantBasis, TopicGate, discriminant_basis, soft_gate
from mllmeraser.erasure.gates.conformal import topic_threshold
from mllmeraser.erasure.settings import GateSettings
from mllmeraser.erasure.states.moments import Moments, summed
from mllmeraser.erasure.states.prompt_states import PromptStateCache, PromptStates, name_ends
from mllmeraser.erasure.states.subject_states import Captured
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.sample import IMPERSONAL, Sample

ALWAYS_OPEN = 2.0
"""Offset of a topic gate that is always open. A cosine less its threshold, which is another cosine, is at most 2."""
MISSED_REQUESTS = 0.1
"""Share of bare requests that may be missed where they overlap with questions about the world."""


@dataclass(frozen=True)
class SharedBasis:
    """What the gates of all subjects share on one model.

    Attributes:
        name: Discriminants of names, at text tokens.
        face: Discriminants of faces, in the mean over a picture.
        topic: (d,) float64 weight at the last prompt token. States score about 1 where a fact about a person is wanted,
            else about 0. None where one kind of question is missing.
        request: Weight (d,) at the same token, and threshold, of bare requests for what was said before.
    """

    name: DiscriminantBasis
    face: DiscriminantBasis
    topic: Tensor | None
    request: tuple[Tensor, float] | None = None


def basis_prompts(strangers: Sequence[Sample], settings: GateSettings) -> list[Sample]:
    """Background prompts of a basis: placeholder names in varied sentences, and open questions."""
    named = [sample for name in NAMES for sample in mentions(name, [name])]
    return [*named, *open_questions(strangers, settings.subject.open_question_images)]


def request_prompts() -> list[Sample]:
    """Prompts of the gate for bare requests. They are captured apart, so that the batches above stay what they were."""
    return [*requests(), *world_questions()]


def basis_samples(retain: Sequence[Sample], strangers: Sequence[Sample], settings: GateSettings) -> list[Sample]:
    """All samples of a basis, in the order in which they are captured."""
    return [*retain, *strangers, *basis_prompts(strangers, settings)]


def fit_shared_basis(
    cache: PromptStateCache,
    retain: Sequence[Sample],
    strangers: Sequence[Sample],
    settings: GateSettings,
    progress: Progress | None = None,
) -> SharedBasis:
    """The basis of a model. Too few samples are an `InputError`."""
    width = cache.model.hidden_size
    # A fit with the same cache makes directions of the strangers: their shifted states are captured in the same pass.
    cache.of(basis_samples(retain, strangers, settings), progress, shifted=strangers)
    kept, others = Captured(retain, cache.of(retain)), Captured(strangers, cache.of(strangers))
    questions = open_questions(strangers, settings.subject.open_question_images)
    background, asked = kept + others, Captured(questions, cache.of(questions))
    rank, ridge = settings.rank or width, settings.ridge
    words = summed((prompt.text for prompt in background.by_name().states), width)
    names = (summed(named_states(cache.model, cache.of(mentions(name, [name])), [name]), width) for name in NAMES)
    # Of people only: else the discriminants tell faces from scenes.
    faces = [p.image for sample, p in zip(background.samples, background.states, strict=True) if sample.subject]
    looks = summed(faces if any(map(len, faces)) else [p.image for p in background.states], width)
    people = (summed([own], width) for own in kept.faces().values())
    return SharedBasis(
        discriminant_basis(words, names, rank=rank, ridge=ridge),
        discriminant_basis(looks, people, rank=rank, ridge=ridge),
        topic_weight(background + asked, settings),
        request_gate(cache, background + asked, settings),
    )


def request_gate(cache: PromptStateCache, others: Captured, settings: GateSettings) -> tuple[Tensor, float]:
    """(d,) weight and threshold: bare requests ("go on") against questions about the world.

    One half of either side fits the weight, the other sets the threshold.
    """
    cache.of(request_prompts())
    world = cache.of(world_questions())
    pairs = zip(others.samples, others.states, strict=True)
    world += [prompt for sample, prompt in pairs if sample.attribute in IMPERSONAL]
    sides = [torch.stack([p.last for p in side]).double() for side in (world, cache.of(requests()))]
    free, asked = (Moments.from_states(side[::2]) for side in sides)
    energy = float(sum(side.second.diagonal().mean() / side.n for side in (free, asked))) / 2
    weight = soft_gate(free, asked, gamma=settings.subject.topic_ridge * energy).tensors["weight"][0]
    apart, found = (side[1::2] @ weight for side in sides)
    return weight, topic_threshold(apart, found, found, MISSED_REQUESTS, settings.subject.topic_margin)


def topic_weight(prompts: Captured, settings: GateSettings, attributes: Sequence[str] = ()) -> Tensor | None:
    """(d,) weight of a soft gate: questions for these attributes against all others; None if one side is empty.

    The ridge is strong for all facts together, since their gate must hold for unforeseen questions. It is that of the
    settings for single attributes, which differ in finer traits.
    """
    sides = prompts.asking(attributes), prompts.asking(attributes, wanted=False)
    if not all(map(len, sides)):
        return None
    width = len(prompts.states[0].last)
    facts, other = (summed((prompt.last[None] for prompt in side.states), width) for side in sides)
    energy = float(sum(side.second.diagonal().mean() / side.n for side in (facts, other))) / 2
    gamma = settings.gamma if attributes else settings.subject.topic_ridge * energy
    return soft_gate(other, facts, beta=1.0, gamma=gamma).tensors["weight"][0]


def topic_gate(
    weights: Sequence[Tensor | None], width: int, settings: GateSettings, request: tuple[Tensor, float] | None = None
) -> TopicGate:
    """The topics of all subjects as one gate; it is always open to a subject without a topic."""
    rows = [torch.zeros(width, dtype=torch.float64) if weight is None else weight for weight in weights]
    offset = torch.tensor([ALWAYS_OPEN if weight is None else 0.0 for weight in weights])
    tensors = {"weight": torch.stack(rows)}
    if request is not None:
        tensors |= {"request": request[0], "request_bound": torch.tensor([request[1]], dtype=torch.float64)}
    return TopicGate(tensors, settings).affine(torch.ones(len(rows)), offset)


def named_states(model: MultimodalModel, prompts: Sequence[PromptStates], names: Sequence[str]) -> list[Tensor]:
    """States (occurrences, d) of prompts at the last token of any of the names; at all tokens without a name."""
    if not names:
        return [prompt.text for prompt in prompts]
    ends = [sorted({e for name in names for e in name_ends(model, prompt.ids, name)}) for prompt in prompts]
    return [prompt.text[where] for prompt, where in zip(prompts, ends, strict=True)]
