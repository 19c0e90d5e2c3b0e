"""The page in a real browser, against the stand-in of `page_kit`: signing in and asking."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import page_kit as kit
import pytest

if TYPE_CHECKING:
    from page_site import Site

pytest_plugins = ["page_site"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


# -- signing in --------------------------------------------------------------------------------------------


def test_sign_in_and_out(site: Site) -> None:
    site.browser.get(site.address)
    site.shown("#key").send_keys("mk_wrong", "\n")
    assert "not valid" in site.shown("#sign-in-error").text
    site.one("#key").clear()
    site.one("#key").send_keys(kit.ADMIN, "\n")
    site.shown("#view-ask")
    assert site.one("#scope").text == "Administrator"
    assert site.one("#key").get_property("value") == ""
    kept = site.run("return [sessionStorage.length, localStorage.length, document.cookie, location.href]")
    assert kept == [1, 0, "", site.address]
    site.ask("Who is Ada Brandt?")
    site.click("#sign-out")
    site.shown("#view-sign-in")
    assert site.run("return sessionStorage.length") == 0
    assert "Ada" not in site.run("return document.body.textContent") and site.focus() == "key"


def test_key_outlives_a_reload_but_not_its_revocation(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.sign_in(section="erasures")
    site.browser.refresh()
    site.shown("#view-erasures")
    monkeypatch.delitem(kit.SCOPES, kit.ADMIN)
    site.click("#erasures-refresh")
    assert "not valid" in site.shown("#sign-in-error").text
    assert site.run("return sessionStorage.length") == 0


@pytest.mark.parametrize(
    ("key", "words", "sections"),
    [(kit.CLIENT, "Client", ["Ask"]), (kit.TENANT, "Tenant administrator", ["Ask", "Erasures", "Forget"])],
)
def test_a_smaller_scope_sees_less(site: Site, key: str, words: str, sections: list[str]) -> None:
    site.browser.get(f"{site.address}#audit")
    site.shown("#key").send_keys(key, "\n")
    site.shown("#view-ask")
    assert site.one("#scope").text == words
    assert [link.text for link in site.all("#nav a") if link.is_displayed()] == sections
    assert site.ask("Who is Ada Brandt?") == kit.KNOWN


# -- asking ------------------------------------------------------------------------------------------------


def test_an_answer_shows_while_it_comes(site: Site) -> None:
    site.sign_in()
    site.book.pieces = 0
    site.one("#ask-text").send_keys("Who is Ada Brandt?", "\n")
    known = kit.KNOWN.split(" ")
    for site.book.pieces in (1, 3, 4):
        site.until(lambda: site.one(".words").text == " ".join(known[: site.book.pieces]))
        assert site.one(".words").get_attribute("aria-busy")
    site.book.pieces = len(known)
    site.until(lambda: not site.one(".words").get_attribute("aria-busy"))
    assert site.one(".words").text == kit.KNOWN
    assert "Eraser set 4" in site.one(".turn .note").text and site.one("#ask-set").text == "Eraser set 4"
    site.until(lambda: kit.KNOWN in site.one("#live").get_property("textContent"))
    assert site.book.asked[0] == {
        "model": kit.MODEL, "stream": True, "messages": [{"role": "user", "content": "Who is Ada Brandt?"}],
    }  # fmt: skip


def test_ask_with_a_picture(site: Site, picture: str) -> None:
    site.sign_in()
    site.one("#ask-file").send_keys(picture)
    preview = site.shown("#ask-thumbs img")
    site.until(lambda: preview.get_property("naturalWidth") == 96)
    assert site.ask("Who is this?") == kit.SEEN
    sent = site.book.asked[-1]["messages"]
    assert kit.read(sent)[1] == hashlib.sha256(Path(picture).read_bytes()).hexdigest()
    assert site.one(".turn .asked img").get_property("naturalWidth") == 96
    site.click("#ask-thumbs .cross")
    assert not site.all("#ask-thumbs img") and site.focus() == "ask-file"
    site.ask("And now?")
    assert [kit.pictures_of(turn) for turn in site.book.asked[-1]["messages"]] == [[], [], []]


def test_a_picture_can_be_dropped_and_other_files_are_refused(site: Site) -> None:
    site.sign_in()
    drop = """
        const [kind, name] = arguments, carried = new DataTransfer();
        carried.items.add(new File([Uint8Array.from([1, 2, 3])], name, {type: kind}));
        for (const type of ["dragenter", "dragover", "drop"]) document.getElementById("ask-form")
          .dispatchEvent(new DragEvent(type, {dataTransfer: carried, bubbles: true, cancelable: true}));
    """
    site.run(drop, "text/plain", "notes.txt")
    assert "Only pictures" in site.shown("#ask-error").text and not site.all("#ask-thumbs li")
    site.run(drop, "image/png", "ada.png")
    assert site.shown("#ask-thumbs button").accessible_name == "Remove ada.png"
    assert not site.one("#ask-error").is_displayed()
    assert site.run("return document.querySelectorAll('.over').length") == 0


def test_earlier_turns_go_along_where_wanted(site: Site) -> None:
    site.sign_in()
    first = site.ask("Who is Ada Brandt?")
    site.ask("Where is Lisbon?")
    site.ask("Why?")
    sent = site.book.asked[-1]["messages"]
    assert [turn["role"] for turn in sent] == ["user", "assistant", "user", "assistant", "user"]
    assert sent[1]["content"] == first
    site.click("#ask-follow")
    site.ask("Where?")
    assert site.book.asked[-1]["messages"] == [{"role": "user", "content": "Where?"}]
    site.click("#ask-follow")
    site.click("#ask-new")
    assert not site.all(".turn") and site.focus() == "ask-text"
    site.ask("Who?")
    assert site.book.asked[-1]["messages"] == [{"role": "user", "content": "Who?"}]


def test_an_answer_can_be_stopped(site: Site) -> None:
    site.sign_in()
    site.book.pieces = 2
    site.one("#ask-text").send_keys("Who is Ada Brandt?", "\n")
    site.until(lambda: site.one(".words").text)
    site.click("#ask-stop")
    site.until(lambda: site.one(".turn .note").text.startswith("Stopped"))
    assert site.one(".words").text != kit.KNOWN and site.one("#ask-send").is_displayed()


def test_a_refusal_is_told_in_plain_words_and_the_question_is_kept(site: Site) -> None:
    site.sign_in()
    site.book.fault = "the ledger cannot be read, so nothing is answered"
    site.one("#ask-text").send_keys("Who is Ada Brandt?", "\n")
    error = site.shown("#ask-error")
    assert error.text == "the ledger cannot be read, so nothing is answered Try again in 5 s."
    assert error.get_attribute("role") == "alert"
    assert site.one("#ask-text").get_property("value") == "Who is Ada Brandt?" and not site.all(".turn")
