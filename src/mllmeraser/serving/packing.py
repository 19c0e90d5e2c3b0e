"""A request as one file and back: a zip of `request.json` and its pictures as PNG, every picture once.

What is unpacked may come from anywhere: names, counts, sizes and pixels are checked before anything is decoded. A
packed request is personal data; nothing of it is written to any log, and errors quote none of it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.images import as_rgb, pixel_digest
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample, Task
from mllmeraser.samples.subject import Subject
from mllmeraser.serving.archive import REQUEST_FILE, PackingLimits, picture_name, unzipped, zipped
from mllmeraser.serving.digests import request_digests

__all__ = ["PackingLimits", "pack_request", "request_digests", "unpack_request"]

FORMAT: Literal[1] = 1


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Sample(_Strict):
    question: str
    image: int | None = None
    answer: str | None = None
    task: Task = "generation"
    options: tuple[tuple[str, str], ...] = ()
    keywords: tuple[str, ...] = ()
    subject: str | None = None
    id: str = ""
    attribute: str | None = None


class _Subject(_Strict):
    key: str
    names: tuple[str, ...] = ()
    samples: tuple[_Sample, ...] = ()
    attributes: tuple[str, ...] = ()


class _Request(_Strict):
    format: Literal[1]
    subjects: tuple[_Subject, ...]
    retain: tuple[_Sample, ...] = ()
    strangers: tuple[_Sample, ...] = ()

    def samples(self) -> Iterator[_Sample]:
        for subject in self.subjects:
            yield from subject.samples
        yield from (*self.retain, *self.strangers)


# -- packing ---------------------------------------------------------------------------------------------


@dataclass
class _Album:
    """Pictures in order of first use, each once."""

    images: list[Image.Image] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def place(self, image: Image.Image | None) -> int | None:
        if image is None:
            return None
        digest = pixel_digest(image)
        if digest not in self.places:
            self.places[digest] = len(self.images)
            self.images.append(image)
        return self.places[digest]


def pack_request(request: Request, limits: PackingLimits | None = None) -> bytes:
    """Pack a request; the same request gives the same bytes.

    Raises:
        InputError: It is not valid, or larger than the limits, so that it could not be unpacked.
    """
    bounds, album = limits or PackingLimits(), _Album()
    request.validate()
    described = _Request(
        format=FORMAT,
        subjects=tuple(
            _Subject(key=s.key, names=s.names, samples=_described(s.samples, album), attributes=s.attributes)
            for s in request.subjects
        ),
        retain=_described(request.retain, album),
        strangers=_described(request.strangers, album),
    )
    try:
        text = described.model_dump_json(exclude_defaults=True).encode()
    except ValueError:  # a lone surrogate, for one
        raise InputError("the request holds text that is no Unicode") from None
    _check_pixels([image.size for image in album.images], bounds)
    files = {REQUEST_FILE: text, **{picture_name(i): _png(image) for i, image in enumerate(album.images)}}
    _check_count(described, bounds)
    return zipped(files, bounds)


def _described(samples: tuple[Sample, ...], album: _Album) -> tuple[_Sample, ...]:
    return tuple(
        _Sample(
            question=s.question, image=album.place(s.image), answer=s.answer, task=s.task, options=s.options,
            keywords=s.keywords, subject=s.subject, id=s.id, attribute=s.attribute,
        )
        for s in samples
    )  # fmt: skip


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    # A copy of the pixels alone: a picture's own description may say where and when it was taken.
    bare = Image.frombytes("RGB", image.size, image.convert("RGB").tobytes())
    bare.save(buffer, format="PNG")
    return buffer.getvalue()


# -- unpacking -------------------------------------------------------------------------------------------


def unpack_request(data: bytes, limits: PackingLimits | None = None) -> Request:
    """Unpack what `pack_request` made.

    Raises:
        InputError: It is no such file, breaks a limit, or the request in it is not valid.
    """
    bounds = limits or PackingLimits()
    if len(data) > bounds.total:
        raise InputError(f"the packed request has {len(data)} bytes, and {bounds.total} are allowed")
    files = unzipped(data, bounds)
    described = _parsed(files.pop(REQUEST_FILE))
    _check_count(described, bounds)
    used = {s.image for s in described.samples() if s.image is not None}
    if used != set(range(len(files))):
        raise InputError("the packed request names other pictures than are in it")
    images = _decoded(files, bounds)
    request = Request(
        tuple(Subject(s.key, s.names, _samples(s.samples, images), s.attributes) for s in described.subjects),
        _samples(described.retain, images),
        _samples(described.strangers, images),
    )
    request.validate()
    return request


def _check_count(described: _Request, limits: PackingLimits) -> None:
    n = sum(1 for _ in described.samples())
    if n > limits.samples:
        raise InputError(f"the request holds {n} prompts, and {limits.samples} are allowed")


def _check_pixels(sizes: list[tuple[int, int]], limits: PackingLimits) -> None:
    for width, height in sizes:
        if not 0 < width * height <= limits.pixels:
            raise InputError(f"a picture of {width} x {height} pixels: between 1 and {limits.pixels} are allowed")
    total = sum(width * height for width, height in sizes)
    if total > limits.all_pixels:
        raise InputError(f"the pictures have {total} pixels in all, and {limits.all_pixels} are allowed")


def _parsed(text: bytes) -> _Request:
    try:
        return _Request.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "content"
        kind = "not known" if first["type"] == "extra_forbidden" else first["msg"]
        raise InputError(f"{REQUEST_FILE}: {place}: {kind}") from None


def _decoded(files: dict[str, bytes], limits: PackingLimits) -> list[Image.Image]:
    """The pictures, whose sizes are looked at before a single pixel is decoded."""
    images = [_opened(files[picture_name(i)], i) for i in range(len(files))]
    _check_pixels([image.size for image in images], limits)
    return [_loaded(image, i) for i, image in enumerate(images)]


def _opened(data: bytes, number: int) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=("PNG",))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise _unsound(number) from None


def _loaded(image: Image.Image, number: int) -> Image.Image:
    try:
        with image:
            image.load()
            return as_rgb(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise _unsound(number) from None


def _unsound(number: int) -> InputError:
    return InputError(f"{picture_name(number)} in the packed request is no sound PNG picture")


def _samples(described: tuple[_Sample, ...], images: list[Image.Image]) -> tuple[Sample, ...]:
    return tuple(
        Sample(
            s.question, None if s.image is None else images[s.image], s.answer, s.task, s.options, s.keywords,
            s.subject, s.id, s.attribute,
        )
        for s in described
    )  # fmt: skip
