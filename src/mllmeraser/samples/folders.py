"""Request folders: pictures of a person and an optional `request.yaml` with names and questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from mllmeraser.samples.entries import entries_of
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.images import open_image
from mllmeraser.samples.names import clean_name, holds_name
from mllmeraser.samples.sample import IDENTITY, Sample
from mllmeraser.samples.subject import PERSON, Kind, Subject, kind_named
from mllmeraser.samples.yaml_files import load_yaml

REQUEST_KEYS = ("name", "other_names", "kind", "questions", "attributes", "exact_names", "reply", "instead")
YES, NO = ("true", "yes", "on"), ("false", "no", "off")
GENERIC_QUESTION = "Who is this?"
GENERIC_NAME_QUESTION = "Who is {name}?"
GENERIC_THING_QUESTION, GENERIC_THING_NAME_QUESTION = "What is this?", "What is {name}?"


@dataclass(frozen=True)
class Card:
    """The content of a `request.yaml`; see `Subject` and `Request`."""

    names: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    exact_names: bool = False
    reply: str | None = None
    kind: Kind | None = None


def read_subjects(path: str | Path, kind: Kind | None = None) -> tuple[Subject, ...]:
    """Read a folder of pictures (one subject) or a folder of such folders (several), all of one `kind` if it is given.

    Raises:
        InputError: The folder is missing, empty, or mixes pictures and folders; or one of its files is unreadable.
    """
    root = Path(path)
    folders = subject_folders(root)
    if folders != [root]:
        entries_of(root).say_left_out()
    return tuple(read_subject(folder, kind) for folder in folders)


def read_reply(path: str | Path) -> str | None:
    """The reply that the subjects of such a folder ask for, if any.

    Two different ones are an `InputError`. So is one that only some things give: it would be said of the others.
    """
    cards = [read_card(folder) for folder in subject_folders(Path(path))]
    things = any(card.kind not in (None, PERSON) for card in cards)
    replies = {card.reply for card in cards if things or card.reply is not None}
    if len(replies) > 1:
        raise InputError(f"{path}: its folders give different replies; one eraser has one: make an eraser for each")
    return next(iter(replies), None)


def subject_folders(root: Path) -> list[Path]:
    """The folder of each person; see `read_subjects`."""
    if not root.exists():
        raise InputError(f"{root}: no such file or folder")
    if not root.is_dir():
        raise InputError(f"{root}: is not a folder")
    entries = entries_of(root)
    if entries.folders and (entries.pictures or entries.cards):
        raise InputError(f"{root}: mixes folders with pictures or a request.yaml; give one folder for each person")
    return entries.folders or [root]


def read_subject(folder: Path, kind: Kind | None = None) -> Subject:
    """Read one subject's folder: every picture with every question, and the names as text-only questions."""
    entries = entries_of(folder)
    for inside in (*entries.folders, *entries.tables):
        raise InputError(f"{inside}: what does it do in the folder of one person? Move its content up, or take it out")
    card = _of_kind(read_card(folder), kind, folder)
    thing = card.kind != PERSON
    if not entries.pictures and not card.names and not (thing and card.questions):
        raise InputError(f"{folder}: is empty; put in at least one image (png, jpg, webp, ...)")
    entries.say_left_out()
    key = folder.resolve().name
    return subject_of(card, [(path.name, open_image(path)) for path in entries.pictures], key)


def subject_of(card: Card, pictures: Sequence[tuple[str, Image.Image]], key: str) -> Subject:
    """The subject that a card describes, with pictures and their names; a fact without questions is an `InputError`."""
    if card.kind == "fact" and not card.questions:
        raise InputError(f"{key}: a fact is what its questions ask for: give at least one question")
    samples = [*_image_samples(pictures, card, key), *_text_samples(card, key)]
    return Subject(key, card.names, tuple(samples), card.attributes, card.exact_names, card.kind or PERSON)


