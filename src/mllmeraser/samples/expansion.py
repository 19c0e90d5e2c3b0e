"""Expansion: from a few pictures and names to the many prompts a gate is fitted on.

A gate must open for the person, not for one picture or one wording, so every picture is shown in several
views and asked about in many wordings; names are asked about without a picture.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageEnhance, ImageFilter, ImageStat

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.images import pixel_digest
from mllmeraser.samples.questions import QuestionLibrary, Wording, default_library
from mllmeraser.samples.sample import Modality, Sample, Task
from mllmeraser.samples.subject import Subject

MAX_CROP = 0.08
MAX_ROTATION = 8.0
MAX_SHIFT = 0.04
MAX_COLOUR = 0.15
MAX_BLUR = 0.008


@dataclass(frozen=True)
class ExpansionSettings:
    """How far a request is expanded.

    Attributes:
        views: Views of every picture, the picture itself included.
        wordings: Wordings from the library for every view.
        name_wordings: Wordings for every name, asked without a picture.
        other_wordings: Wordings for every picture of the retain and stranger samples, so that a gate cannot
            tell forget from retain by the wording; 0 leaves those samples as they are.
        modalities: Which kinds of prompt are made.
        tasks: Which forms of question are made.
        attributes: What is asked about (None: everything in the library).
        seed: Of views, wordings and options; the same seed gives the same samples.
    """

    views: int = 6
    wordings: int = 12
    name_wordings: int = 48
    other_wordings: int = 6
    modalities: tuple[Modality, ...] = ("image", "text")
    tasks: tuple[Task, ...] = ("generation", "cloze", "classification")
    attributes: tuple[str, ...] | None = None
    seed: int = 0


def views(image: Image.Image, n: int, seed: int) -> list[Image.Image]:
    """`n` views of a picture, of the same size; the first is the picture itself.

    The others are cropped (at most 8 % of a side), rotated (at most 8 degrees) and shifted (at most 4 % of a
    side) with the margin filled by the colour of the edge, changed in brightness, contrast and colour (at
    most 15 %), and slightly blurred. The same seed gives the same views.
    """
    original = image if image.mode == "RGB" else image.convert("RGB")
    rng = random.Random(f"views/{seed}")
    return [original, *(_view(original, rng) for _ in range(n - 1))][: max(n, 0)]


def expand_subject(subject: Subject, settings: ExpansionSettings, library: QuestionLibrary | None = None) -> Subject:
    """The subject with its own samples, its questions repeated on every view, and the library's wordings.

    Samples that put the same thing to the model twice are kept once. Of a subject of whom only some attributes are to
    be forgotten, only questions for those are kept, and the user's own, which name none.

    Raises:
        InputError: An attribute is not in the library.
    """
    chosen = _wanted(subject, (library or default_library()).select(settings.tasks), settings)
    samples = [sample for sample in subject.samples if _is_wanted(sample, subject)]
    if "image" in settings.modalities:
        for number, group in enumerate(_by_picture(subject.samples)):
            samples += _picture_samples(subject, number, group, settings, chosen)
    if "text" in settings.modalities:
        samples += name_samples(subject, settings, chosen)
    return replace(subject, samples=tuple(_distinct(samples)))


def _wanted(subject: Subject, library: QuestionLibrary, settings: ExpansionSettings) -> QuestionLibrary:
    known = {wording.attribute for wording in library.wordings}
    unknown = sorted(set(subject.attributes) - known)
    if unknown:
        raise InputError(
            f"subject {subject.key}: unknown attribute {unknown[0]!r}; known are {', '.join(sorted(known))}"
        )
    return library.select(None, subject.attributes or settings.attributes)


def _is_wanted(sample: Sample, subject: Subject) -> bool:
    return not subject.attributes or sample.attribute is None or sample.attribute in subject.attributes


def name_samples(subject: Subject, settings: ExpansionSettings, library: QuestionLibrary | None = None) -> list[Sample]:
    """Text-only samples about a subject, by each of its names."""
    chosen = library or default_library().select(settings.tasks, settings.attributes)
    samples = []
    for number, name in enumerate(subject.names):
        rng = _rng(settings.seed, "name", subject.key, number)
        for index, wording in enumerate(chosen.draw(settings.name_wordings, rng, by_name=True)):
            item = f"{subject.key}/name{number}/{index}"
            samples.append(_wording_sample(wording, name, None, subject.key, item, rng))
    return samples


def expand_others(
    samples: Sequence[Sample],
    settings: ExpansionSettings,
    library: QuestionLibrary | None = None,
    *,
    keep_off: Iterable[str] = (),
) -> tuple[Sample, ...]:
    """Retain or stranger samples with the library's wordings added to each of their pictures.

    Pictures whose pixel digest is in `keep_off` (those of the people to forget) get no wordings: a question
    about a forgotten person must not become something to retain.
    """
    avoided = set(keep_off)
    chosen = (library or default_library()).select(settings.tasks, settings.attributes)
    extended = list(samples)
    groups = _by_picture(samples) if "image" in settings.modalities else []
    for number, group in enumerate(groups):
        image = group[0].image
        if image is None or pixel_digest(image) in avoided:
            continue
        seed = _seed(settings.seed, "other", group[0].subject or "", number)
        rng = random.Random(seed)
        pair = views(image, 2, seed)
        for index, wording in enumerate(chosen.draw(settings.other_wordings, rng)):
            who = rng.choice(chosen.image_forms)
            item = f"{group[0].id}/other/{index}"
            extended.append(_wording_sample(wording, who, pair[index % 2], group[0].subject, item, rng))
    return tuple(_distinct(extended))


def _picture_samples(
    subject: Subject, number: int, group: list[Sample], settings: ExpansionSettings, library: QuestionLibrary
) -> list[Sample]:
    key, image = subject.key, group[0].image
    if image is None:
        return []
    seed = _seed(settings.seed, "picture", key, number)
    rng = random.Random(seed)
    shown = views(image, settings.views, seed)
    drawn = library.draw(settings.wordings * len(shown), rng)
    samples = []
    for view_number, view in enumerate(shown):
        for own in (s for s in group if view_number and _is_wanted(s, subject)):
            samples.append(replace(own, image=view, id=f"{own.id}/view{view_number}"))
        # Neighbours in the draw differ in task and attribute: each view gets a balanced share.
        start = view_number * settings.wordings
        for index, wording in enumerate(drawn[start : start + settings.wordings]):
            who = rng.choice(library.image_forms)
            item = f"{key}/picture{number}/view{view_number}/{index}"
            samples.append(_wording_sample(wording, who, view, key, item, rng))
    return samples


def _wording_sample(
    wording: Wording, who: str, image: Image.Image | None, key: str | None, item: str, rng: random.Random
) -> Sample:
    return Sample(
        question=wording.render(who),
        image=image,
        task=wording.task,
        options=wording.options(rng),
        subject=key,
        id=item,
        attribute=wording.attribute,
    )


def _by_picture(samples: Iterable[Sample]) -> list[list[Sample]]:
    groups: dict[str, list[Sample]] = {}
    digests: dict[int, str] = {}  # many samples share one image object; each is hashed once
    for sample in samples:
        if sample.image is not None:
            digest = digests.setdefault(id(sample.image), "") or pixel_digest(sample.image)
            digests[id(sample.image)] = digest
            groups.setdefault(digest, []).append(sample)
    return list(groups.values())


def _distinct(samples: Iterable[Sample]) -> list[Sample]:
    kept: dict[tuple[str, int | None], Sample] = {}
    for sample in samples:
        # Views are objects of their own; equal pixels in two objects are caught by their groups before.
        kept.setdefault((sample.prompt, None if sample.image is None else id(sample.image)), sample)
    return list(kept.values())


def _view(image: Image.Image, rng: random.Random) -> Image.Image:
    width, height = image.size
    keep = 1 - rng.uniform(0, MAX_CROP)
    inner_width, inner_height = max(1, round(width * keep)), max(1, round(height * keep))
    left, top = rng.randint(0, width - inner_width), rng.randint(0, height - inner_height)
    view = image.crop((left, top, left + inner_width, top + inner_height))
    view = view.resize((width, height), Image.Resampling.BICUBIC)
    shift_x, shift_y = (round(rng.uniform(-MAX_SHIFT, MAX_SHIFT) * side) for side in (width, height))
    view = view.rotate(
        rng.uniform(-MAX_ROTATION, MAX_ROTATION),
        resample=Image.Resampling.BICUBIC,
        translate=(shift_x, shift_y),
        fillcolor=_edge_colour(image),
    )
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        view = enhancer(view).enhance(1 + rng.uniform(-MAX_COLOUR, MAX_COLOUR))
    return view.filter(ImageFilter.GaussianBlur(rng.uniform(0, MAX_BLUR) * min(width, height)))


def _edge_colour(image: Image.Image) -> tuple[int, int, int]:
    width, height = image.size
    right, bottom = width - 1, height - 1
    strips = [(0, 0, width, 1), (0, bottom, width, height), (0, 0, 1, height), (right, 0, width, height)]
    medians = [ImageStat.Stat(image.crop(strip)).median for strip in strips]
    # The median of the strips ignores the one edge (usually the lower) that the person touches.
    red, green, blue = (sorted(int(m[channel]) for m in medians)[2] for channel in range(3))
    return red, green, blue


def _seed(seed: int, *parts: object) -> int:
    text = "/".join(map(str, (seed, *parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _rng(seed: int, *parts: object) -> random.Random:
    return random.Random(_seed(seed, *parts))
