"""The Request: subjects to forget, and samples with answers that must stay the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.expansion import ExpansionSettings, expand_others, expand_subject, name_samples
from mllmeraser.samples.folders import read_reply, read_subjects
from mllmeraser.samples.images import pixel_digest
from mllmeraser.samples.names import names_somebody
from mllmeraser.samples.questions import QuestionLibrary
from mllmeraser.samples.readers import read_samples, table_files
from mllmeraser.samples.request_tables import read_table
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.subject import PERSON, Kind, Subject, group_subjects

__all__ = ["Request", "Subject", "require_answers"]
LONGEST_REPLY = 500


@dataclass(frozen=True)
class Request:
    """Subjects to forget, samples to retain, and samples of strangers (people the model has never seen).

    Attributes:
        subjects: The people or concepts to forget.
        retain: Samples; the model's answers to them must stay the same.
        strangers: Samples about people unknown to the model; the `unknown` direction points at their states.
        reply: A sentence with which the model answers about the subjects; None leaves it to the settings of the fit.
    """

    subjects: tuple[Subject, ...]
    retain: tuple[Sample, ...] = ()
    strangers: tuple[Sample, ...] = ()
    reply: str | None = None

    @property
    def forget(self) -> tuple[Sample, ...]:
        """The samples of all subjects."""
        return tuple(sample for subject in self.subjects for sample in subject.samples)

    @property
    def about_people(self) -> bool:
        """Whether its subjects are people; a valid request never mixes them with other kinds."""
        return all(subject.kind == PERSON for subject in self.subjects)

    @property
    def names_of_people(self) -> tuple[str, ...]:
        """The names that no text of an eraser may hold; those of things are no secret."""
        people = (subject for subject in self.subjects if subject.kind == PERSON)
        return tuple(name for subject in people for name in subject.names)

    @classmethod
    def from_folder(
        cls,
        path: str | Path,
        *,
        retain: str | Path | None = None,
        strangers: str | Path | None = None,
        kind: Kind | None = None,
    ) -> Request:
        """Read a request from disk.

        `path` is a folder of pictures with an optional `request.yaml` (name, other_names, kind, questions, attributes,
        exact_names, reply), a folder of such folders (several subjects), or a JSONL or parquet file, with the columns
        `kind` and `instead` if wanted. So are `retain` and `strangers`, without these. `kind` is that of all subjects;
        a `request.yaml` or a row that states another one is an error.

        Raises:
            InputError: Something cannot be read, or the request is not valid (see `validate`).
        """
        if table_files(path):
            subjects, reply = read_table(path, kind)
        else:
            subjects, reply = read_subjects(path, kind), read_reply(path)
        request = cls(subjects, _samples_of(retain), _samples_of(strangers), reply)
        request.validate()
        return request

    @classmethod
    def from_samples(
        cls,
        forget: Iterable[Sample],
        retain: Iterable[Sample] = (),
        strangers: Iterable[Sample] = (),
        *,
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> Request:
        """Make a request of samples, grouped by `Sample.subject`.

        `names` maps keys of subjects to their names, for text-only questions.

        Raises:
            InputError: The request is not valid (see `validate`).
        """
        request = cls(group_subjects(forget, names), tuple(retain), tuple(strangers))
        request.validate()
        return request

    def validate(self) -> None:
        """Check the request.

        Raises:
            InputError: The forget set is empty, or a subject has no sample or the key of another one. Or a forget
                sample (prompt and picture) is also in retain or strangers. Or the reply is empty, too long, or names
                somebody to forget. Or it mixes people with other things.
        """
        if not self.forget:
            raise InputError("the forget set is empty: give at least one image or one name to forget")
        keys = [subject.key for subject in self.subjects]
        for subject in self.subjects:
            if not subject.samples:
                raise InputError(f"subject {subject.key}: has no sample to forget")
            if keys.count(subject.key) > 1:
                raise InputError(f"subject {subject.key}: occurs twice in the request")
        for subject in self.subjects:
            if subject.exact_names and subject.kind != PERSON:
                raise InputError(
                    f"subject {subject.key}: exact_names is for people; other things are not found by name"
                )
        if not self.about_people and any(subject.kind == PERSON for subject in self.subjects):
            raise InputError("people and other things need different gates: make one eraser for each")
        _refuse_shared(self.forget, self.retain, "retain")
        _refuse_shared(self.forget, self.strangers, "strangers")
        if self.reply is not None:
            self._check_reply(self.reply)

    def _check_reply(self, reply: str) -> None:
        if not 0 < len(reply.strip()) <= LONGEST_REPLY:
            raise InputError(f"the reply has 1 to {LONGEST_REPLY} characters")
        if names_somebody(reply, self.names_of_people):
            raise InputError("the reply holds a name of somebody to forget: leave it out")

    def expanded(self, settings: ExpansionSettings | None = None, library: QuestionLibrary | None = None) -> Request:
        """The request with views and wordings added (see `expand_subject` and `expand_others`)."""
        chosen = settings or ExpansionSettings()
        forgotten = {pixel_digest(sample.image) for sample in self.forget if sample.image is not None}
        return replace(
            self,
            subjects=tuple(expand_subject(subject, chosen, library) for subject in self.subjects),
            retain=expand_others(self.retain, chosen, library, keep_off=forgotten),
            strangers=expand_others(self.strangers, chosen, library, keep_off=forgotten),
        )


def require_answers(samples: Iterable[Sample], purpose: str = "scoring") -> None:
    """Raise an `InputError` if a sample has neither an answer nor keywords."""
    missing = [sample.id or sample.question for sample in samples if not sample.answer and not sample.keywords]
    if missing:
        raise InputError(f"{purpose} needs answers, but {len(missing)} sample(s) have none; first: {missing[0]!r}")


def _samples_of(path: str | Path | None) -> tuple[Sample, ...]:
    if path is None:
        return ()
    if table_files(path):
        return tuple(read_samples(path))
    subjects = read_subjects(path)
    # Plain samples lose the names of their subjects, so their text-only questions are added here.
    by_name = [sample for subject in subjects for sample in name_samples(subject, ExpansionSettings())]
    return tuple([*(sample for subject in subjects for sample in subject.samples), *by_name])


def _refuse_shared(forget: Sequence[Sample], others: Sequence[Sample], name: str) -> None:
    known = {sample.digest(): sample for sample in forget} if others else {}
    for sample in others:
        twin = known.get(sample.digest())
        if twin is not None:
            raise InputError(f"forget and {name} share a sample ({twin.id or twin.question!r}); remove one of the two")
