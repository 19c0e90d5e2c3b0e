"""Pack a request into one file and back: a zip of `request.json` and its pictures as PNG, every picture once.

A packed file may come from anywhere: names, counts, sizes and pixels are checked before anything is decoded. A
packed request is personal data: its content appears in no log and in no error message.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from mllmeraser.erasure.fit.split import salted_digest
from mllmeraser.samples.conversation import Role, Turn
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.images import PictureLimits, decode_image, picture_pixels, pixel_digest
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample, Task
from mllmeraser.samples.subject import PERSON, Kind, Subject, kind_counts
from mllmeraser.serving.archive import REQUEST_FILE, PackingLimits, picture_name, unzipped, zipped

__all__ = ["PackingLimits", "pack_request", "request_digests", "unpack_request"]

FORMAT: Literal[1] = 1


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Turn(_Strict):
    role: Role
    text: str


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
    before: tuple[_Turn, ...] = ()


class _Subject(_Strict):
    key: str
    names: tuple[str, ...] = ()
    samples: tuple[_Sample, ...] = ()
    attributes: tuple[str, ...] = ()
    exact_names: bool = False
    kind: Kind = PERSON


class _Request(_Strict):
    format: Literal[1]
    subjects: tuple[_Subject, ...]
    retain: tuple[_Sample, ...] = ()
    strangers: tuple[_Sample, ...] = ()
    reply: str | None = None

    def samples(self) -> Iterator[_Sample]:
        for subject in self.subjects:
            yield from subject.samples
        yield from (*self.retain, *self.strangers)


def request_digests(request: Request, salt: str) -> dict[str, str]:
    """Salted digests and counts of a request, by label: all that a ledger or certificate keeps of it.

    A holder of the request and the salt can prove that they match. Without the salt, guesses cannot be tested.
    """
    digests = {"subjects": str(len(request.subjects))}
    digests |= {label: str(count) for label, count in kind_counts(request.subjects).items()}
    for label, samples in (("forget", request.forget), ("retain", request.retain), ("strangers", request.strangers)):
        if samples:
            digests[f"{label}_prompts"] = str(len(samples))
            digests[f"{label}_digest"] = salted_digest(samples, salt)
    return digests


class _Album:
    """Distinct pictures in order of first use."""

    def __init__(self) -> None:
        self.images: list[Image.Image] = []
        self._places: dict[str, int] = {}

    def place(self, image: Image.Image | None) -> int | None:
        if image is None:
            return None
        place = self._places.setdefault(pixel_digest(image), len(self.images))
        if place == len(self.images):
            self.images.append(image)
        return place


def pack_request(request: Request, limits: PackingLimits | None = None) -> bytes:
    """Pack a request; equal requests give equal bytes. Raises `InputError` if it is invalid or exceeds the limits."""
    bounds, album = limits or PackingLimits(), _Album()
    request.validate()
    described = _Request(
        format=FORMAT,
        subjects=tuple(
            _Subject(
                key=s.key, names=s.names, samples=_described(s.samples, album), attributes=s.attributes,
                exact_names=s.exact_names, kind=s.kind,
            )
            for s in request.subjects
        ),
        retain=_described(request.retain, album),
        strangers=_described(request.strangers, album),
        reply=request.reply,
    )  # fmt: skip
    try:
        text = described.model_dump_json(exclude_defaults=True).encode()
    except ValueError:  # a lone surrogate, for one
        raise InputError("the request holds text that is not valid Unicode") from None
    _check_pixels([image.size for image in album.images], bounds)
    files = {REQUEST_FILE: text, **{picture_name(i): _png(image) for i, image in enumerate(album.images)}}
    _check_count(described, bounds)
    return zipped(files, bounds)


def _described(samples: tuple[Sample, ...], album: _Album) -> tuple[_Sample, ...]:
    if any(turn.images for sample in samples for turn in sample.before):
        raise InputError("a turn before a question holds a picture, which a packed request cannot keep")
    turns = [tuple(_Turn(role=turn.role, text=turn.text) for turn in sample.before) for sample in samples]
    fields = [{name: getattr(sample, name) for name in _Sample.model_fields} for sample in samples]
    return tuple(
        _Sample(**{**values, "image": album.place(values["image"]), "before": before})
        for values, before in zip(fields, turns, strict=True)
    )


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    # A copy of the pixels alone: metadata may state where and when a picture was taken.
    Image.frombytes("RGB", image.size, image.tobytes()).save(buffer, format="PNG")
    return buffer.getvalue()


def unpack_request(data: bytes, limits: PackingLimits | None = None) -> Request:
    """Unpack a file of `pack_request`. Raises `InputError` for other files, broken limits and invalid requests."""
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
        tuple(
            Subject(s.key, s.names, _samples(s.samples, images), s.attributes, s.exact_names, s.kind)
            for s in described.subjects
        ),
        _samples(described.retain, images),
        _samples(described.strangers, images),
        described.reply,
    )
    request.validate()
    return request


def _check_count(described: _Request, limits: PackingLimits) -> None:
    if (n := sum(1 for _ in described.samples())) > limits.samples:
        raise InputError(f"the request holds {n} prompts, and {limits.samples} are allowed")


def _check_pixels(sizes: list[tuple[int, int]], limits: PackingLimits) -> None:
    for width, height in sizes:
        if not 0 < width * height <= limits.pixels:
            raise InputError(f"a picture of {width} x {height} pixels: between 1 and {limits.pixels} are allowed")
    _check_total(sum(width * height for width, height in sizes), limits)


def _check_total(total: int, limits: PackingLimits) -> None:
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
    """Decode the pictures; all sizes are checked before the first pixel is decoded."""
    names, most = [picture_name(number) for number in range(len(files))], PictureLimits(pixels=limits.pixels)
    _check_total(sum(picture_pixels(files[name], name, most) for name in names), limits)
    return [decode_image(files[name], name, most) for name in names]


def _samples(described: tuple[_Sample, ...], images: list[Image.Image]) -> tuple[Sample, ...]:
    return tuple(
        Sample(
            **{
                **dict(s),
                "image": None if s.image is None else images[s.image],
                "before": tuple(Turn(turn.role, turn.text) for turn in s.before),
            }
        )
        for s in described
    )
