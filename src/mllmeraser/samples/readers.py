"""Samples from files: JSONL, parquet, and folders of pictures.

The columns are those of `COLUMNS`; only `question` is required. In JSONL `image` is a path relative to the file. In
parquet it is a struct of bytes and path, as on the Hugging Face hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from PIL import Image

from mllmeraser.samples.entries import TABLES, Entries, entries_of, left_out
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.folders import check_keys, read_subjects
from mllmeraser.samples.images import decode_image, given_image, is_image_file, open_image
from mllmeraser.samples.sample import Sample, Task

COLUMNS = ("image", "question", "answer", "subject", "task", "options", "keywords", "id", "attribute")
OF_REQUESTS = ("kind", "instead")
"""More columns of a table that says what to forget; see `request_tables`."""
LETTERS = "ABCDEFGH"
INDEX = re.compile(r"__index_level_\d+__")
"""Columns that pandas adds to a parquet file; they hold nothing of the user."""
TASKS: tuple[str, ...] = get_args(Task)


@dataclass(frozen=True)
class TableRow:
    """A row of a table: its columns, and its place for messages."""

    values: Mapping[str, Any]
    table: Path
    number: int

    @property
    def where(self) -> str:
        """The table and the number of the row, from 1."""
        return f"{self.table}, row {self.number + 1}"

    def text(self, column: str) -> str | None:
        """The text of a column; anything else than text or a number is an `InputError`."""
        return _text(self.values.get(column), column, self.where)

    def sample(self) -> Sample:
        """The sample of the row; for errors see `read_samples`."""
        return sample_from_row(self.values, folder=self.table.parent, where=self.where, number=self.number)


def read_samples(path: str | Path, *, of_request: bool = False) -> list[Sample]:
    """Read samples from a JSONL or parquet file, or from a folder of either or of pictures.

    A table `of_request` may have the columns `OF_REQUESTS`, which say nothing about a single sample.

    Raises:
        InputError: The path is missing or of another kind; or a row or a picture, named in the message, is malformed.
    """
    source = Path(path)
    if source.is_dir() and not table_files(source):
        return [sample for subject in read_subjects(source) for sample in subject.samples]
    return [row.sample() for row in read_rows(source, OF_REQUESTS if of_request else ())]


def read_rows(source: Path, more: Sequence[str] = ()) -> list[TableRow]:
    """The rows of the tables at a path, with the columns of `COLUMNS` and `more`; for errors see `read_samples`."""
    tables = table_files(source)
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if not tables:
        raise InputError(f"{source}: expected a folder of images, a .jsonl file or a .parquet file")
    rows = [TableRow(_own_columns(row), table, n) for table in tables for n, row in enumerate(_rows_of(table))]
    if source.is_dir():
        _account(entries_of(source), [row.values for row in rows])
    for row in rows:
        check_keys(row.values, (*COLUMNS, *more), row.where)
    return rows


def table_files(path: str | Path) -> list[Path]:
    """The JSONL and parquet files at `path`, a file or a folder."""
    source = Path(path)
    if source.is_dir():
        return entries_of(source).tables
    return [source] if source.suffix.casefold() in TABLES else []


def _rows_of(table: Path) -> list[dict[str, Any]]:
    rows = list((_jsonl_rows if table.suffix.casefold() == ".jsonl" else parquet_rows)(table))
    if not rows:
        raise InputError(f"{table}: holds no rows")
    return rows


def _account(entries: Entries, rows: Sequence[Mapping[str, Any]]) -> None:
    """Make sure that pictures beside tables belong to their rows; name the other entries.

    Raises:
        InputError: There is a `request.yaml` too, or there are pictures and no row names any of them.
    """
    beside = [*entries.pictures, *(inside for folder in entries.folders for inside in sorted(folder.rglob("*")))]
    beside = [path for path in beside if is_image_file(path)]
    named = {(entries.folder / row["image"]).resolve() for row in rows if isinstance(row.get("image"), str)}
    strays = [path for path in beside if path.resolve() not in named]
    if entries.cards or (strays and len(strays) == len(beside)):
        other = entries.cards or strays
        raise InputError(
            f"{entries.folder}: holds {entries.tables[0].name} and {other[0].name}, which it does not name: "
            "keep tables and pictures of a person apart, or give the path of the table itself"
        )
    left_out(strays)
    entries.say_left_out()


def sample_from_row(row: Mapping[str, Any], *, folder: Path = Path(), where: str = "row", number: int = 0) -> Sample:
    """One sample from a mapping with these columns; `number` is the default id."""
    task: Any = row.get("task") or ("classification" if row.get("options") else "generation")
    if task not in TASKS:
        raise InputError(f"{where}: task {task!r} is none of {', '.join(TASKS)}")
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise InputError(f"{where}: question is missing or empty")
    options = options_from(row.get("options"), where)
    if task == "classification" and not options:
        raise InputError(f"{where}: a classification sample needs options")
    image, keywords = image_from(row.get("image"), folder, where), _keywords(row.get("keywords"), where)
    answer, subject, key, attribute = (_text(row.get(n), n, where) for n in ("answer", "subject", "id", "attribute"))
    return Sample(question, image, answer, task, options, keywords, subject, key or f"{number}", attribute)


def image_from(value: Any, folder: Path, where: str) -> Image.Image | None:
    """A picture from a path, a struct of bytes and path, raw bytes, or a Pillow image; None stays None."""
    if value is None:
        return None
    if isinstance(value, Image.Image):
        return given_image(value)
    if isinstance(value, bytes | bytearray):
        return decode_image(bytes(value), where)
    if isinstance(value, Mapping):
        if value.get("bytes") is not None:
            return decode_image(
                bytes(value["bytes"]), f"{where}, image {value['path']}" if value.get("path") else where
            )
        value = value.get("path")
        if value is None:
            return None
    if isinstance(value, str) and value:
        return open_image(folder / value)
    raise InputError(f"{where}: image must be a path or a struct of bytes and path, not {type(value).__name__}")


def options_from(value: Any, where: str) -> tuple[tuple[str, str], ...]:
    """Options as pairs of letter and text, from a mapping, a list of texts, or a list of pairs."""
    if not value:
        return ()
    if isinstance(value, Mapping):
        pairs = [(str(letter), text) for letter, text in value.items() if text is not None]
    elif isinstance(value, list | tuple) and len(value) <= len(LETTERS):
        lettered = zip(LETTERS, value, strict=False)
        pairs = [(str(e[0]), e[1]) if isinstance(e, list | tuple) and len(e) == 2 else (a, e) for a, e in lettered]
    else:
        raise InputError(f"{where}: options must be a mapping {{A: ..., B: ...}} or a short list of texts")
    return tuple((letter.strip().upper(), str(text).strip()) for letter, text in pairs)


def text_or_none(value: Any) -> str | None:
    """The value as text without outer blanks; None for None and for empty text."""
    return None if value is None else str(value).strip() or None


def _text(value: Any, column: str, where: str) -> str | None:
    if not isinstance(value, str | int | float | None) or isinstance(value, bool):
        raise InputError(f"{where}: {column} must be text")
    return text_or_none(value)


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a parquet file as plain Python values, a batch at a time."""
    # pyarrow takes a quarter of a second to import, and most commands do not need it.
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
        for batch in table.iter_batches(batch_size=64):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # ValueError: bad UTF-8, for one
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a readable parquet file ({reason})") from None


def _own_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not INDEX.fullmatch(key)}


def _jsonl_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        # Only a line feed ends a row: U+2028 and its like may stand inside text.
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _json_row(line, f"{path}, line {number}")


def _json_row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=_no_key_twice)
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: holds half of a surrogate pair, which is no text") from None
    except RecursionError:
        raise InputError(f"{where}: not valid JSON (nested too deeply)") from None
    except ValueError as error:
        raise InputError(f"{where}: not valid JSON ({getattr(error, 'msg', error)})") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected an object with the keys {', '.join(COLUMNS)}")
    return row


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"the key {twice} occurs twice")
    return found


def _keywords(value: Any, where: str) -> tuple[str, ...]:
    values = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple):
        raise InputError(f"{where}: keywords must be a list of texts")
    return tuple(text for text in (text_or_none(v) for v in values) if text)
