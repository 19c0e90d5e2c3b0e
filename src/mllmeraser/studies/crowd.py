"""Requests for one person each, on one model: every fit sees through one basis and reads shared prompts once."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from mllmeraser.benchmarks.benchmark import Benchmark
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.fit.discriminants import fit_shared_basis
from mllmeraser.erasure.fit.linear import fit
from mllmeraser.erasure.fit.result import FitResult
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.people import World, strangers
from mllmeraser.portraits.prompts import (
    default_retain,
    default_strangers,
    perception_prompts,
    pictures_of,
    request_pictures,
)
from mllmeraser.samples.expansion import ExpansionSettings, expand_subject
from mllmeraser.samples.request import Request, Subject
from mllmeraser.samples.sample import IDENTITY, Sample

FULL = ExpansionSettings(views=3)
LIGHT = ExpansionSettings(views=3, wordings=4, name_wordings=12)
"""For people whom nobody asks about: enough prompts for gates and thresholds."""


class Crowd:
    """Everybody of the shipped world, and as many strangers as wanted, each with an eraser of their own."""

    def __init__(
        self, model: MultimodalModel, benchmark: Benchmark, settings: FitSettings, *, per_person: int = 14
    ) -> None:
        """Make the basis from everybody, ``per_person`` prompts each; who is to be forgotten is only not retained."""
        self.model, self.benchmark, self.settings, self.world = model, benchmark, settings, World("dev")
        reads, (shifts, *_) = settings.layers(model.num_layers)
        self.cache = PromptStateCache(model, reads, shifts, batch_size=settings.batch_size)
        self.retain, self.strangers = default_retain(self.world, per_person=per_person), default_strangers(self.world)
        self.basis = fit_shared_basis(self.cache, self.retain, self.strangers, settings.gate)

    def group(self, keys: Sequence[str], pictures: int = 4, *, gone: Sequence[str] = ()) -> FitResult:
        """A request for several people of the world; nobody in ``gone`` is retained, for they are forgotten already."""
        found = [(key, self.benchmark.names[key], request_pictures(self.world, key, pictures)) for key in keys]
        return self._fit(found, FULL, {*keys, *gone})

    def person(self, key: str, pictures: int = 4) -> Eraser:
        """An eraser for one person of the world, from pictures and the name; everybody else is retained."""
        return self.group([key], pictures).eraser

    def nobody(self, n: int) -> list[Eraser]:
        """Erasers for ``n`` people whom the model has never seen, from one picture and a name each."""
        stream = self.world.stream.child("crowd")
        found = strangers(stream.child("people"), self.world)
        people = [next(found) for _ in range(n)]
        return [
            self._fit([(p.key, (p.name,), pictures_of(p, stream.child(p.key), 1))], LIGHT, {p.key}).eraser
            for p in people
        ]

    def _fit(
        self,
        people: Sequence[tuple[str, Sequence[str], Sequence[Image.Image]]],
        expansion: ExpansionSettings,
        gone: set[str],
    ) -> FitResult:
        subjects = []
        for key, names, pictures in people:
            shown = tuple(Sample("Who is this?", picture, subject=key, attribute=IDENTITY) for picture in pictures)
            subjects.append(expand_subject(Subject(key, tuple(names), shown), expansion))
        stream = self.world.stream.child("perception-of-forgotten", *(key for key, _, _ in people))
        seen = perception_prompts([picture for _, _, pictures in people for picture in pictures], stream)
        retain = [sample for sample in self.retain if sample.subject not in gone]
        request = Request(tuple(subjects), (*retain, *seen), tuple(self.strangers))
        return fit(self.model, request, self.settings, cache=self.cache, basis=self.basis)
