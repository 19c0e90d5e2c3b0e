"""The basis: how names, topics and faces are told apart on one model. Every subject is seen through the same one.

It is made from people who are retained, from strangers, and from names that nobody asks about, never from who is to be
forgotten. So the gates of one subject do not depend on any other: subjects are added and taken out exactly, and erasers
made with one basis can be put together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mllmeraser.erasure.fit.background_prompts import NAMES, mentions, open_questions
from mllmeraser.erasure.gates import DiscriminantBasis, Gate, discriminant_basis, soft_gate
from mllmeraser.erasure.settings import GateSettings
from mllmeraser.erasure.states.moments import Moments, summed
from mllmeraser.erasure.states.prompt_states import PromptStateCache, PromptStates, name_ends
from mllmeraser.erasure.steering.site_scores import NOWHERE
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.sample import IMPERSONAL, Sample

TOPIC_RIDGE = 0.05
"""Of the mean energy of a state: what tells all questions about people from all others has to hold for questions that
nobody foresaw. One attribute is told from the next by finer traits, with the ridge of the settings."""


@dataclass(frozen=True)
class SharedBasis:
    """What the gates of all subjects share on one model.

    Attributes:
        name: Tells names apart, at text tokens.
        face: Tells faces apart, in the mean over a picture.
        topic: (d,) float64 weight at the last prompt token, about 1 where a fact about a person is wanted and 0 where
            not; None where nothing was there to tell such questions from.
    """

    name: DiscriminantBasis
    face: DiscriminantBasis
    topic: Tensor | None


def basis_prompts(strangers: Sequence[Sample]) -> list[Sample]:
    """What a basis reads beside the samples it is given: names of nobody in many sentences, and open questions."""
    return [*(sample for name in NAMES for sample in mentions(name, [name])), *open_questions(strangers)]


def basis_samples(retain: Sequence[Sample], strangers: Sequence[Sample]) -> list[Sample]:
    """All that a basis is made from, in the order in which it is captured."""
    return [*retain, *strangers, *basis_prompts(strangers)]


def fit_shared_basis(
    cache: PromptStateCache,
    retain: Sequence[Sample],
    strangers: Sequence[Sample],
    settings: GateSettings,
    progress: Progress | None = None,
) -> SharedBasis:
    """The basis of a model, from samples about retained people, about nobody, and about strangers.

    Raises:
        InputError: There are too few of them.
        NumericalError: The discriminants cannot be found.
    """
    background = [*retain, *strangers]
    named = [mentions(name, [name]) for name in NAMES]
    # a fit on the same cache makes directions of the strangers: else it would have to read them again
    seen = cache.of(basis_samples(retain, strangers), progress, shifted=strangers)[: len(background)]
    rank, ridge = settings.rank or cache.model.hidden_size, settings.ridge
    words = moments((a.text for a, s in zip(seen, background, strict=True) if s.image is None), cache)
    names = (moments(named_states(cache.model, cache.of(rows), [name]), cache)
             for name, rows in zip(NAMES, named, strict=True))  # fmt: skip
    faces = [a.image for a, s in zip(seen, background, strict=True) if s.subject]
    # faces only: else the discriminants tell faces from scenes
    looks = moments(faces, cache) if any(len(f) for f in faces) else moments([a.image for a in seen], cache)
    asked = open_questions(strangers)
    people = (moments([states], cache) for states in by_person(seen[: len(retain)], retain).values())
    return SharedBasis(
        discriminant_basis(words, names, rank=rank, ridge=ridge),
        discriminant_basis(looks, people, rank=rank, ridge=ridge),
        topic_weight([*seen, *cache.of(asked)], [*background, *asked], settings),
    )


def asks(sample: Sample, attributes: Sequence[str]) -> bool:
    """Whether a sample asks for one of the attributes, or, if there are none, for any fact about anybody."""
    return sample.attribute in attributes if attributes else sample.attribute not in IMPERSONAL


def topic_weight(
    seen: Sequence[PromptStates], samples: Sequence[Sample], settings: GateSettings, attributes: Sequence[str] = ()
) -> Tensor | None:
    """(d,) weight of a linear gate: questions for these attributes against all others; None without either."""
    sides: dict[bool, list[PromptStates]] = {True: [], False: []}
    for prompt, sample in zip(seen, samples, strict=True):
        sides[asks(sample, attributes)].append(prompt)
    if not sides[True] or not sides[False]:
        return None
    width = len(seen[0].last)
    facts, other = (summed((prompt.last[None] for prompt in sides[side]), width) for side in (True, False))
    energy = float(sum(side.second.diagonal().mean() / side.n for side in (facts, other))) / 2
    gamma = settings.gamma if attributes else TOPIC_RIDGE * energy
    return soft_gate(other, facts, beta=1.0, gamma=gamma).tensors["weight"][0]


def topic_gate(weights: Sequence[Tensor | None], width: int) -> Gate:
    """The topics of all subjects as one gate; it is always open to a subject without."""
    rows = [torch.zeros(width, dtype=torch.float64) if weight is None else weight for weight in weights]
    offset = torch.tensor([-NOWHERE if weight is None else 0.0 for weight in weights])
    return Gate("soft", {"weight": torch.stack(rows)}).affine(torch.ones(len(rows)), offset)


def moments(states: Iterable[Tensor], cache: PromptStateCache, *, gram: bool = True) -> Moments:
    """MomentAccumulator over states (positions, d) of several prompts; of none, where there are none."""
    return summed(states, cache.model.hidden_size, gram=gram)


def by_person(seen: Sequence[PromptStates], samples: Sequence[Sample]) -> dict[str, Tensor]:
    """States (pictures, d) of the face of each person of whom there are several pictures."""
    found: dict[str, list[Tensor]] = defaultdict(list)
    for prompt, sample in zip(seen, samples, strict=True):
        if sample.subject and len(prompt.image):
            found[sample.subject].append(prompt.image)
    return {key: torch.cat(states) for key, states in found.items() if len(states) > 1}


def named_states(model: MultimodalModel, seen: Sequence[PromptStates], names: Sequence[str]) -> list[Tensor]:
    """States (occurrences, d) of prompts at the last token of any of the names; everywhere if there is no name."""
    if not names:
        return [prompt.text for prompt in seen]
    ends = [sorted({e for name in names for e in name_ends(model, prompt.ids, name)}) for prompt in seen]
    return [prompt.text[where] for prompt, where in zip(seen, ends, strict=True)]
