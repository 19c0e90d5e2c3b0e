"""Nothing of a request is dropped without a word: every entry, key and row is used, refused, or named in one line."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mllmeraser.samples.errors import InputError, InputWarning
from mllmeraser.samples.readers import read_samples
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.subject import Subject


def picture(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), colour).save(path, format="JPEG" if path.suffix in (".jfif", ".jpe") else "PNG")
    return path


def read(folder: Path) -> tuple[Request, list[str]]:
    """A request, and what was said to be left out."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        request = Request.from_folder(folder)
    return request, [str(one.message) for one in caught if issubclass(one.category, InputWarning)]


def beside_a_sub_folder(folder: Path) -> None:
    picture(folder / "jane" / "more" / "2.png")


def beside_a_table(folder: Path) -> None:
    (folder / "log.jsonl").write_text('{"question": "Who is Jane?"}')


def beside_a_second_card(folder: Path) -> None:
    for name in ("request.yaml", "Request.YML"):
        (folder / name).write_text("name: Jane Doe\n")


def beside_a_broken_link(folder: Path) -> None:
    os.symlink(folder / "nowhere.png", folder / "2.png")


def beside_a_link_to_no_card(folder: Path) -> None:
    os.symlink(folder / "nowhere", folder / "request.yaml")


def with_a_key_twice(folder: Path) -> None:
    (folder / "request.yaml").write_text("name: Jane Doe\nname: Omar Haddad\n")


def with_an_impossible_date(folder: Path) -> None:
    (folder / "request.yaml").write_text("name: 2023-02-30\n")


def with_bad_utf8(folder: Path) -> None:
    (folder / "request.yaml").write_bytes(b"name: Jos\xe9\n")


def with_deep_yaml(folder: Path) -> None:
    (folder / "request.yaml").write_text("name: " + "[" * 5000)


def with_an_empty_picture(folder: Path) -> None:
    (folder / "2.png").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (beside_a_sub_folder, "mixes folders with pictures"),
        (beside_a_table, "log.jsonl and 1.png"),
        (beside_a_second_card, "Request.YML and request.yaml: keep one"),
        (beside_a_broken_link, "2.png: is a broken link"),
        (beside_a_link_to_no_card, "request.yaml: is a broken link"),
        (with_a_key_twice, "line 2: not valid YAML (the key name occurs twice)"),
        (with_an_impossible_date, "request.yaml: a name has at least one letter"),
        (with_bad_utf8, "cannot be read"),
        (with_deep_yaml, "not valid YAML"),
        (with_an_empty_picture, "zero bytes"),
    ],
)
def test_what_is_ambiguous_or_broken_is_one_line(spoil: Callable[[Path], None], said: str, tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    spoil(tmp_path)
    with pytest.raises(InputError) as error:
        read(tmp_path)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_folder_inside_a_persons_folder_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "jane" / "1.png")
    picture(tmp_path / "jane" / "more" / "2.png")
    with pytest.raises(InputError, match="jane/more: what does it do"):
        read(tmp_path)


def test_a_table_inside_a_persons_folder_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "jane" / "1.png")
    (tmp_path / "jane" / "log.jsonl").write_text("{}")
    picture(tmp_path / "omar" / "1.png")
    with pytest.raises(InputError, match=r"log.jsonl: what does it do"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["request.yaml", "request.yml", "Request.yaml", "REQUEST.YML"])
