"""Files as hostile people and broken programs write them, for the readers of requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from odd_pictures import ODD, suffix

from mllmeraser.samples.images import decode_image
from mllmeraser.samples.readers import COLUMNS, read_samples
from mllmeraser.samples.request import Request

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.binary(max_size=6)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
KEYS = ("name", "other_names", "questions", "attributes", "exact_names", "reply")
rows = st.dictionaries(st.sampled_from(COLUMNS) | st.text(max_size=5), plain, max_size=5) | st.fixed_dictionaries(
    {"question": st.text(min_size=1, max_size=12)},
    optional={
        name: st.none() | st.text(max_size=8) for name in COLUMNS if name not in ("image", "question", "options")
    },
)


def spoilt(data: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with some replaced, dropped or put in."""

    def apply(edits: list[tuple[int, int, bytes]]) -> bytes:
        found = bytearray(data)
        for at, size, more in edits:
            found[at % (len(found) + 1) : at % (len(found) + 1) + size] = more
        return bytes(found)

    edit = st.tuples(st.integers(0, len(data)), st.integers(0, 8), st.binary(max_size=8))
    return st.lists(edit, max_size=4).map(apply)


def line_of(row: object) -> bytes:
    return json.dumps(row).encode()


jsonl = (
    st.lists(rows.map(line_of) | st.binary(max_size=30), max_size=4).map(b"\n".join)
    | rows.map(line_of).flatmap(spoilt)
)  # fmt: skip
CARD = b'name: Jane Doe\nother_names:\n  - \'J. D.\'\nquestions: ["Where is she?"]\nexact_names: false\nreply: "No."\n'
card = (
    spoilt(CARD)
    | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), plain, max_size=4).map(line_of)
    | st.text(st.sampled_from(list("-:[]{}#&*!|>'\"%@`?, \nab1~\t<\0\ufeff\ud800")), max_size=40).map(
        lambda text: text.encode(errors="surrogatepass")
    )
    | st.binary(max_size=40)
)  # fmt: skip
picture = st.sampled_from([make()[0] for make in ODD.values()]).flatmap(spoilt) | st.binary(max_size=40)


def _parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([{"question": "Who?", "answer": "Jane", "keywords": ["a", "b"]}] * 3), sink)
    return sink.getvalue().to_pybytes()


parquet = spoilt(_parquet()) | st.binary(max_size=40)


def _as_file(name: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, data: bytes) -> object:
        (folder / name).write_bytes(data)
        return read_samples(folder / name)

    return read


def _as_card(folder: Path, data: bytes) -> object:
    (folder / "request.yaml").write_bytes(data)
    return Request.from_folder(folder)


def _as_picture(_: Path, data: bytes) -> object:
    return decode_image(data, f"1.{suffix(data)}")


READERS: dict[str, tuple[st.SearchStrategy[bytes], Callable[[Path, bytes], object]]] = {
    "jsonl": (jsonl, _as_file("a.jsonl")),
    "parquet": (parquet, _as_file("a.parquet")),
    "card": (card, _as_card),
    "picture": (picture, _as_picture),
}
