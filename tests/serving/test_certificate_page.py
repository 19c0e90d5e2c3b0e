from __future__ import annotations

import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from verify_kit import NAME, one_person, verified

from html_kit import Page
from mllmeraser.samples import InputError
from mllmeraser.serving.packing import request_digests
from mllmeraser.serving.verify import Thresholds, certificate, render_certificate, sign
from mllmeraser.serving.verify.checks import DETACHED
from mllmeraser.serving.verify.sheet import TITLES

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def page(*, passed: bool = True, issuer: str = "Example Ltd") -> str:
    digests = request_digests(one_person(), "salt")
    content = certificate(verified(passed=passed), erasure_id="a" * 32, request_digests=digests, issuer=issuer)
    return render_certificate(sign(content, KEY))


def test_it_is_whole_and_fetches_nothing() -> None:
    text = page()
    read = Page(text)
    assert read.open == []
    for tag, attrs in read.tags:
        for name in ("src", "href", "action"):
            assert (attrs.get(name) or "data:").startswith(("data:", "#")), tag
    assert "<script" not in text and not re.search(r"url\(|@import|https?://", text)


def test_it_is_accessible() -> None:
    read = Page(page())
    tags = [tag for tag, _ in read.tags]
    assert tags.count("table") == tags.count("caption") == 4 and tags.count("h1") == 1
    assert all("scope" in attrs for tag, attrs in read.tags if tag == "th")
    ids = {attrs["id"] for _, attrs in read.tags if "id" in attrs}
    assert {attrs["aria-labelledby"] for _, attrs in read.tags if "aria-labelledby" in attrs} <= ids
    assert dict(read.tags)["html"] == {"lang": "en"}
    text = page()
    assert "prefers-color-scheme: dark" in text and "@media print" in text


def test_it_says_what_was_measured() -> None:
    text = page()
    assert "Passed: every check" in text and "100.0 %" in text and "20.0 % to 100.0 %" in text
    assert "at most 2.0 %" in text and "at least 95.0 %" in text
    assert "What is not promised" in text and "The weights still hold" in text
    failed = page(passed=False)
    assert "Not passed" in failed and "Nothing: this eraser missed" in failed and "25.0 %" in failed


def test_it_holds_no_names() -> None:
    text = page()
    for word in (NAME, *NAME.split(), "Who is this"):
        assert word not in text


def test_its_content_is_escaped() -> None:
    assert "<b>Ltd" not in page(issuer="<b>Ltd</b>") and "&lt;b&gt;Ltd" in page(issuer="<b>Ltd</b>")


def test_every_check_has_a_title() -> None:
    assert set(TITLES) == {*Thresholds.model_fields, DETACHED}


@pytest.mark.parametrize(
    ("digests", "words"),
    [({"kind_fact": "1"}, "1 single fact"), ({"kind_entity": "2", "kind_topic": "1"}, "2 things, 1 topic"),
     (request_digests(one_person(), "salt"), "1 person")],
)  # fmt: skip
def test_it_names_what_it_is_about(digests: dict[str, str], words: str) -> None:
    content = certificate(verified(), erasure_id="a" * 32, request_digests=digests)
    text = render_certificate(sign(content, KEY))
    assert words in text and "Kind " not in text and "About" in text
    assert ("one fixed sentence" in text) == ("asked about by their names" in text) == ("person" not in words)


def test_one_from_before_there_were_kinds_is_shown_without() -> None:
    content = certificate(verified(), erasure_id="a" * 32, request_digests={"subjects": "1"})
    assert "About" not in render_certificate(sign(content, KEY))


def test_something_else_is_refused() -> None:
    for other in ({}, {"measured": None}, {"type": "x", "erasure": {"id": "a"}}):
        with pytest.raises(InputError, match="no signed certificate"):
            render_certificate(other)
