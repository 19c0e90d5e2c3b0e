"""Expansion: from a few pictures and names to the many prompts a gate is fitted on.

A gate must recognize the person, not one picture or one wording. Every picture is therefore shown in several
views and asked about in many wordings. Names are asked about without a picture.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from PIL import Image, ImageEnhance, ImageFilter, ImageStat
from pydantic import BaseModel, ConfigDict, Field

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.hashing import hash64
from mllmeraser.samples.images import as_rgb, pixel_digest
from mllmeraser.samples.questions import QuestionLibrary, Wording, default_library
from mllmeraser.samples.sample import Modality, Sample, Task
from mllmeraser.samples.subject import Subject


class ViewSettings(BaseModel):
    """The largest changes that make a view of a picture.

    They imitate another crop, scan or recompression of the same picture. Larger values make the gate tolerate more,
    but may remove the person's face or turn it into a look-alike of someone else.

    Attributes:
        crop: Share of each side cut off. 8 % takes background from a portrait and leaves the face whole.
        rotation: Degrees, either way. 8 degrees covers a tilted camera or scan.
        shift: Share of each side, either way. 4 % keeps a centred face inside the frame, also after the crop.
        colour: Relative change of brightness, contrast and saturation. 15 % imitates another light or camera
            and keeps hair and skin recognizable.
        blur: Radius of the Gaussian blur as a share of the shorter side. 0.8 % imitates a rescaled picture;
            fine marks of a face stay visible.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop: float = Field(default=0.08, ge=0, lt=1)
    rotation: float = Field(default=8.0, ge=0, le=180)
    shift: float = Field(default=0.04, ge=0, lt=1)
    colour: float = Field(default=0.15, ge=0, le=1)
    blur: float = Field(default=0.008, ge=0, le=1)


@dataclass(frozen=True)
class ExpansionSettings:
    """How far a request is expanded.

    Attributes:
        views: Views of every picture, the picture itself included.
        wordings: Wordings from the library for every view.
        name_wordings: Wordings for every name, asked without a picture.
        other_wordings: Wordings for every picture of the retain and stranger samples, so that a gate cannot
            tell forget from retain by the wording; 0 leaves those samples as they are.
        modalities: The kinds of prompts to make.
        tasks: The forms of questions to make.
        attributes: The attributes to ask about (None: all of the library).
        seed: Of views, wordings and options; the same seed gives the same samples.
        view_settings: How far a view may differ from its picture.
    """

    views: int = 6
    wordings: int = 12
    name_wordings: int = 48
    other_wordings: int = 6
    modalities: tuple[Modality, ...] = ("image", "text")
    tasks: tuple[Task, ...] = ("generation", "cloze", "classification")
    attributes: tuple[str, ...] | None = None
    seed: int = 0
    view_settings: ViewSettings = field(default_factory=ViewSettings)


def views(image: Image.Image, n: int, seed: int, settings: ViewSettings = ViewSettings()) -> list[Image.Image]:
    """`n` views of a picture, of the same size; the first is the picture itself.

    The others are cropped, rotated, shifted, changed in brightness, contrast and colour, and blurred, within the
    limits of `settings`. The colour of the edge fills the margin. The same seed gives the same views.
    """
    original = as_rgb(image)
    rng = random.Random(f"views/{seed}")
    return [original, *(_view(original, rng, settings) for _ in range(n - 1))][: max(n, 0)]


