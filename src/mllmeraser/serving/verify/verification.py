"""verify(model, eraser, request) -> Verification: are the subjects forgotten, and is everything else unchanged?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mllmeraser.benchmarks.defaults import complete
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.evaluation.attacks.asked import Asked, answers
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.turns import reading_of
from mllmeraser.portraits.people import Person, World
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples.conversation import Conversation
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Count, Progress, counting
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample
from mllmeraser.serving.spans import span
from mllmeraser.serving.verify import fresh_prompts as fresh
from mllmeraser.serving.verify.checks import Check, all_checks
from mllmeraser.serving.verify.conversations import in_conversations
from mllmeraser.serving.verify.facts import AnswerPair
from mllmeraser.serving.verify.general import general_prompts, perception_prompts
from mllmeraser.serving.verify.thresholds import Thresholds
from mllmeraser.version import __version__

BATCH = 32
LONGEST = 24
PROBES = 16
NAME_GATE, FACE_GATE = 0, 2
"""Positions of the gates for names and for faces among the read layers of an eraser with subject gates."""
_PLACEHOLDER = Sample("Nothing is asked here.", id="stand-in")


@dataclass(frozen=True)
class Verification:
    """The result of a verification, without personal data.

    Attributes:
        version: Version of this package.
        model: Name of the model, without folders.
        fingerprint: Fingerprint of the model.
        eraser: Digest of the eraser.
        seed: Seed of the prompts.
    """

    passed: bool
    checks: tuple[Check, ...]
    seconds: float
    version: str
    model: str
    fingerprint: str
    eraser: str
    seed: int

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Verification:
        """The inverse of `as_dict`, for the values in a ledger.

        Raises:
            InputError: If the values are not those of a verification.
        """
        try:
            return cls(**{**values, "checks": tuple(Check(**check) for check in values["checks"])})
        except (KeyError, TypeError) as error:
            raise InputError(f"this is not a verification ({error})") from None

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "checks": [asdict(check) for check in self.checks]}


@span("verify")
def verify(
    model: MultimodalModel,
    eraser: Eraser,
    request: Request,
    *,
    thresholds: Thresholds | None = None,
    retain: Sequence[Sample] | None = None,
    seed: int = 0,
    sizes: fresh.Sizes | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Measure an eraser against the bare model, on prompts that it was not fitted on.

    `fresh_prompts` explains why the fit has seen none of them. An answer counts as forgotten if it differs from the
    bare model's and repeats none of the facts that the bare model gave (`facts`).

    Args:
        model: The model, with nothing attached. It must serve no other requests during the verification.
        eraser: The eraser to measure.
        request: The user's request as passed to `erase`, not expanded.
        thresholds: The bounds; None means the defaults.
        retain: More prompts with answers that must not change, asked unchanged. The fit must not have seen them. Fresh
            views of the request's own retain pictures and the shipped people are always asked.
        seed: Seed of the prompts.
        sizes: How many prompts to ask; None means some 450.
        progress: Receives the stages `read the gate` and `answers`.

    Raises:
        ArtifactError: If the eraser was made for another model.
        InputError: If the request has neither a picture nor a name, so that no fresh prompt can be made.
    """
    began = time.perf_counter()
    eraser.check_model(model)
    request.validate()
    groups = _prompts(model, eraser, request, retain or (), seed, sizes or fresh.Sizes(), progress)
    talks = _conversations(model, eraser, groups, seed, (sizes or fresh.Sizes()).conversations)
    pairs, identical = _ask(model, eraser, groups, talks, progress)
    checks = all_checks(pairs, decides=_decides(eraser), identical=identical, bounds=thresholds or Thresholds())
    return Verification(
        passed=all(check.passed for check in checks),
        checks=tuple(checks),
        seconds=round(time.perf_counter() - began, 3),
        version=__version__,
        model=_label(model.name),
        fingerprint=model.fingerprint(),
        eraser=eraser.digest(),
        seed=seed,
    )


def _conversations(
    model: MultimodalModel, eraser: Eraser, groups: dict[str, list[Sample]], seed: int, n: int
) -> dict[str, list[Asked]]:
    """Prompts in conversations; none where an eraser cannot read them, since then they are refused.

    An eraser that takes a conversation for one text fires after a question about a subject, as `docs/limits.md` says.
    """
    read = reading_of(model.hf, model.family)
    if read == "nothing" and eraser.config.policy.pooling == "subject":
        return {}
    others = [*groups["retain"], *groups["general"]]
    before = groups["forget"] if read == "each turn" and eraser.config.turns is not None else ()
    return {
        "told": in_conversations(model, groups["forget"], (), seed, n, forgotten=True),
        "talk": in_conversations(model, others, before, seed, n, forgotten=False),
    }


def _label(name: str) -> str:
    """The name of a model without the folders above it, which are private."""
    return name if name.count("/") <= 1 and not name.startswith(("/", ".", "~")) else Path(name).name


def _decides(eraser: Eraser) -> bool:
    return eraser.config.policy.phi == "threshold"


