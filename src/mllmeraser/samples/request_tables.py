"""A request from JSONL or parquet: its subjects with their kinds, and the sentence to answer with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.readers import OF_REQUESTS, TableRow, read_rows
from mllmeraser.samples.subject import ANONYMOUS, PERSON, Kind, Subject, group_subjects, kind_named

KIND, INSTEAD = OF_REQUESTS


def read_table(path: str | Path, kind: Kind | None = None) -> tuple[tuple[Subject, ...], str | None]:
    """The subjects of a table, and the sentence of its column `instead`, if any.

    The column `kind` says what a subject is, in one of its rows or more; `kind` is that of all subjects.

    Raises:
        InputError: A row is malformed, or contradicts `kind` or another row. Or of several things only some have a
            sentence.
    """
    rows = read_rows(Path(path), OF_REQUESTS)
    kinds = _stated_kinds(rows, kind)
    found = group_subjects(row.sample() for row in rows)
    subjects = tuple(replace(subject, kind=kinds.get(subject.key) or kind or PERSON) for subject in found)
    return subjects, _sentence(rows, subjects, str(path))


def _key(row: TableRow) -> str:
    return row.text("subject") or ANONYMOUS


def _stated_kinds(rows: Sequence[TableRow], wanted: Kind | None) -> dict[str, Kind]:
    """The kinds that rows state, by subject."""
    kinds: dict[str, Kind] = {}
    for row in rows:
        text = row.text(KIND)
        if text is None:
            continue
        stated = kind_named(text, row.where)
        if wanted is not None and stated != wanted:
            raise InputError(f"{row.where}: its kind is {stated}, and {wanted} was asked for: give one of them")
        if kinds.setdefault(_key(row), stated) != stated:
            raise InputError(f"{row.where}: its kind is {stated}, and another row of its subject says another one")
    return kinds


def _sentence(rows: Sequence[TableRow], subjects: Sequence[Subject], where: str) -> str | None:
    """The one sentence of all rows. One that only some things have is refused: it would be said of the others too."""
    said: dict[str, set[str]] = {subject.key: set() for subject in subjects}
    for row in rows:
        if (text := row.text(INSTEAD)) is not None:
            said[_key(row)].add(" ".join(text.split()))
    things = any(subject.kind != PERSON for subject in subjects)
    given = {tuple(sorted(texts)) for texts in said.values() if things or texts}
    if len(given) > 1 or any(len(texts) > 1 for texts in given):
        raise InputError(f"{where}: its rows give different sentences in {INSTEAD}; one eraser has one")
    return next((text for texts in given for text in texts), None)