def expand_subject(subject: Subject, settings: ExpansionSettings, library: QuestionLibrary | None = None) -> Subject:
    """The subject with its own samples, its questions repeated on every view, and the library's wordings.

    Duplicates are dropped. If only some attributes of the subject are to be forgotten, the samples that ask about
    another attribute are dropped as well.

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
    known = sorted(library.attributes)
    for attribute in sorted(set(subject.attributes) - set(known)):
        raise InputError(f"subject {subject.key}: unknown attribute {attribute!r}; known are {', '.join(known)}")
    return library.select(None, subject.attributes or settings.attributes)


def _is_wanted(sample: Sample, subject: Subject) -> bool:
    return not subject.attributes or sample.attribute is None or sample.attribute in subject.attributes


def name_samples(subject: Subject, settings: ExpansionSettings, library: QuestionLibrary | None = None) -> list[Sample]:
    """Text-only samples about a subject, by each of its names."""
    chosen = library or default_library().select(settings.tasks, settings.attributes)
    samples = []
    for number, name in enumerate(subject.names):
        rng = random.Random(hash64(settings.seed, "name", subject.key, number))
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

    Pictures with a pixel digest in `keep_off` (pictures of the people to forget) get no wordings: a question
    about a forgotten person must not become a retain sample.
    """
    avoided = set(keep_off)
    chosen = (library or default_library()).select(settings.tasks, settings.attributes)
    extended = list(samples)
    groups = _by_picture(samples) if "image" in settings.modalities else []
    for number, group in enumerate(groups):
        image = group[0].image
        if image is None or pixel_digest(image) in avoided:
            continue
        seed = hash64(settings.seed, "other", group[0].subject or "", number)
        rng = random.Random(seed)
        pair = views(image, 2, seed, settings.view_settings)
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
    seed = hash64(settings.seed, "picture", key, number)
    rng = random.Random(seed)
    pictures = views(image, settings.views, seed, settings.view_settings)
    drawn = library.draw(settings.wordings * len(pictures), rng)
    samples = []
    for view_number, view in enumerate(pictures):
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
    text, options = wording.render(who), wording.options(rng)
    return Sample(text, image, task=wording.task, options=options, subject=key, id=item, attribute=wording.attribute)


def _by_picture(samples: Iterable[Sample]) -> list[list[Sample]]:
    groups: dict[str, list[Sample]] = {}
    digests: dict[int, str] = {}  # many samples share one image object: hash each object once
    for sample in samples:
        if sample.image is not None:
            if id(sample.image) not in digests:
                digests[id(sample.image)] = pixel_digest(sample.image)
            groups.setdefault(digests[id(sample.image)], []).append(sample)
    return list(groups.values())


def _distinct(samples: Iterable[Sample]) -> list[Sample]:
    kept: dict[tuple[str, int | None], Sample] = {}
    for sample in samples:
        # Identity of the image object is enough: `_by_picture` has already merged equal pixels.
        kept.setdefault((sample.prompt, None if sample.image is None else id(sample.image)), sample)
    return list(kept.values())


def _view(image: Image.Image, rng: random.Random, settings: ViewSettings) -> Image.Image:
    width, height = image.size
    keep = 1 - rng.uniform(0, settings.crop)
    inner_width, inner_height = max(1, round(width * keep)), max(1, round(height * keep))
    left, top = rng.randint(0, width - inner_width), rng.randint(0, height - inner_height)
    view = image.crop((left, top, left + inner_width, top + inner_height))
    view = view.resize((width, height), Image.Resampling.BICUBIC)
    shift_x, shift_y = (round(rng.uniform(-settings.shift, settings.shift) * side) for side in (width, height))
    view = view.rotate(
        rng.uniform(-settings.rotation, settings.rotation),
        resample=Image.Resampling.BICUBIC,
        translate=(shift_x, shift_y),
        fillcolor=_edge_colour(image),
    )
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        view = enhancer(view).enhance(1 + rng.uniform(-settings.colour, settings.colour))
    return view.filter(ImageFilter.GaussianBlur(rng.uniform(0, settings.blur) * min(width, height)))


def _edge_colour(image: Image.Image) -> tuple[int, int, int]:
    width, height = image.size
    right, bottom = width - 1, height - 1
    strips = [(0, 0, width, 1), (0, bottom, width, height), (0, 0, 1, height), (right, 0, width, height)]
    medians = [ImageStat.Stat(image.crop(strip)).median for strip in strips]
    # The median of the strips ignores the one edge (usually the lower) that the person touches.
    red, green, blue = (sorted(int(m[channel]) for m in medians)[2] for channel in range(3))
    return red, green, blue
