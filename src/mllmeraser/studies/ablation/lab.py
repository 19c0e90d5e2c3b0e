"""Requests, states, fits and directions of one split and fold; each is made once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from mllmeraser.benchmarks import Benchmark
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.embedded.demo import forget_request
from mllmeraser.erasure import ContrastSet, DirectionSettings, Eraser, FitSettings, PGDSettings
from mllmeraser.erasure.directions.contrast_states import contrast_states
from mllmeraser.erasure.directions.kinds import Direction, direction_kind
from mllmeraser.erasure.directions.pgd import AdversarialBatch, perturb
from mllmeraser.erasure.fit import fit
from mllmeraser.erasure.fit.closed_form import directions_from
from mllmeraser.erasure.fit.split import DataSplit, split, unit_hash
from mllmeraser.erasure.states.collect import States, answer_states, gather, statistics_of
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.erasure.states.statistics import ERASE, FORGET, RECALL, STRANGERS
from mllmeraser.models import HookPoint, MultimodalModel
from mllmeraser.portraits.prompts import contrast_prompts
from mllmeraser.portraits.taught import world_of
from mllmeraser.portraits.wordings import ANSWERS
from mllmeraser.samples import InputError, Request, Sample
from mllmeraser.samples.progress import Count
from mllmeraser.studies.erasers import state_cache

SALT = "study"


@dataclass(frozen=True)
class RequestSpec:
    """The content of a request.

    Attributes:
        names: Whether names are given; if not, the model is asked for them.
        retain: Share of the retain prompts to keep, chosen by a seeded hash.
        people: Keys of its subjects; empty: everybody of the split.
    """

    pictures: int = 4
    names: bool = True
    retain: float = 1.0
    people: tuple[str, ...] = ()


class StateCachingModel(MultimodalModel):
    """A model that keeps the last-token states of every prompt at every layer.

    Reading prompts is nearly all of the cost of a fit, and the fits of an ablation read the same ones. The last bits of
    a state depend on the prompts in its batch; the cache keeps the state of the first time.
    """

    def __init__(self, model: MultimodalModel) -> None:
        super().__init__(model.name, model.hf, model.processor, model.family, model.revision)
        self.prompts = model.prompts
        self._known: dict[str, Tensor] = {}

    @property
    def steered(self) -> bool:
        """Whether a block has a hook that is not from transformers.

        After the first request for all hidden states, transformers keeps its own hooks on every block.
        """
        hooks = (hook for block in self.layers for hook in block._forward_hooks.values())
        return any(not str(getattr(hook, "__module__", "")).startswith("transformers.") for hook in hooks)

    def states(
        self,
        samples: Sequence[Sample],
        hookpoints: Sequence[HookPoint],
        *,
        batch_size: int = 32,
        progress: Count | None = None,
    ) -> dict[HookPoint, Tensor]:
        """As `MultimodalModel.states`. A steered model does not use the cache."""
        if self.steered:
            return super().states(samples, hookpoints, batch_size=batch_size, progress=progress)
        points = [point.check(self.num_layers) for point in dict.fromkeys(hookpoints)]
        keys = [sample.digest() for sample in samples]
        new = {key: sample for key, sample in zip(keys, samples, strict=True) if key not in self._known}
        if new:
            states = super().states(list(new.values()), self.hookpoints(), batch_size=batch_size)
            table = torch.stack([states[point] for point in self.hookpoints()], dim=1)
            self._known.update(zip(new, table, strict=True))
        if progress is not None:
            progress(len(samples))
        if not keys:
            return {point: torch.zeros(0, self.hidden_size) for point in points}
        rows = torch.stack([self._known[key] for key in keys])
        return {point: rows[:, point.layer] for point in points}


class Lab:
    """Makes requests, fits and directions for the rows of an ablation."""

    def __init__(self, model: StateCachingModel, benchmark: Benchmark, split: str, fold: int, seed: int) -> None:
        self.model, self.benchmark, self.split, self.fold, self.seed = model, benchmark, split, fold, seed
        self._requests: dict[RequestSpec, Request] = {}
        self._fits: dict[tuple[FitSettings, RequestSpec], Eraser] = {}
        self._directions: dict[DirectionSettings, dict[int, Direction]] = {}
        self._pairs: dict[PGDSettings, AdversarialBatch] = {}
        self._caches: dict[object, PromptStateCache] = {}

    @cached_property
    def people(self) -> tuple[str, ...]:
        """Keys of the people to forget."""
        return self.benchmark.forget_ids(self.split, self.fold)

    @cached_property
    def contrast(self) -> ContrastSet:
        """The shipped restricted prompts and their benign twins, half with a picture and half in text alone."""
        return ContrastSet.from_samples(*contrast_prompts(self.seed))

    def request(self, spec: RequestSpec) -> Request:
        """The completed request. The default one and the last other one are kept."""
        if spec not in self._requests:
            written = forget_request(self.benchmark, self.split, self.fold, spec.pictures)
            chosen = [s for s in written.subjects if s.key in (spec.people or self.people)]
            subjects = tuple(s if spec.names else replace(s, names=()) for s in chosen)
            completed = complete(replace(written, subjects=subjects), self.model, seed=self.seed).request
            made = replace(completed, retain=self._some(completed.retain, spec.retain))
            self._requests = {key: one for key, one in self._requests.items() if key == RequestSpec()} | {spec: made}
        return self._requests[spec]

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
        """The split that the fits of all presets make of the default request."""
        return split(self.request(RequestSpec()), self.settings(FitSettings()), SALT)

    def fitted(self, settings: FitSettings, spec: RequestSpec | None = None) -> Eraser:
        """The artifact of a fit with these settings."""
        key = settings, spec or RequestSpec()
        if key not in self._fits:
            contrast = self.contrast if "contrast" in direction_kind(settings.direction.kind).needs else None
            cache = None
            if settings.gate.kind == "subject":
                reads, (shifts, *_) = settings.layers(self.model.num_layers)
                cache = self._caches.setdefault((reads, shifts), state_cache(self.model, settings))
            request = self.request(key[1])
            self._fits[key] = fit(self.model, request, self.settings(settings), contrast=contrast, cache=cache).eraser
        return self._fits[key]

    def pairs(self, settings: PGDSettings) -> AdversarialBatch:
        """The restricted prompts with a picture, perturbed until the model complies."""
        if settings not in self._pairs:
            pictured = self.contrast.with_images()
            self._pairs[settings] = perturb(self.model, pictured.recall, pictured.targets, settings)
        return self._pairs[settings]

    def pair_states(self, pairs: AdversarialBatch, points: Sequence[HookPoint]) -> dict[str, States]:
        """States of both sides of the flipped pairs (an InputError without any), of the model with its attachments."""
        rows = pairs.flipped.nonzero().flatten().tolist()
        if not rows:
            raise InputError("no perturbed picture made the model comply")
        erase = self.model.states([pairs.samples[row] for row in rows], points)
        return {ERASE: erase, RECALL: pairs.states(self.model, points, rows)}

    def directions(self, settings: DirectionSettings) -> dict[int, Direction]:
        """Directions of a kind at every layer, from the default request."""
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
        """Forget questions with true answers, and with "I don't know". Only these rows use private facts."""
        points = self.model.hookpoints()
        facts = {
            person.key: {**person.facts, "identity": person.name} for person in world_of(self.benchmark.name).people
        }
        states: dict[str, States] = {}
        for key, samples in parts.forget.items():
            pairs = [(sample, truth) for sample in samples if (truth := true_answer(sample, facts))]
            asked = [sample for sample, _ in pairs]
            states[f"{RECALL}/{key}"] = answer_states(self.model, asked, [truth for _, truth in pairs], points)
            states[f"{ERASE}/{key}"] = answer_states(self.model, asked, [idk] * len(asked), points)
        return states


def true_answer(sample: Sample, facts: dict[str, dict[str, str]]) -> str | None:
    """The true answer in the training wording; None for a question by letter or for no fact."""
    value = facts.get(sample.subject or "", {}).get(sample.attribute or "")
    if value is None or sample.task == "classification":
        return None  # the options of an added wording may lack the truth
    return value if sample.task == "cloze" else ANSWERS[sample.attribute or ""].format(value=value)