def test_a_card_is_read_in_any_case(name: str, tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    (tmp_path / name).write_text("name: Jane Doe\n")
    assert read(tmp_path)[0].subjects[0].names == ("Jane Doe",)


@pytest.mark.parametrize("written", ["Null", "No", "True", "007 Bond", "12e3", "~ Ann", "2023-02-30 Kim"])
def test_a_name_is_the_text_as_written(written: str, tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    (tmp_path / "request.yaml").write_text(f"name: {written}\nother_names: [{written} X]\nexact_names: TRUE\n")
    (subject,) = read(tmp_path)[0].subjects
    assert subject.names == (written, f"{written} X") and subject.exact_names


def test_other_suffixes_of_pictures_are_read_and_other_files_are_named(tmp_path: Path) -> None:
    for name in ("1.png", "2.jfif", "3.JPE"):
        picture(tmp_path / "jane" / name)
    for name in ("notes.txt", ".secret.png", ".DS_Store", "._1.png", "Thumbs.db"):
        (tmp_path / "jane" / name).write_bytes(b"x")
    (tmp_path / "README.md").write_text("hello")
    request, said = read(tmp_path)
    assert [sample.id for sample in request.forget] == ["jane/1.png/0", "jane/2.jfif/0", "jane/3.JPE/0"]
    assert said == [f"{tmp_path}: left out: README.md", f"{tmp_path / 'jane'}: left out: .secret.png, notes.txt"]


def test_pictures_of_a_table_are_those_that_its_rows_name(tmp_path: Path) -> None:
    picture(tmp_path / "pictures" / "1.png")
    picture(tmp_path / "pictures" / "2.png")
    (tmp_path / "Rows.JSONL").write_text('{"question": "Who?", "image": "pictures/1.png"}')
    request, said = read(tmp_path)
    assert len(request.forget) == 1 and said == [f"{tmp_path / 'pictures'}: left out: 2.png"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"question": "x", "image": "a\\u0000.png"}', "cannot read the image file"),
        ('{"question": ' + "[" * 100_000, "nested too deeply"),
        ('{"question": "\\ud800"}', "half of a surrogate pair"),
        ('{"question": "x", "question": "y"}', "the key question occurs twice"),
        ('{"question": "x", "answer": {"a": 1}}', "answer must be text"),
        ('{"question": "x", "subject": true}', "subject must be text"),
        ('{"question": "x", "image": ""}', "image must be a path"),
        ('{"question": ' + "1" * 5000 + "}", "not valid JSON"),
        ("", "holds no rows"),
    ],
)
def test_every_fault_of_a_row_is_one_line(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(line)
    with pytest.raises(InputError) as error:
        read_samples(tmp_path / "rows.jsonl")
    assert said in str(error.value) and len(str(error.value).splitlines()) == 1


def test_marks_of_windows_and_of_typesetters_are_read(tmp_path: Path) -> None:
    rows = [{"question": "Where does\u2028Jane live?"}, {"question": "Who is Jane?\x85"}]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [sample.question for sample in read_samples(tmp_path / "rows.jsonl")] == [row["question"] for row in rows]


def test_a_parquet_of_any_spelling_is_read_and_an_empty_picture_in_it_refused(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"question": "Who?"}]), tmp_path / "A.PARQUET")
    assert len(read_samples(tmp_path / "A.PARQUET")) == 1
    rows = [{"question": "Who?", "image": {"bytes": b"", "path": None}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet")
    with pytest.raises(InputError, match="row 1: an image of zero bytes"):
        read_samples(tmp_path / "b.parquet")


def test_bad_text_in_a_parquet_is_one_line(tmp_path: Path) -> None:
    column = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    pq.write_table(pa.table({"question": column}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="not a readable parquet file"):
        read_samples(tmp_path / "a.parquet")


def test_names_compare_by_words_in_one_form(tmp_path: Path) -> None:
    decomposed = "Jose\u0301 Nu\u0301n\u0303ez"
    picture(tmp_path / "1.png")
    (tmp_path / "request.yaml").write_text(f"name: José Núñez\nquestions: ['Where does {decomposed} live?', 'Old?']\n")
    asked = [sample.question for sample in read(tmp_path)[0].forget if sample.image is None]
    assert asked == ["Who is José Núñez?", f"Where does {decomposed} live?"]
    (tmp_path / "request.yaml").write_text("name: Al\nquestions: ['What is also true?']\n")
    assert [s.question for s in read(tmp_path)[0].forget if s.image is None] == ["Who is Al?"]


def test_a_name_is_kept_in_one_form() -> None:
    names = ("  Jose\u0301\u00a0Nu\u0301n\u0303ez ", "José\u200b Núñez", "José Núñez")
    assert Subject("a", names, (Sample("Who?"),)).names == ("José Núñez",)
    with pytest.raises(InputError, match="at least one letter"):
        Subject("a", ("--",))
