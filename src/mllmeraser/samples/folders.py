"""Request folders: pictures of a person and an optional `request.yaml` with names and questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.images import is_image_file, open_image
from mllmeraser.samples.sample import IDENTITY, Sample
from mllmeraser.samples.subject import Subject

REQUEST_FILES = ("request.yaml", "request.yml")
REQUEST_KEYS = ("name", "other_names", "questions", "attributes", "exact_names", "reply")
GENERIC_QUESTION = "Who is this?"
GENERIC_NAME_QUESTION = "Who is {name}?"


@dataclass(frozen=True)
class Card:
    """The content of a `request.yaml`; see `Subject` and `Request`."""

    names: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    exact_names: bool = False
    reply: str | None = None


def read_subjects(path: str | Path) -> tuple[Subject, ...]:
    """Read a folder of pictures (one subject) or a folder of such folders (several).

    Raises:
        InputError: The folder is missing, empty, or mixes pictures and folders; or one of its files is unreadable.
    """
    return tuple(read_subject(folder) for folder in subject_folders(Path(path)))


def read_reply(path: str | Path) -> str | None:
    """The reply that the people of such a folder ask for, if any; two different ones are an `InputError`."""
    replies = {card.reply for folder in subject_folders(Path(path)) if (card := read_card(folder)).reply is not None}
    if len(replies) > 1:
        raise InputError(f"{path}: its folders give different replies; one eraser has one: make an eraser for each")
    return next(iter(replies), None)


def subject_folders(root: Path) -> list[Path]:
    """The folder of each person; see `read_subjects`."""
    if not root.exists():
        raise InputError(f"{root}: no such file or folder")
    if not root.is_dir():
        raise InputError(f"{root}: is not a folder")
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    has_own = bool(_images_of(root)) or _request_file(root) is not None
    if folders and has_own:
        raise InputError(f"{root}: mixes folders with pictures or a request.yaml; give one folder for each person")
    return folders or [root]


def read_subject(folder: Path) -> Subject:
    """Read one person's folder: every picture with every question, and the names as text-only questions."""
    images = _images_of(folder)
    card = read_card(folder)
    if not images and not card.names:
        raise InputError(f"{folder}: is empty; put in at least one image (png, jpg, webp, ...)")
    key = folder.resolve().name
    samples = [*_image_samples(images, card, key), *_text_samples(card, key)]
    return Subject(key, card.names, tuple(samples), card.attributes, card.exact_names)


def read_card(folder: Path) -> Card:
    """Read `request.yaml` of a folder; without one, or if it is empty, return an empty card."""
    path = _request_file(folder)
    data = None if path is None else load_yaml(path)
    if path is None or data is None:
        return Card()
    if not isinstance(data, dict):
        raise InputError(f"{path}: must be a mapping with the keys {', '.join(REQUEST_KEYS)}")
    check_keys(data, REQUEST_KEYS, str(path))
    name = _strings([data["name"]], path, "name") if data.get("name") is not None else []
    names = name + _strings(data.get("other_names"), path, "other_names")
    questions, attributes = (tuple(_strings(data.get(key), path, key)) for key in ("questions", "attributes"))
    exact = data.get("exact_names", False)
    if not isinstance(exact, bool):
        raise InputError(f"{path}: exact_names is true or false")
    reply = _strings([data["reply"]], path, "reply")[0] if data.get("reply") is not None else None
    return Card(tuple(dict.fromkeys(names)), questions, attributes, exact, reply)


def load_yaml(path: Path) -> Any:
    """Parse a YAML file; the `InputError` of a syntax error is one line with its position."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "syntax error"
        raise InputError(f"{path}{place}: not valid YAML ({problem})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def check_keys(data: dict[Any, Any], allowed: Sequence[str], where: str) -> None:
    """Raise an `InputError` that lists the allowed keys if `data` has another one."""
    unknown = sorted(str(key) for key in data if key not in allowed)
    if unknown:
        raise InputError(f"{where}: unknown key {', '.join(unknown)}; allowed keys: {', '.join(allowed)}")


def _request_file(folder: Path) -> Path | None:
    return next((folder / name for name in REQUEST_FILES if (folder / name).is_file()), None)


def _images_of(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_file() and is_image_file(entry))


def _strings(value: Any, path: Path, key: str) -> list[str]:
    values = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str) and v.strip() for v in values):
        raise InputError(f"{path}: {key} must be text or a list of texts (put numbers in quotes)")
    return [" ".join(v.split()) for v in values]


def _image_samples(images: list[Path], card: Card, key: str) -> list[Sample]:
    attribute = None if card.questions else IDENTITY
    return [
        Sample(question, image, subject=key, id=f"{key}/{path.name}/{index}", attribute=attribute)
        for path, image in ((path, open_image(path)) for path in images)
        for index, question in enumerate(card.questions or (GENERIC_QUESTION,))
    ]


def _text_samples(card: Card, key: str) -> list[Sample]:
    generic = [GENERIC_NAME_QUESTION.format(name=name) for name in card.names]
    # A question with the name works without a picture; one about "this person" does not.
    named = [q for q in card.questions if any(name.casefold() in q.casefold() for name in card.names)]
    return [
        Sample(question, subject=key, id=f"{key}/text/{index}", attribute=IDENTITY if question in generic else None)
        for index, question in enumerate(dict.fromkeys([*generic, *named]))
    ]
