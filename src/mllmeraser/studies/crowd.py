"""Single-person erasers on one model. All fits share one basis and read shared prompts once."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from PIL import Image

from mllmeraser.benchmarks import Benchmark, thin
from mllmeraser.erasure import Eraser, FitResult, FitSettings
from mllmeraser.erasure.fit import fit
from mllmeraser.erasure.fit.discriminants import fit_shared_basis
from mllmeraser.models import MultimodalModel
from mllmeraser.portraits import Person, World, prompts
from mllmeraser.portraits.people import strangers
from mllmeraser.portraits.taught import world_of
from mllmeraser.samples import ExpansionSettings, Request, Sample, Subject, expand_subject
from mllmeraser.samples.sample import IDENTITY
from mllmeraser.studies.erasers import state_cache

FULL = ExpansionSettings(views=3)
LIGHT = ExpansionSettings(views=3, wordings=4, name_wordings=12)
"""For people that no question is about: enough prompts for gates and thresholds."""
Sets = dict[str, list[Sample]]
Described = tuple[str, Sequence[str], Sequence[Image.Image]]
"""Key, names and pictures of a person."""


class Crowd:
    """Everybody of the shipped world, and any number of strangers, each with an own eraser.

    The basis is fitted on ``per_person`` prompts about everybody, also about the people to forget.
    """

    def __init__(
        self, model: MultimodalModel, benchmark: Benchmark, settings: FitSettings, *, per_person: int = 14
    ) -> None:
        self.model, self.benchmark, self.settings, self.world = model, benchmark, settings, world_of(benchmark.name)
        self.cache = state_cache(model, settings)
        self.retain = prompts.default_retain(self.world, per_person=per_person)
        self.strangers = prompts.default_strangers(self.world)
        self.basis = fit_shared_basis(self.cache, self.retain, self.strangers, settings.gate)

    def group(self, keys: Sequence[str], pictures: int = 4, *, gone: Sequence[str] = ()) -> FitResult:
        """Fit a request for several people of the world; people in ``gone`` were forgotten before, so not retained."""
        people = [(key, self.benchmark.names[key], prompts.request_pictures(self.world, key, pictures)) for key in keys]
        return self._fit(people, FULL, {*keys, *gone})

    def person(self, key: str, pictures: int = 4) -> Eraser:
        """An eraser for one person of the world, from pictures and the name; everybody else is retained."""
        return self.group([key], pictures).eraser

    def unseen(self, n: int) -> list[Eraser]:
        """Erasers for ``n`` people that the model has never seen, from one picture and a name each."""
        stream = self.world.stream.child("crowd")
        people = strangers(stream.child("people"), self.world)
        return [
            self._fit([(p.key, (p.name,), prompts.pictures_of(p, stream.child(p.key), 1))], LIGHT, {p.key}).eraser
            for p in [next(people) for _ in range(n)]
        ]

    def _fit(self, people: Sequence[Described], expansion: ExpansionSettings, gone: set[str]) -> FitResult:
        subjects = []
        for key, names, pictures in people:
            samples = tuple(Sample("Who is this?", picture, subject=key, attribute=IDENTITY) for picture in pictures)
            subjects.append(expand_subject(Subject(key, tuple(names), samples), expansion))
        stream = self.world.stream.child("perception-of-forgotten", *(key for key, _, _ in people))
        seen = prompts.perception_prompts([picture for _, _, pictures in people for picture in pictures], stream)
        retain = [sample for sample in self.retain if sample.subject not in gone]
        request = Request(tuple(subjects), (*retain, *seen), tuple(self.strangers))
        return fit(self.model, request, self.settings, cache=self.cache, basis=self.basis)


def look_alikes(world: World, gone: Collection[str]) -> dict[str, Person]:
    """The people in ``gone`` with a look-alike that stays, each with that look-alike."""
    pairs = [(p.key, dict(world.neighbours(p))["look-alike"]) for p in world.people if p.key in gone]
    return {key: other for key, other in pairs if other.key not in gone}


def thin_by_person(samples: Sequence[Sample], people: Sequence[str], per_cell: int) -> list[Sample]:
    """At most ``per_cell`` samples of each task and modality about each person, person after person."""
    return [s for key in people for s in thin([s for s in samples if s.subject == key], per_cell)]
