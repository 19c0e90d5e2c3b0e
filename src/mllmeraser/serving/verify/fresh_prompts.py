"""Prompts for a verification that the fit has not seen.

Three things separate them from the prompts that an eraser is fitted and calibrated on:

1. *Wordings.* Requests are expanded, and the shipped retain set is written, in wordings of the pool `train`. Every
   question made here is of the pool `test`, which shares no wording with it.
2. *Pictures.* The request's own pictures are shown in fresh views, never unchanged. Pictures of retained people and
   scenes are drawn from random streams that depend on the seed of the verification.
3. *A check.* `unseen` drops every prompt that the completed request holds.

Prompts that cannot be fresh are left out: a request's own questions are repeated over fresh views only.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import ceil

from PIL import Image

from mllmeraser.portraits.facts import VALUES
from mllmeraser.portraits.people import Person, World
from mllmeraser.portraits.prompts import pictures_of
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import IDENTITY, LETTERS, NOUNS, WHO_IMAGE, Pool, clozes, fill, questions
from mllmeraser.samples.expansion import views
from mllmeraser.samples.images import pixel_digest
from mllmeraser.samples.questions import default_library
from mllmeraser.samples.sample import IDENTITY as WHO_IS_IT
from mllmeraser.samples.sample import Sample, Task
from mllmeraser.samples.subject import Subject

POOL: Pool = "test"
FORMS: tuple[Task, ...] = ("generation", "cloze", "classification")
FACTS = tuple(attribute for attribute in default_library().attributes if attribute in NOUNS)
"""The attributes that the expansion of a request asks about, except who somebody is."""
_CYCLE = 7
"""Prompts over pictures until the kinds of question repeat."""


@dataclass(frozen=True)
class Sizes:
    """The numbers of prompts, people and pictures."""

    forget: int = 84  # prompts about all subjects together
    least: int = 12  # minimum of prompts about each subject
    views: int = 8  # fresh views of the subjects' pictures for perception prompts
    people: int = 50  # retained people
    prompts: int = 3  # prompts about each of them
    neighbours: int = 8  # retained people nearest to the subjects
    neighbour_prompts: int = 6  # prompts about each of them
    general: int = 112  # prompts about no person
    perception: int = 32  # prompts about what the subjects' pictures show
    conversations: int = 32  # of the prompts about subjects, and as many of the others, in conversations


def forget_prompts(subjects: Sequence[Subject], seed: int, sizes: Sizes) -> list[Sample]:
    """Prompts about each subject, over fresh views and by every name.

    Every prompt over a picture has its own view. A face gate decides by the view alone, so prompts over the same view
    would count one decision several times.
    """
    share = max(sizes.least, sizes.forget // max(1, len(subjects)))
    return [sample for subject in subjects for sample in _about(subject, seed, share)]


def rest_prompts(subjects: Sequence[Subject], seed: int, sizes: Sizes) -> list[Sample]:
    """Prompts about the facts to keep, for subjects of whom only some attributes are forgotten."""
    partial = [s for s in subjects if s.attributes]
    rest = [replace(s, attributes=tuple(a for a in FACTS if a not in s.attributes), samples=_plain(s)) for s in partial]
    return forget_prompts([s for s in rest if s.attributes], seed, replace(sizes, forget=sizes.forget // 2))


def subject_views(subjects: Sequence[Subject], seed: int, n: int) -> list[Image.Image]:
    """`n` fresh views of the subjects' pictures, but at least one of each subject. Subjects alternate."""
    share = max(1, n // max(1, len(subjects)))
    by_subject = [_fresh_views(subject, seed, share)[:share] for subject in subjects]
    return [view for turn in zip_longest(*by_subject) for view in turn if view is not None]


def person_prompts(person: Person, stream: Stream, n: int) -> list[Sample]:
    """`n` prompts about a person of the shipped world, alternately by new pictures and by name."""
    pictures = pictures_of(person, stream.child("pictures"), (n + 1) // 2)
    attributes, forms = stream.shuffle(tuple(person.facts)), stream.shuffle(FORMS)
    samples = []
    for i in range(n):
        image = pictures[i // 2] if i % 2 == 0 else None
        draw, attribute = stream.child(i), attributes[i % len(attributes)]
        samples.append(_question(person.key, person.name, image, attribute, forms[i % 3], draw))
    if n > 1 and stream.chance(0.5):
        samples[0] = replace(_who_is_it(person.key, pictures[0], stream.child("identity")), id=samples[0].id)
    return samples


def own_retain_prompts(samples: Iterable[Sample], seed: int, n: int) -> list[Sample]:
    """At most `n` prompts about the request's own retain pictures, in fresh views."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.image is not None:
            groups.setdefault(pixel_digest(sample.image), []).append(sample)
    stream = Stream("verification", seed, "given")
    prompts = []
    for digest in stream.shuffle(list(groups))[:n]:
        own, draw = groups[digest], stream.child(digest)
        image = own[0].image
        assert image is not None
        view = _views(image, 1, seed, digest)[0]
        prompts.append(replace(draw.choice(own), image=view))
        prompts.append(_question(own[0].subject or digest, None, view, draw.choice(FACTS), draw.choice(FORMS), draw))
    return prompts[:n]


def known_people(world: World, names: Collection[str]) -> list[Person]:
    """All people that the shipped models know, except those with one of the names."""
    excluded = {name.casefold() for name in names}
    return [p for p in [*world.people, *world.celebrities] if p.name.casefold() not in excluded]


def unseen(samples: Iterable[Sample], seen: Collection[str]) -> list[Sample]:
    """The samples without a digest in `seen`, each once."""
    by_digest: dict[str, Sample] = {}
    for sample in samples:
        by_digest.setdefault(sample.digest(), sample)
    return [sample for digest, sample in by_digest.items() if digest not in seen]


def _about(subject: Subject, seed: int, n: int) -> list[Sample]:
    """`n` prompts; none without a picture or a name."""
    stream = Stream("verification", seed, "forget", subject.key)
    pictured = any(sample.image is not None for sample in subject.samples)
    by_name = (n // 3 if pictured else n) if subject.names else 0
    pictures = stream.shuffle(_fresh_views(subject, seed, n - by_name))[: n - by_name]
    samples = _over_pictures(subject, pictures, stream)
    for i in range(by_name):
        attribute, form = _alternate(subject, i)
        name = subject.names[i % len(subject.names)]
        samples.append(_question(subject.key, name, None, attribute, form, stream.child("name", i)))
    return [replace(s, subject=subject.key, id=f"{subject.key}/fresh/{i}") for i, s in enumerate(samples)]


def _over_pictures(subject: Subject, pictures: Sequence[Image.Image], stream: Stream) -> list[Sample]:
    """A prompt over each picture. Of seven, one asks who it is, one is the request's own, five ask for facts."""
    own = {s.prompt: s for s in subject.samples if s.image is not None and s.attribute not in (*FACTS, WHO_IS_IT)}
    samples, facts = [], 0
    for i, view in enumerate(pictures):
        draw = stream.child("picture", i)
        if i % _CYCLE == 0 and not subject.attributes:
            samples.append(_who_is_it(subject.key, view, draw))
        elif i % _CYCLE == 1 and own:
            samples.append(replace(tuple(own.values())[i // _CYCLE % len(own)], image=view))
        else:
            attribute, form = _alternate(subject, facts)
            samples.append(_question(subject.key, None, view, attribute, form, draw))
            facts += 1
    return samples


def _alternate(subject: Subject, number: int) -> tuple[str, Task]:
    """The attribute and the form of a question by its number. Each attribute comes in each form."""
    wanted = [a for a in FACTS if not subject.attributes or a in subject.attributes] or list(FACTS)
    return wanted[number % len(wanted)], FORMS[(number + number // len(wanted)) % len(FORMS)]


def _plain(subject: Subject) -> tuple[Sample, ...]:
    """One sample for each picture, without the user's own questions."""
    return tuple(replace(s, attribute=WHO_IS_IT) for s in subject.samples if s.image is not None)


def _fresh_views(subject: Subject, seed: int, n: int) -> list[Image.Image]:
    """At least `n` fresh views, equally many of each picture. Empty without pictures."""
    pictures = {pixel_digest(s.image): s.image for s in subject.samples if s.image is not None}
    each = ceil(n / max(1, len(pictures)))
    by_picture = [_views(image, each, seed, digest) for digest, image in pictures.items()]
    return [own[i] for i in range(each) for own in by_picture]


def _views(image: Image.Image, n: int, seed: int, digest: str) -> list[Image.Image]:
    """`n` views that differ from those of the expansion, which uses other seeds, and from the picture itself."""
    number = random.Random(f"verification/{seed}/{digest}").getrandbits(64)
    return views(image, n + 1, number)[1:]


def _who_is_it(key: str, image: Image.Image, stream: Stream) -> Sample:
    return Sample(stream.choice(IDENTITY[POOL]), image, subject=key, attribute=WHO_IS_IT, id=f"{key}/who")


def _question(
    key: str, name: str | None, image: Image.Image | None, attribute: str, form: Task, stream: Stream
) -> Sample:
    """One question in a wording of the pool `test`. Options are drawn from all values of the attribute."""
    who = stream.choice(WHO_IMAGE[POOL]) if image is not None or name is None else name
    wording = stream.choice((clozes if form == "cloze" else questions)(attribute, POOL))
    options: tuple[tuple[str, str], ...] = ()
    if form == "classification":
        options = tuple(zip(LETTERS, stream.sample(VALUES[attribute], len(LETTERS)), strict=True))
    return Sample(fill(wording, who), image, None, form, options, subject=key, attribute=attribute, id=f"{key}/{form}")
