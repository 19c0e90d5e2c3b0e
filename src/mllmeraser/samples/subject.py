"""A Subject: one person or concept of a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mllmeraser.samples.sample import Sample

ANONYMOUS = "subject"


@dataclass(frozen=True)
class Subject:
    """One person or concept to be forgotten; each gets a gate of its own.

    Attributes:
        key: Stable key, unique within a request (name of the folder, or ID in a benchmark).
        names: Every name the subject goes by; text-only questions are made from them.
        samples: What is known to ask about the subject.
        attributes: What is to be forgotten about the subject (`Sample.attribute`), for example `("residence",)`; none:
            everything. Needs the gate `subject`.
    """

    key: str
    names: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()
    attributes: tuple[str, ...] = ()


def group_subjects(samples: Iterable[Sample], names: Mapping[str, Sequence[str]] | None = None) -> tuple[Subject, ...]:
    """Group samples by `Sample.subject`, in order of first appearance.

    Samples without a subject form one subject of their own.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.subject or ANONYMOUS, []).append(sample)
    known = names or {}
    return tuple(Subject(key, tuple(known.get(key, ())), tuple(group)) for key, group in groups.items())
