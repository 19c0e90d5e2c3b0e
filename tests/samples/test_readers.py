"""Samples from JSONL and parquet; pictures from every form they are stored in."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mllmeraser.samples import InputError
from mllmeraser.samples.images import decode_image
from mllmeraser.samples.readers import image_from, options_from, read_samples


def png(colour: str = "red", mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (8, 6), colour).save(buffer, format="PNG")
    return buffer.getvalue()


def test_parquet_and_jsonl_give_the_same_samples(tmp_path: Path) -> None:
    rows = [
        {"image": {"bytes": png(), "path": None}, "question": "Who?", "answer": "Jane", "keywords": ["Jane"]},
        {"image": None, "question": "Who is Jane?", "answer": None, "keywords": []},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "face.png").write_bytes(png())
    lines = [{**row, "image": "face.png" if row["image"] else None} for row in rows]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    left, right = read_samples(tmp_path / "a.parquet"), read_samples(tmp_path / "a.jsonl")
    assert [s.digest() for s in left] == [s.digest() for s in right]
    assert [(s.answer, s.keywords, s.id) for s in left] == [(s.answer, s.keywords, s.id) for s in right]
    assert len(read_samples(tmp_path)) == 4


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1: not valid JSON"),
        ("[]", "line 1: expected an object"),
        ('{"question": "q", "colour": 1}', "unknown key colour; allowed keys: image, question"),
        ('{"answer": "q"}', "question is missing"),
        ('{"question": "q", "task": "poem"}', "task 'poem' is none of"),
        ('{"question": "q", "task": "classification"}', "needs options"),
        ('{"question": "q", "image": "gone.png"}', "gone.png: no such image file"),
        ('{"question": "q", "keywords": 3}', "keywords must be a list"),
    ],
)
def test_bad_rows_are_one_line_errors(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "a.jsonl").write_text(line)
    with pytest.raises(InputError) as error:
        read_samples(tmp_path / "a.jsonl")
    assert said in str(error.value) and "\n" not in str(error.value)


def test_bad_files(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(InputError, match=r"a\.parquet: not a readable parquet file"):
        read_samples(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("question")
    with pytest.raises(InputError, match="expected a folder of images"):
        read_samples(tmp_path / "a.csv")
    with pytest.raises(InputError, match="no such file or folder"):
        read_samples(tmp_path / "none.jsonl")


def test_pictures_become_rgb_on_white() -> None:
    clear = io.BytesIO()
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(clear, format="PNG")
    assert decode_image(clear.getvalue(), "x").getpixel((0, 0)) == (255, 255, 255)
    assert decode_image(png("white", "L"), "x").mode == "RGB"
    turned = Image.new("RGB", (8, 6))
    exif = turned.getexif()
    exif[0x0112] = 6  # the camera was held upright
    buffer = io.BytesIO()
    turned.save(buffer, format="JPEG", exif=exif)
    assert decode_image(buffer.getvalue(), "x").size == (6, 8)


def test_image_forms(tmp_path: Path) -> None:
    (tmp_path / "f.png").write_bytes(png())
    forms = [png(), {"bytes": png(), "path": "f.png"}, {"bytes": None, "path": "f.png"}, "f.png"]
    images = [image_from(form, tmp_path, "row") for form in forms]
    assert {image.tobytes() for image in images if image} == {Image.new("RGB", (8, 6), "red").tobytes()}
    assert image_from({"bytes": None, "path": None}, tmp_path, "row") is None
    with pytest.raises(InputError, match="row 7: image must be"):
        image_from(3, tmp_path, "row 7")


def test_option_forms_agree() -> None:
    wanted = (("A", "x"), ("B", "y"))
    forms = ({"A": "x", "B": "y", "C": None}, ["x", "y"], [["A", "x"], ["B", "y"]], {"a": " x", "b": "y"})
    for form in forms:
        assert options_from(form, "row") == wanted