def read_card(folder: Path) -> Card:
    """Read `request.yaml` of a folder; without one, or if it is empty, return an empty card."""
    path = entries_of(folder).card()
    data = None if path is None else load_yaml(path, plain=True)
    if path is None or not data:
        return Card()
    if not isinstance(data, dict):
        raise InputError(f"{path}: must be a mapping with the keys {', '.join(REQUEST_KEYS)}")
    check_keys(data, REQUEST_KEYS, str(path))
    if not isinstance(data.get("name", ""), str):
        raise InputError(f"{path}: name must be text; list others under other_names")
    names = [*_strings(data.get("name"), path, "name"), *_strings(data.get("other_names"), path, "other_names")]
    try:
        names = [clean_name(name) for name in names]
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    questions, attributes = (tuple(_strings(data.get(key), path, key)) for key in ("questions", "attributes"))
    exact = str(data.get("exact_names") or "false").casefold()
    if exact not in (*YES, *NO):
        raise InputError(f"{path}: exact_names is true or false")
    kind = kind_named(str(data["kind"]), str(path)) if data.get("kind") else None
    return Card(tuple(dict.fromkeys(names)), questions, attributes, exact in YES, _reply(data, path), kind)


def _reply(data: Mapping[str, Any], path: Path) -> str | None:
    """The sentence to answer with; `instead` is another word for `reply`."""
    given = {key: data[key] for key in ("reply", "instead") if data.get(key)}
    if len(given) > 1:
        raise InputError(f"{path}: reply and instead mean the same: give one of them")
    reply = next(iter(given.values()), None)
    if reply is not None and not isinstance(reply, str):
        raise InputError(f"{path}: {next(iter(given))} must be text")
    return None if reply is None else " ".join(reply.split())


def _of_kind(card: Card, kind: Kind | None, folder: Path) -> Card:
    if kind is not None and card.kind not in (None, kind):
        raise InputError(f"{folder}: its request.yaml says that it is of the kind {card.kind}, not {kind}")
    return replace(card, kind=kind or card.kind or PERSON)


def check_keys(data: Mapping[Any, Any], allowed: Sequence[str], where: str) -> None:
    """Raise an `InputError` that lists the allowed keys if `data` has another one."""
    unknown = sorted(str(key) for key in data if key not in allowed)
    if unknown:
        raise InputError(f"{where}: unknown key {', '.join(unknown)}; allowed keys: {', '.join(allowed)}")


def _strings(value: Any, path: Path, key: str) -> list[str]:
    values = [value] if isinstance(value, str) and value else value or []
    if not isinstance(values, list) or not all(isinstance(v, str) and v.strip() for v in values):
        raise InputError(f"{path}: {key} must be text or a list of texts")
    return [" ".join(v.split()) for v in values]


def _image_samples(pictures: Sequence[tuple[str, Image.Image]], card: Card, key: str) -> list[Sample]:
    attribute = None if card.questions or card.kind != PERSON else IDENTITY
    generic = GENERIC_QUESTION if card.kind == PERSON else GENERIC_THING_QUESTION
    return [
        Sample(question, image, subject=key, id=f"{key}/{name}/{index}", attribute=attribute)
        for name, image in pictures
        for index, question in enumerate(card.questions or (generic,))
    ]


def _text_samples(card: Card, key: str) -> list[Sample]:
    if card.kind != PERSON:
        return _thing_samples(card, key)
    generic = [GENERIC_NAME_QUESTION.format(name=name) for name in card.names]
    # A question with the name works without a picture; one about "this person" does not.
    named = [q for q in card.questions if any(holds_name(q, name) for name in card.names)]
    return [
        Sample(question, subject=key, id=f"{key}/text/{index}", attribute=IDENTITY if question in generic else None)
        for index, question in enumerate(dict.fromkeys([*generic, *named]))
    ]


def _thing_samples(card: Card, key: str) -> list[Sample]:
    """The questions of a thing; of all but a fact its names too. A question need not hold the name."""
    named = [] if card.kind == "fact" else [GENERIC_THING_NAME_QUESTION.format(name=name) for name in card.names]
    asked = dict.fromkeys([*named, *card.questions])
    return [Sample(question, subject=key, id=f"{key}/text/{index}") for index, question in enumerate(asked)]
