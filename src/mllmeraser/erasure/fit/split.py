"""Split a request: fit, calibration or check for retain samples, fit or held-out for forget samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mllmeraser.erasure.artifact.manifest import subject_key
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.samples.frames import unframed
from mllmeraser.samples.hashing import hash64
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.subject import Subject


@dataclass(frozen=True)
class DataSplit:
    """A request, split into what is fitted on and what is not.

    `forget` and `forget_held_out` map opaque subject keys to samples, `keys` the request's keys to the opaque ones.
    """

    forget: dict[str, list[Sample]]
    forget_held_out: dict[str, list[Sample]]
    retain: list[Sample]
    calibration: list[Sample]
    check: list[Sample]
    strangers: list[Sample]
    keys: dict[str, str]

    @property
    def held_out(self) -> list[Sample]:
        """All held-out forget samples."""
        return [sample for samples in self.forget_held_out.values() for sample in samples]


def split(request: Request, settings: FitSettings, salt: str) -> DataSplit:
    """Split a request by seeded hashes; see `split_retain` and `split_subject`."""
    retain, calibration, check = split_retain(request.retain, settings)
    keys = {subject.key: subject_key(subject.key, salt) for subject in request.subjects}
    both = {keys[subject.key]: split_subject(subject, settings) for subject in request.subjects}
    return DataSplit(
        forget={key: fit_part for key, (fit_part, _) in both.items()},
        forget_held_out={key: held for key, (_, held) in both.items()},
        retain=retain,
        calibration=calibration,
        check=check,
        strangers=list(request.strangers),
        keys=keys,
    )


def unit_hash(seed: int, *parts: str) -> float:
    """A number in [0, 1) that depends on the seed and `parts` alone."""
    return (hash64(seed, *parts, separator="\x1f") >> 8) / 2**56


def split_retain(retain: Iterable[Sample], settings: FitSettings) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """Retain samples for the fit, for the threshold and for the check.

    All views of one subject under one prompt fall into the same part. It depends on the sample and the seed alone, so
    new data moves no other sample.
    """
    parts: tuple[list[Sample], list[Sample], list[Sample]] = ([], [], [])
    for sample in retain:
        u = unit_hash(settings.seed, "retain", sample.subject or "", sample.prompt)
        measured = u < settings.calibration_share + settings.check_share
        parts[1 if u < settings.calibration_share else 2 if measured else 0].append(sample)
    return parts


def split_subject(subject: Subject, settings: FitSettings) -> tuple[list[Sample], list[Sample]]:
    """A subject's samples for the fit, and held out.

    Whole views are held out with every question about them, and whole wordings for prompts without a picture. Both
    kinds keep at least one for the fit.
    """
    units = [unit_of(sample) for sample in subject.samples]
    held: set[str] = set()
    for kind in ("view", "wording"):
        distinct = sorted({u for u in units if u.startswith(kind)}, key=lambda u: unit_hash(settings.seed, u))
        held.update(distinct[: min(len(distinct) - 1, round(settings.forget_held_out * len(distinct)))])
    fit = [s for s, unit in zip(subject.samples, units, strict=True) if unit not in held]
    return fit, [s for s, unit in zip(subject.samples, units, strict=True) if unit in held]


def unit_of(sample: Sample) -> str:
    """The unit that is held out as a whole: a digest of the picture, or else the wording, whatever its frame."""
    if sample.image is None:
        return f"wording {unframed(sample.prompt)}"
    image = sample.image
    return "view " + hashlib.sha256(b"%dx%d" % image.size + image.tobytes()).hexdigest()


def salted_digest(samples: Sequence[Sample], salt: str) -> str:
    """SHA-256 over the digests of `samples` in any order; empty for none."""
    if not samples:
        return ""
    digest = hashlib.sha256(salt.encode())
    for one in sorted(sample.digest() for sample in samples):
        digest.update(one.encode())
    return digest.hexdigest()
