"""A Subject: one person or concept of a request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.names import clean_name
from mllmeraser.samples.sample import Sample

ANONYMOUS = "subject"
Kind = Literal["person", "entity", "fact", "concept", "topic"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PERSON: Kind = "person"
KIND_COUNT = "kind_"
"""Begin of the names under which records count subjects of a kind."""


@dataclass(frozen=True)
class Subject:
    """One person or thing to forget; each has its own gate.

    Attributes:
        key: Stable key, unique within a request (name of the folder, or ID in a benchmark).
        names: All names of the subject, for text-only questions.
        samples: Known questions about the subject.
        attributes: The attributes to forget (`Sample.attribute`), for example `("residence",)`; empty for all.
            Needs the gate `subject`.
        exact_names: Names count as they are written alone, not their parts and other spellings.
        kind: What it is. A `fact` is what the questions of `samples` ask about the subject of these names.
    """

    key: str
    names: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()
    attributes: tuple[str, ...] = ()
    exact_names: bool = False
    kind: Kind = PERSON

    def __post_init__(self) -> None:
        """Bring the names into their normal form; one without a letter, or an unknown kind, is an `InputError`."""
        if self.kind not in KINDS:
            raise InputError(f"subject {self.key}: kind is one of {', '.join(KINDS)}, not {self.kind!r}")
        object.__setattr__(self, "names", tuple(dict.fromkeys(clean_name(name) for name in self.names)))


def kind_named(text: str, where: str) -> Kind:
    """The kind of this name, in any case; another name is an `InputError` that begins with `where`."""
    wanted = text.strip().casefold()
    if wanted not in KINDS:
        raise InputError(f"{where}: kind is one of {', '.join(KINDS)}, not {wanted!r}")
    return next(kind for kind in KINDS if kind == wanted)


def kind_counts(subjects: Iterable[Subject]) -> dict[str, int]:
    """How many subjects there are of each kind, under names such as `kind_fact`. Kinds are no personal data."""
    counts = Counter(subject.kind for subject in subjects)
    return {f"{KIND_COUNT}{kind}": counts[kind] for kind in KINDS if counts[kind]}


def group_subjects(samples: Iterable[Sample], names: Mapping[str, Sequence[str]] | None = None) -> tuple[Subject, ...]:
    """Group samples by `Sample.subject`, in order of first appearance; those without one form one subject."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.subject or ANONYMOUS, []).append(sample)
    known = names or {}
    return tuple(Subject(key, tuple(known.get(key, ())), tuple(group)) for key, group in groups.items())
