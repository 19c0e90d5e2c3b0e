"""One way for a picture to come in: every entrance shows the same pixels, and nothing else converts pictures."""

from __future__ import annotations

import ast
import base64
import json
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from odd_pictures import ODD, SIZE, UPRIGHT, encoded, suffix, turned
from PIL import Image

import mllmeraser
from mllmeraser.benchmarks.fields import pictures
from mllmeraser.samples.conversation import question
from mllmeraser.samples.errors import InputError, InputWarning
from mllmeraser.samples.images import PictureLimits, as_rgb, decode_image, open_image, pixel_digest
from mllmeraser.samples.readers import read_samples
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample
from mllmeraser.serving.http.erasures import erasure_request
from mllmeraser.serving.http.pictures import from_url
from mllmeraser.serving.http.settings import ServeSettings
from mllmeraser.serving.packing import pack_request, unpack_request

SETTINGS = ServeSettings(model_name="x")
SOURCE = Path(mllmeraser.__file__).parent
DOORS = {"samples/images.py"}
"""Where pictures may be opened and converted."""


def seen(image: Image.Image | None) -> str:
    assert image is not None and image.mode == "RGB"
    return pixel_digest(image)


def through_every_entrance(data: bytes, folder: Path) -> dict[str, str]:
    name = f"1.{suffix(data)}"
    (folder / "jane").mkdir()
    (folder / "jane" / name).write_bytes(data)
    (folder / "rows.jsonl").write_text(json.dumps({"question": "Who?", "image": f"jane/{name}"}))
    pq.write_table(pa.Table.from_pylist([{"question": "Who?", "image": {"bytes": data, "path": None}}]),
                   folder / "rows.parquet")  # fmt: skip
    server: Any = SimpleNamespace(settings=SETTINGS)
    uploaded = erasure_request(server, "jane", [], [], [data])
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    with Image.open(folder / "jane" / name) as opened:
        opened.load()
        given = opened.copy()
        given.info = dict(opened.info)
    return {
        "file": seen(open_image(folder / "jane" / name)),
        "folder": seen(Request.from_folder(folder / "jane").forget[0].image),
        "jsonl": seen(read_samples(folder / "rows.jsonl")[0].image),
        "parquet": seen(read_samples(folder / "rows.parquet")[0].image),
        "benchmark": seen(pictures({"image": {"bytes": data, "path": None}}, "row")[0]),
        "data URL": seen(from_url(url, SETTINGS)),
        "upload": seen(uploaded.forget[0].image),
        "packed": seen(unpack_request(pack_request(uploaded)).forget[0].image),
        "sample": seen(Sample("Who?", given).image),
        "conversation": seen(question("Who?", given).images[0]),
    }


@pytest.mark.parametrize("kind", ODD)
def test_every_entrance_shows_the_same_pixels(kind: str, tmp_path: Path) -> None:
    data, expected = ODD[kind]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        found = through_every_entrance(data, tmp_path)
    assert found == dict.fromkeys(found, pixel_digest(expected))


@pytest.mark.parametrize("kind", ["animated gif", "animated png", "pages of a tiff"])
def test_of_several_frames_the_first_is_used_and_that_is_said(kind: str) -> None:
    data, _ = ODD[kind]()
    with pytest.warns(InputWarning, match="jane.gif: has 2 frames, the first is used"):
        decode_image(data, "jane.gif")
    told: list[str] = []
    decode_image(data, "a picture", say=told.append)
    server: Any = SimpleNamespace(settings=SETTINGS)
    erasure_request(server, "jane", [], [], [data], say=told.append)
    assert told == ["a picture: has 2 frames, the first is used"] * 2


def test_a_picture_that_is_so_already_is_not_copied() -> None:
    assert as_rgb(UPRIGHT) is UPRIGHT and Sample("Who?", UPRIGHT).image is UPRIGHT


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "zero bytes"),
        (b"hello", "unknown format; give PNG, JPEG"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC is not read; give PNG"),
        (turned(1)[:60], "unreadable image"),
        (encoded(Image.new("F", SIZE, 0.5), "TIFF"), "no 8-bit or 16-bit numbers"),
        (encoded(Image.new("I", SIZE, 70_000), "TIFF"), "no 8-bit or 16-bit numbers"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unknown format"),
    ],
)
def test_what_is_no_picture_is_one_line(data: bytes, said: str) -> None:
    with pytest.raises(InputError) as error:
        decode_image(data, "face.png")
    assert said in str(error.value) and "\n" not in str(error.value) and "face.png" in str(error.value)


def test_limits_hold_before_anything_is_decoded() -> None:
    large = encoded(Image.new("1", (5000, 5000)), "PNG")
    with pytest.raises(InputError, match="5000 x 5000 is more than 1000 pixels"):
        decode_image(large, "face.png", PictureLimits(pixels=1000))
    with pytest.raises(InputError, match="may have 10 bytes"):
        decode_image(large, "face.png", PictureLimits(bytes=10))


def test_a_picture_without_pixels_is_refused() -> None:
    with pytest.raises(InputError, match="no pixels"):
        Sample("Who?", Image.new("RGB", (0, 4)))


def test_nothing_else_opens_or_converts_pictures() -> None:
    words = re.compile(r"exif_transpose|Image\.open|\.convert\(|alpha_composite|imread|PIL\.ImageOps")
    found = {}
    for path in SOURCE.rglob("*.py"):
        code = ast.unparse(ast.parse(path.read_text(encoding="utf-8")))
        if path.relative_to(SOURCE).as_posix() not in DOORS and (hits := words.findall(code)):
            found[path.relative_to(SOURCE).as_posix()] = hits
    assert not found