def _prompts(
    model: MultimodalModel,
    eraser: Eraser,
    request: Request,
    retain: Sequence[Sample],
    seed: int,
    sizes: fresh.Sizes,
    progress: Progress | None,
) -> dict[str, list[Sample]]:
    """Prompts by group, without those of the completed request."""
    completed = _completed(request, model)
    subjects = [replace(own, names=full.names) for own, full in zip(request.subjects, completed.subjects, strict=True)]
    known = fresh.known_people(World("dev"), [name for subject in subjects for name in subject.names])
    by_name = all(sample.image is None for sample in request.forget)
    near = _nearest(model, eraser, known, seed, sizes.neighbours, by_name=by_name, progress=progress)
    some = Stream("verification", seed, "people").shuffle(list(known))[: sizes.people]
    groups = {
        "forget": fresh.forget_prompts(subjects, seed, sizes),
        "rest": fresh.rest_prompts(subjects, seed, sizes),
        "neighbours": _people(near, Stream("verification", seed, "near"), sizes.neighbour_prompts),
        "retain": [
            *retain,
            *fresh.own_retain_prompts(request.retain, seed, sizes.people),
            *_people(some, Stream("verification", seed, "retain"), sizes.prompts),
        ],
        "general": general_prompts(known, seed, sizes.general),
        "perception": perception_prompts(fresh.subject_views(subjects, seed, sizes.views), seed, sizes.perception),
    }
    seen = {s.digest() for s in (*completed.forget, *completed.retain, *completed.strangers)}
    groups = {name: fresh.unseen(samples, seen) for name, samples in groups.items()}
    if not groups["forget"]:
        raise InputError("the verification has no fresh prompts: give a picture or a name of each subject")
    return groups


def _completed(request: Request, model: MultimodalModel) -> Request:
    """The request as `erase` completes it, with names that the model tells, but without the shipped sets.

    These sets are slow to draw, and all their wordings are of the pool `train`.
    """
    filled = replace(request, retain=request.retain or (_PLACEHOLDER,), strangers=request.strangers or (_PLACEHOLDER,))
    return complete(filled, model).request


def _nearest(
    model: MultimodalModel,
    eraser: Eraser,
    people: Sequence[Person],
    seed: int,
    n: int,
    *,
    by_name: bool,
    progress: Progress | None,
) -> list[Person]:
    """The `n` retained people that the eraser is most likely to take for its subjects, the nearest first.

    One prompt about each is scored: over a new picture by the face gate, or, with `by_name` (a request without
    pictures), in text by the name gate. An eraser without these gates ranks by its score.
    """
    stream = Stream("verification", seed, "candidates")
    prompts = [fresh.person_prompts(person, stream.child(person.key), 2)[1 if by_name else 0] for person in people]
    readings = read_gate(model, eraser, prompts, progress=progress)
    scores = readings.pooled
    if eraser.config.policy.pooling == "subject":
        scores = readings.layers[eraser.config.read_layers[NAME_GATE if by_name else FACE_GATE]].amax(-1)
    return [people[row] for row in scores.argsort(descending=True)[:n].tolist()]


def _people(people: Sequence[Person], stream: Stream, n: int) -> list[Sample]:
    return [sample for person in people for sample in fresh.person_prompts(person, stream.child(person.key), n)]


def _ask(
    model: MultimodalModel,
    eraser: Eraser,
    groups: dict[str, list[Sample]],
    talks: dict[str, list[Asked]],
    progress: Progress | None,
) -> tuple[dict[str, list[AnswerPair]], bool]:
    """Answers and decisions by group, and whether the logits after detaching equal those before."""
    samples = [sample for group in groups.values() for sample in group]
    probes = samples[:: max(1, len(samples) // PROBES)][:PROBES]
    spoken = [one for group in talks.values() for one in group]
    count = counting(progress, "answers", 2 * (len(samples) + len(spoken)))
    logits = model.next_token_logits(probes, batch_size=BATCH)
    before, before_spoken = _answers(model, samples, spoken, count)
    with eraser.attached(model):
        after, after_spoken = _answers(model, samples, spoken, count)
    fired = _fired(model, eraser, samples, progress)
    fired_spoken = _fired(model, eraser, [one.conversation for one in spoken], progress)
    identical = torch.equal(logits, model.next_token_logits(probes, batch_size=BATCH))
    rows = iter(zip(samples, before, after, fired, strict=True))
    pairs = {name: [AnswerPair(*next(rows)) for _ in group] for name, group in groups.items()}
    told = iter(zip([one.sample for one in spoken], before_spoken, after_spoken, fired_spoken, strict=True))
    pairs |= {name: [AnswerPair(*next(told)) for _ in group] for name, group in talks.items()}
    return pairs, identical


def _fired(
    model: MultimodalModel,
    eraser: Eraser,
    prompts: Sequence[Sample] | Sequence[Conversation],
    progress: Progress | None,
) -> list[bool]:
    """Whether the decision acts on each prompt; False without a decision."""
    if not _decides(eraser) or not prompts:
        return [False] * len(prompts)
    scores = read_gate(model, eraser, prompts, batch_size=BATCH, progress=progress).pooled
    return (scores > (eraser.config.threshold or 0.0)).tolist()


def _answers(
    model: MultimodalModel, samples: Sequence[Sample], spoken: Sequence[Asked], count: Count
) -> tuple[list[str], list[str]]:
    """Answers to the samples, and in the conversations."""
    plain = model.generate(samples, max_new_tokens=LONGEST, batch_size=BATCH, progress=count)
    return plain, answers(model, spoken, tokens=LONGEST, rows=BATCH, count=count)
