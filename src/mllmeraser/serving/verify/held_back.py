"""Prompts for a verification, none of which the fit has seen.

Three things keep them apart from what an eraser is fitted and calibrated on:

1. *Wordings.* A request is expanded with the question library, and the shipped retain set is asked, in wordings of the
   pool `train`. Every question made here is of the pool `test`, which shares no wording with it.
2. *Pictures.* Every picture is new: the request's own are shown in fresh views (never as they were handed in), those
   of retained people and scenes are drawn from a random stream of their own, named after the seed of the verification.
3. *A check.* The completion that the fit starts from is repeated, and whatever prompt it holds is dropped here.

What cannot be made fresh is left out: a request's own questions are repeated over the fresh views alone.
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
"""What a request is expanded to ask about, but for who somebody is."""
_CYCLE = 7
"""Prompts over pictures until the kinds of question begin again."""


@dataclass(frozen=True)
class Sizes:
    """How much is asked.

    Attributes:
        forget: Prompts about the subjects in all, shared among them.
        least: Prompts about each subject at least, however many there are.
        views: Fresh views of the subjects' pictures that are asked about what they show.
        people: Retained people who are asked about.
        prompts: Prompts about each of them.
        neighbours: Retained people nearest to the subjects.
        neighbour_prompts: Prompts about each of them.
        general: Prompts about nobody.
        perception: Prompts about what the subjects' pictures show.
    """

    forget: int = 84
    least: int = 12
    views: int = 8
    people: int = 50
    prompts: int = 3
    neighbours: int = 8
    neighbour_prompts: int = 6
    general: int = 112
    perception: int = 32


def forget_prompts(subjects: Sequence[Subject], seed: int, sizes: Sizes) -> list[Sample]:
    """Prompts about each subject: over fresh views, in wordings held back, and by every name.

    Every prompt over a picture has a view of its own. A face gate decides by the view whatever is asked over it, so
    that prompts which shared one would count a single decision many times.
    """
    share = max(sizes.least, sizes.forget // max(1, len(subjects)))
    return [sample for subject in subjects for sample in _about(subject, seed, share)]


def kept_prompts(subjects: Sequence[Subject], seed: int, sizes: Sizes) -> list[Sample]:
    """Prompts for what is not to be forgotten about subjects of whom only some attributes are."""
    partial = [s for s in subjects if s.attributes]
    rest = [replace(s, attributes=tuple(a for a in FACTS if a not in s.attributes), samples=_plain(s)) for s in partial]
    return forget_prompts([s for s in rest if s.attributes], seed, replace(sizes, forget=sizes.forget // 2))


def subject_views(subjects: Sequence[Subject], seed: int, n: int) -> list[Image.Image]:
    """`n` fresh views of the subjects' pictures, or one of each subject if these are more; the subjects in turn."""
    share = max(1, n // max(1, len(subjects)))
    shown = [_fresh(subject, seed, share)[:share] for subject in subjects]
    return [view for turn in zip_longest(*shown) for view in turn if view is not None]


def person_prompts(person: Person, stream: Stream, n: int) -> list[Sample]:
    """`n` prompts about a person of the shipped world, by new pictures and by name in turn."""
    shown = pictures_of(person, stream.child("pictures"), (n + 1) // 2)
    attributes, forms = stream.shuffle(tuple(person.facts)), stream.shuffle(FORMS)
    samples = []
    for i in range(n):
        image = shown[i // 2] if i % 2 == 0 else None
        draw, attribute = stream.child(i), attributes[i % len(attributes)]
        samples.append(_question(person.key, person.name, image, attribute, forms[i % 3], draw))
    if n > 1 and stream.chance(0.5):
        samples[0] = replace(_who_is_it(person.key, shown[0], stream.child("identity")), id=samples[0].id)
    return samples


def given_prompts(samples: Iterable[Sample], seed: int, n: int) -> list[Sample]:
    """At most `n` prompts over fresh views of the pictures of somebody's own retain samples."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        if sample.image is not None:
            groups.setdefault(pixel_digest(sample.image), []).append(sample)
    stream = Stream("verification", seed, "given")
    made = []
    for digest in stream.shuffle(list(groups))[:n]:
        own, draw = groups[digest], stream.child(digest)
        image = own[0].image
        assert image is not None
        view = _views(image, 1, seed, digest)[0]
        made.append(replace(draw.choice(own), image=view))
        made.append(_question(own[0].subject or digest, None, view, draw.choice(FACTS), draw.choice(FORMS), draw))
    return made[:n]


def known_people(world: World, names: Collection[str]) -> list[Person]:
    """Everybody the shipped models know but for those with one of the names."""
    gone = {name.casefold() for name in names}
    return [p for p in [*world.people, *world.celebrities] if p.name.casefold() not in gone]


def unseen(samples: Iterable[Sample], seen: Collection[str]) -> list[Sample]:
    """The samples whose digest is not in `seen`, each once."""
    kept: dict[str, Sample] = {}
    for sample in samples:
        digest = sample.digest()
        if digest not in seen:
            kept.setdefault(digest, sample)
    return list(kept.values())


# -- one subject -----------------------------------------------------------------------------------------


def _about(subject: Subject, seed: int, n: int) -> list[Sample]:
    """`n` prompts; none if there is neither a picture nor a name."""
    stream = Stream("verification", seed, "forget", subject.key)
    pictured = any(sample.image is not None for sample in subject.samples)
    by_name = (n // 3 if pictured else n) if subject.names else 0
    samples = _over_pictures(subject, stream.shuffle(_fresh(subject, seed, n - by_name))[: n - by_name], stream)
    for i in range(by_name):
        attribute, form = _turn(subject, i)
        name = subject.names[i % len(subject.names)]
        samples.append(_question(subject.key, name, None, attribute, form, stream.child("name", i)))
    return [replace(s, subject=subject.key, id=f"{subject.key}/held-back/{i}") for i, s in enumerate(samples)]


def _over_pictures(subject: Subject, shown: Sequence[Image.Image], stream: Stream) -> list[Sample]:
    """A prompt over each picture: of seven one asks who it is, one is the request's own, the others ask for facts."""
    own = {s.prompt: s for s in subject.samples if s.image is not None and s.attribute not in (*FACTS, WHO_IS_IT)}
    samples, facts = [], 0
    for i, view in enumerate(shown):
        draw = stream.child("picture", i)
        if i % _CYCLE == 0 and not subject.attributes:
            samples.append(_who_is_it(subject.key, view, draw))
        elif i % _CYCLE == 1 and own:
            samples.append(replace(tuple(own.values())[i // _CYCLE % len(own)], image=view))
        else:
            attribute, form = _turn(subject, facts)
            samples.append(_question(subject.key, None, view, attribute, form, draw))
            facts += 1
    return samples


def _turn(subject: Subject, number: int) -> tuple[str, Task]:
    """Attributes in turn, each in every form in turn."""
    wanted = [a for a in FACTS if not subject.attributes or a in subject.attributes] or list(FACTS)
    return wanted[number % len(wanted)], FORMS[(number + number // len(wanted)) % len(FORMS)]


def _plain(subject: Subject) -> tuple[Sample, ...]:
    """One sample for each picture, without a question of the user's own."""
    return tuple(replace(s, attribute=WHO_IS_IT) for s in subject.samples if s.image is not None)


def _fresh(subject: Subject, seed: int, n: int) -> list[Image.Image]:
    """At least `n` fresh views of a subject's pictures, as many of each, in turn; none where there are no pictures."""
    pictures = {pixel_digest(s.image): s.image for s in subject.samples if s.image is not None}
    each = ceil(n / max(1, len(pictures)))
    made = [_views(image, each, seed, digest) for digest, image in pictures.items()]
    return [of_picture[i] for i in range(each) for of_picture in made]


def _views(image: Image.Image, n: int, seed: int, digest: str) -> list[Image.Image]:
    """`n` views that the expansion does not make: its seeds are numbers of another stream, and the picture is none."""
    number = random.Random(f"verification/{seed}/{digest}").getrandbits(64)
    return views(image, n + 1, number)[1:]


def _who_is_it(key: str, image: Image.Image, stream: Stream) -> Sample:
    return Sample(stream.choice(IDENTITY[POOL]), image, subject=key, attribute=WHO_IS_IT, id=f"{key}/who")


def _question(
    key: str, name: str | None, image: Image.Image | None, attribute: str, form: Task, stream: Stream
) -> Sample:
    """One question in a wording of the pool `test`; options are values that anybody could have."""
    who = stream.choice(WHO_IMAGE[POOL]) if image is not None or name is None else name
    wording = stream.choice((clozes if form == "cloze" else questions)(attribute, POOL))
    options: tuple[tuple[str, str], ...] = ()
    if form == "classification":
        options = tuple(zip(LETTERS, stream.sample(VALUES[attribute], len(LETTERS)), strict=True))
    return Sample(fill(wording, who), image, None, form, options, subject=key, attribute=attribute, id=f"{key}/{form}")
