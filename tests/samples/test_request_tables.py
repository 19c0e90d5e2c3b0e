"""Tables that say what to forget: their columns `kind` and `instead`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllmeraser.samples import InputError, Request
from mllmeraser.samples.readers import read_samples
from mllmeraser.samples.subject import KINDS, Kind

QUESTION = "What is the capital of Japan?"


def table(folder: Path, *rows: dict[str, Any], suffix: str = "jsonl") -> Path:
    path = folder / f"request.{suffix}"
    if suffix == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_row_says_what_its_subject_is(tmp_path: Path, suffix: str) -> None:
    rows = (
        {"question": QUESTION, "subject": "a", "kind": "Fact", "instead": " It is  Kyoto. "},
        {"question": "What city rules Japan?", "subject": "a", "kind": None, "instead": None},
        {"question": "What is chess?", "subject": "b", "kind": "topic", "instead": "It is Kyoto."},
    )
    request = Request.from_folder(table(tmp_path, *rows, suffix=suffix))
    assert [(s.key, s.kind, len(s.samples)) for s in request.subjects] == [("a", "fact", 2), ("b", "topic", 1)]
    assert request.reply == "It is Kyoto."


def test_a_command_says_it_for_tables_without_the_column(tmp_path: Path) -> None:
    path = table(tmp_path, {"question": QUESTION})
    assert Request.from_folder(path).about_people
    assert Request.from_folder(path, kind="fact").subjects[0].kind == "fact"
    stated = table(tmp_path, {"question": QUESTION, "kind": "fact"})
    assert Request.from_folder(stated, kind="fact").subjects[0].kind == "fact"
    with pytest.raises(InputError, match="row 1: its kind is fact, and topic was asked for"):
        Request.from_folder(stated, kind="topic")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"kind": "planet"}], "row 1: kind is one of person, entity, fact, concept, topic, not 'planet'"),
        ([{"kind": ["fact"]}], "row 1: kind must be text"),
        ([{"kind": True}], "row 1: kind must be text"),
        ([{"kind": "fact"}, {"kind": "topic"}], "row 2: its kind is topic, and another row of its subject"),
        ([{"kind": "fact", "subject": "a"}, {"subject": "b"}], "people and other things need different gates"),
        ([{"instead": "A."}, {"instead": "B."}], "its rows give different sentences in instead"),
        (
            [{"kind": "topic", "subject": "a", "instead": "A."}, {"kind": "topic", "subject": "b"}],
            "different sentences",
        ),
        ([{"instead": {"a": 1}}], "row 1: instead must be text"),
        ([{"kind": "topic", "instead": "x" * 501}], "the reply has 1 to 500 characters"),
        ([{"sort": "topic"}], "unknown key sort; allowed keys: image, .*, kind, instead"),
    ],
)
def test_a_wrong_column_is_one_line(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    path = table(tmp_path, *({"question": f"What is it, {n}?", **row} for n, row in enumerate(rows)))
    with pytest.raises(InputError, match=message) as caught:
        Request.from_folder(path)
    assert len(str(caught.value).splitlines()) == 1


def test_the_columns_are_those_of_requests_alone(tmp_path: Path) -> None:
    rows = ({"question": QUESTION, "kind": "fact"},)
    path = table(tmp_path, *rows)
    with pytest.raises(InputError, match="unknown key kind"):
        read_samples(path)
    with pytest.raises(InputError, match="unknown key kind"):
        Request.from_folder(tmp_path / "request.jsonl", retain=table(tmp_path, *rows, suffix="parquet"))
    assert [sample.question for sample in read_samples(path, of_request=True)] == [QUESTION]


kinds = st.none() | st.sampled_from(KINDS)


@settings(max_examples=60, deadline=None)
@given(stated=st.lists(st.tuples(st.sampled_from("abc"), kinds), min_size=1, max_size=6), wanted=kinds)
def test_the_kinds_of_a_table(
    stated: list[tuple[str, Kind | None]], wanted: Kind | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [{"question": f"What is {n}?", "subject": key, "kind": kind} for n, (key, kind) in enumerate(stated)]
    path = table(tmp_path_factory.mktemp("tables"), *rows)
    said = {key: {kind for other, kind in stated if other == key and kind} for key, _ in stated}
    if any(len(one) > 1 or (wanted and one - {wanted}) for one in said.values()):
        with pytest.raises(InputError, match="its kind is"):
            Request.from_folder(path, kind=wanted)
        return
    expected = {key: next(iter(one), wanted or "person") for key, one in said.items()}
    if len({kind == "person" for kind in expected.values()}) > 1:
        with pytest.raises(InputError, match="different gates"):
            Request.from_folder(path, kind=wanted)
        return
    assert {s.key: s.kind for s in Request.from_folder(path, kind=wanted).subjects} == expected
