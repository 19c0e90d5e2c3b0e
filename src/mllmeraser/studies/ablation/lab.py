"""Requests, fits and directions of one split and fold; each is made once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mllmeraser.benchmarks.benchmark import Benchmark
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.embedded.demo import forget_request
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.directions.contrast_states import ContrastSet, contrast_states
from mllmeraser.erasure.directions.kinds import Direction, direction_kind
from mllmeraser.erasure.directions.pgd import AdversarialBatch, perturb
from mllmeraser.erasure.fit.closed_form import directions_from
from mllmeraser.erasure.fit.linear import fit
from mllmeraser.erasure.fit.split import DataSplit, split, unit_hash
from mllmeraser.erasure.settings import DirectionSettings, FitSettings, PGDSettings
from mllmeraser.erasure.states.collect import States, answer_states, gather, statistics_of
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.erasure.states.statistics import ERASE, FORGET, RECALL, STRANGERS
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.portraits.people import World
from mllmeraser.portraits.prompts import contrast_prompts
from mllmeraser.portraits.wordings import ANSWERS
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.request import Request, Subject
from mllmeraser.samples.sample import Sample
from mllmeraser.studies.ablation.remembered import RememberingModel

SALT = "study"


@dataclass(frozen=True)
class Shown:
    """What a request is made of.

    Attributes:
        pictures: Of every person.
        names: Whether names are given; if not, the model is asked for them.
        retain: Share of the retain prompts that is left, chosen by a seeded hash.
        people: Whom it is about; empty: everybody of the split.
    """

    pictures: int = 4
    names: bool = True
    retain: float = 1.0
    people: tuple[str, ...] = ()


class Lab:
    """Where the rows of an ablation are made.

    Attributes:
        model: The model, remembering states.
        benchmark: Whose people are to be forgotten.
        split: How many of them.
        fold: Which.
        seed: Of everything random.
    """

    def __init__(self, model: RememberingModel, benchmark: Benchmark, split: str, fold: int, seed: int) -> None:
        """Nothing is made yet."""
        self.model, self.benchmark, self.split, self.fold, self.seed = model, benchmark, split, fold, seed
        self._requests: dict[Shown, Request] = {}
        self._fits: dict[tuple[FitSettings, Shown], Eraser] = {}
        self._directions: dict[DirectionSettings, dict[int, Direction]] = {}
        self._pairs: dict[PGDSettings, AdversarialBatch] = {}
        self._anchors: dict[tuple[tuple[int, ...], tuple[int, ...]], PromptStateCache] = {}

    @cached_property
    def people(self) -> tuple[str, ...]:
        """Keys of the people to forget."""
        return self.benchmark.forget_ids(self.split, self.fold)

    @cached_property
    def contrast(self) -> ContrastSet:
        """The shipped prompts that the model refuses, and their twins, over pictures and as many in text alone."""
        return ContrastSet.from_samples(*contrast_prompts(self.seed))

    def request(self, shown: Shown) -> Request:
        """The completed request; the one with everything shown, and the last other one, are kept."""
        if shown not in self._requests:
            written = forget_request(self.benchmark, self.split, self.fold, shown.pictures)
            subjects = tuple(_as_shown(s, shown) for s in written.subjects if s.key in (shown.people or self.people))
            completed = complete(replace(written, subjects=subjects), self.model, seed=self.seed).request
            made = replace(completed, retain=self._some(completed.retain, shown.retain))
            self._requests = {key: one for key, one in self._requests.items() if key == Shown()} | {shown: made}
        return self._requests[shown]

    def _some(self, retain: Sequence[Sample], share: float) -> tuple[Sample, ...]:
        if share >= 1.0:
            return tuple(retain)
        ranked = sorted(retain, key=lambda sample: unit_hash(self.seed, "ablation", sample.digest()))
        kept = {id(sample) for sample in ranked[: math.ceil(share * len(ranked))]}
        return tuple(sample for sample in retain if id(sample) in kept)

    def settings(self, settings: FitSettings) -> FitSettings:
        """The settings with the seed of this lab."""
        return settings.model_copy(update={"seed": self.seed, "salt": SALT})

    @cached_property
    def parts(self) -> DataSplit:
        """How the fits of all presets split the request with four pictures and the names."""
        return split(self.request(Shown()), self.settings(FitSettings()), SALT)

    def fitted(self, settings: FitSettings, shown: Shown | None = None) -> Eraser:
        """The artifact that a fit with these settings gives."""
        key = settings, shown or Shown()
        if key not in self._fits:
            contrast = self.contrast if "contrast" in direction_kind(settings.direction.kind).needs else None
            cache = self._cache_of_settings(settings) if settings.gate.kind == "subject" else None
            self._fits[key] = fit(
                self.model, self.request(key[1]), self.settings(settings), contrast=contrast, cache=cache
            ).eraser
        return self._fits[key]

    def _cache_of_settings(self, settings: FitSettings) -> PromptStateCache:
        """Where the states of the default gate are kept, for fits that read and shift at the same layers."""
        reads, (shifts, *_) = settings.layers(self.model.num_layers)
        return self._anchors.setdefault((reads, shifts), PromptStateCache(self.model, reads, shifts))

    def pairs(self, settings: PGDSettings) -> AdversarialBatch:
        """The prompts that the model refuses over a picture, perturbed until it complies."""
        if settings not in self._pairs:
            pictured = self.contrast.with_images()
            self._pairs[settings] = perturb(self.model, pictured.recall, pictured.targets, settings)
        return self._pairs[settings]

    def pair_states(self, pairs: AdversarialBatch, points: Sequence[HookPoint]) -> dict[str, States]:
        """States of both sides of the pairs that flipped, of the model as it is now.

        Raises:
            InputError: None flipped.
        """
        rows = pairs.flipped.nonzero().flatten().tolist()
        if not rows:
            raise InputError("no perturbed picture made the model comply")
        erase = self.model.states([pairs.samples[row] for row in rows], points)
        return {ERASE: erase, RECALL: pairs.states(self.model, points, rows)}

    def directions(self, settings: DirectionSettings) -> dict[int, Direction]:
        """Directions of a kind at every layer, from the request with four pictures and the names."""
        if settings not in self._directions:
            statistics = statistics_of(self._sides(settings), ())
            self._directions[settings] = directions_from(statistics, settings.kind, range(self.model.num_layers))
        return self._directions[settings]

    def _sides(self, settings: DirectionSettings) -> dict[str, States]:
        points, parts = self.model.hookpoints(), self.parts
        if settings.kind == "refusal":
            return self.pair_states(self.pairs(settings.pgd), points)
        if "contrast" in direction_kind(settings.kind).needs:
            sides = contrast_states(self.model, self.contrast, settings, points)
            return {ERASE: sides.erase, RECALL: sides.recall}
        if settings.kind == "idk":
            return self._answered(parts, settings.idk_answer)
        samples = {f"{FORGET}/{key}": rows for key, rows in parts.forget.items()}
        return gather(self.model, samples | {STRANGERS: parts.strangers}, points)

    def _answered(self, parts: DataSplit, idk: str) -> dict[str, States]:
        """Forget questions with their true answers, and with "I don't know": the only rows given private facts."""
        points = self.model.hookpoints()
        facts = {person.key: {**person.facts, "identity": person.name} for person in World("dev").people}
        found: dict[str, States] = {}
        for key, samples in parts.forget.items():
            told = [(sample, truth) for sample in samples if (truth := true_answer(sample, facts))]
            asked = [sample for sample, _ in told]
            found[f"{RECALL}/{key}"] = answer_states(self.model, asked, [truth for _, truth in told], points)
            found[f"{ERASE}/{key}"] = answer_states(self.model, asked, [idk] * len(asked), points)
        return found


def true_answer(sample: Sample, facts: dict[str, dict[str, str]]) -> str | None:
    """What is true of a person, in the words the model was taught; None where no fact is asked, or by letter."""
    value = facts.get(sample.subject or "", {}).get(sample.attribute or "")
    if value is None or sample.task == "classification":
        return None  # the options of an added wording need not hold the truth
    return value if sample.task == "cloze" else ANSWERS[sample.attribute or ""].format(value=value)


def _as_shown(subject: Subject, shown: Shown) -> Subject:
    return subject if shown.names else replace(subject, names=())
