"""The page in a real browser, against the stand-in of `page_kit`: the ledger, comparisons, the audit."""

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


# -- the life of an erasure ----------------------------------------------------------------------------------


def test_from_the_request_to_the_revocation(site: Site, picture: str) -> None:
    site.sign_in()
    site.one("#ask-file").send_keys(picture)
    assert site.ask("Who is this?") == kit.SEEN
    site.go("forget")
    site.one("#forget-name").send_keys("case-7")
    site.one("#forget-people").send_keys("Ada Brandt\nA. Brandt\n")
    site.one("#forget-file").send_keys(picture)
    assert len(site.all("#forget-thumbs li")) == 1
    site.click("#forget-send")

    bar = site.shown("#forget-entry progress")
    site.until(lambda: 0 < float(bar.get_property("value")) < float(bar.get_property("max")))
    assert " of " in site.one("#forget-entry .stage").text and bar.accessible_name == "Progress of case-7"
    site.until(lambda: "fit" in site.one("#live").get_property("textContent"))
    site.state("#forget-entry", "verified")
    assert len(site.all("#forget-entry .scores tbody tr")) == 7
    (entry,) = site.book.entries.values()
    assert site.book.subjects[entry["id"]] == {
        kit.PERSON,
        "A. Brandt",
        digest(picture),
    }
    assert entry["default"] is True and entry["tenant"] is None

    site.click('#forget-entry [data-verb="activate"]')
    site.confirm()
    site.state("#forget-entry", "active")
    assert "Eraser set 5 is in force" in site.one("#forget-entry .notice.good").text
    assert site.run("return document.activeElement.closest('#forget-entry h2') !== null")

    site.go("ask")
    assert site.ask("Who is this?") == site.ask("Who is Ada Brandt?") == kit.UNKNOWN
    assert site.one("#ask-set").text == "Eraser set 5"
    site.open("case-7")
    site.click('#entry [data-verb="suspend"]')
    site.confirm("asked for by the client")
    site.state("#entry", "suspended")
    site.go("ask")
    assert site.ask("Who is this?") == kit.SEEN
    site.open("case-7")
    site.click('#entry [data-verb="revoke"]')
    site.confirm("withdrawn")
    site.state("#entry", "revoked")
    assert not site.all("#entry [data-verb]") and site.one("#ledger-rows .state").text == "revoked"
    site.click("#entry summary")
    history = site.one("#entry .history").text
    assert "reason: withdrawn" in history and "reason: asked for by the client" in history


def test_a_request_needs_a_label_and_somebody(site: Site) -> None:
    kit.active(site.book, "case-1")
    site.sign_in(section="forget")
    site.one("#forget-name").send_keys("Ada Brandt")
    site.click("#forget-send")
    assert "lowercase letters" in site.shown("#forget-error").text and site.focus() == "forget-name"
    assert site.one("#forget-name").get_attribute("aria-invalid") == "true"
    site.one("#forget-name").clear()
    site.one("#forget-name").send_keys("case-1")
    site.click("#forget-send")
    assert "a name, a picture, or both" in site.shown("#forget-error").text
    site.one("#forget-people").send_keys("Jo Lind")
    site.click("#forget-send")
    site.until(lambda: "is taken" in site.one("#forget-error").text)
    assert site.one("#forget-people").get_property("value") == "Jo Lind" and len(site.book.entries) == 1


def test_optional_fields_reach_the_service(site: Site) -> None:
    site.sign_in(section="forget")
    site.one("#forget-name").send_keys("case-8")
    site.one("#forget-people").send_keys("Jo Lind")
    site.click("#view-forget summary")
    site.shown("#forget-tenant").send_keys("acme")
    site.one("#forget-reply").send_keys("Ask elsewhere. ")
    site.click("#forget-exact")
    site.click("#forget-named")
    site.run("document.getElementById('forget-expires').value = '2031-05-06T07:08'")
    site.click("#forget-send")
    site.shown("#forget-entry h2")
    (entry,) = site.book.entries.values()
    assert (entry["tenant"], entry["default"]) == ("acme", False)
    assert (entry["reply"], entry["exact_names"]) == ("Ask elsewhere.", "true")
    assert entry["expires_at"] == site.run("return new Date('2031-05-06T07:08').toISOString()")
    assert "only model@case-8 of acme" in site.one("#forget-entry .facts").text


def test_a_fact_is_requested_with_what_to_say_instead(site: Site) -> None:
    from selenium.webdriver.support.ui import Select

    site.sign_in(section="forget")
    assert site.one("#forget-title").text == "Forget this person" and not site.one("#forget-reply").is_displayed()
    Select(site.one("#forget-kind")).select_by_value("fact")
    assert site.one("#forget-title").text == site.one("#forget-send").text == "Forget this"
    assert "What is the capital of Japan?" in site.one("#forget-questions-hint").text
    site.one("#forget-name").send_keys("fact-1")
    site.one("#forget-people").send_keys("Japan")
    site.click("#forget-send")
    assert "at least one question" in site.shown("#forget-error").text
    site.shown("#forget-questions").send_keys("What is the capital of Japan?")
    site.shown("#forget-reply").send_keys("The capital of Japan is Kyoto.")
    site.click("#forget-send")
    site.shown("#forget-entry h2")
    (entry,) = site.book.entries.values()
    assert (entry["kinds"], entry["instead"]) == (["fact"], "The capital of Japan is Kyoto.")
    assert "exact_names" not in entry and "reply" not in entry
    assert "single fact" in site.one("#forget-entry .facts").text
    site.go("erasures")
    site.until(lambda: "single fact" in site.one("#ledger-rows").text)
    site.go("forget")
    assert site.one("#forget-title").text == "Forget this person", "the next request begins with a person"


def test_a_failed_fit_and_a_weak_candidate(site: Site) -> None:
    site.book.add("broken-1", "office", {"X"})
    site.book.finish(site.book.add("weak-1", "office", {kit.PERSON}))
    kit.active(site.book, "case-1")
    site.sign_in(section="erasures")
    site.open("broken-1")
    site.until(lambda: "no face was found" in site.one("#entry").text)
    assert site.one("#entry h2 .state").text == "requested, failed"
    site.open("weak-1")
    site.until(lambda: site.one("#entry h2 .state").text == "checks failed")
    assert site.one("#entry .steps .failed").text == "checks failed"
    assert "the same subject is in case-1 (active)" in site.one("#entry .conflicts").text
    site.click('#entry [data-verb="force"]')
    site.click("#confirm-yes")
    assert site.one("#confirm").is_displayed() and site.focus() == "confirm-reason"
    site.confirm("the court says so")
    site.state("#entry", "active")
    assert site.book.events[-1]["details"] == {"force": "the court says so"}


def test_a_forced_activation_with_a_later_start_is_shown(site: Site) -> None:
    entry = site.book.finish(site.book.add("weak-1", "office", {kit.PERSON}, starts_at="2099-01-01T00:00:00+00:00"))
    site.sign_in(section="erasures")
    site.open("weak-1")
    site.click('#entry [data-verb="force"]')
    site.confirm("the court says so")
    site.state("#entry", "checks failed, scheduled")
    assert site.one("#entry .notice.good").text == "weak-1 is scheduled to start." and entry["pending"]
    site.until(lambda: site.one("#ledger-rows .state").text == "checks failed, scheduled")
    assert [one.text for one in site.all("#entry [data-verb]")] == ["Schedule", "Revoke"]
    site.click('#entry [data-verb="schedule"]')
    site.run("document.getElementById('confirm-starts').value = ''")
    site.confirm()
    site.state("#entry", "checks failed")
    assert "force" in [one.get_attribute("data-verb") for one in site.all("#entry [data-verb]")]


def test_a_refused_change_is_told_in_the_dialog(site: Site) -> None:
    entry = kit.active(site.book, "case-1")
    site.sign_in(section="erasures")
    site.open("case-1")
    site.click('#entry [data-verb="suspend"]')
    site.shown("#confirm-reason").send_keys("two lines,\nmade one")
    site.book.fault = "recorded, but not in force on this server: the ledger is away"
    site.click("#confirm-yes")
    site.until(lambda: site.one("#confirm-error").text.startswith("recorded, but not in force"))
    assert site.one("#confirm").is_displayed()
    site.state("#entry", "suspended")
    site.click("#confirm-cancel")
    assert site.book.events[-1]["details"] == {"reason": "two lines, made one"} and entry["state"] == "suspended"


def test_schedule_and_certificate(site: Site) -> None:
    entry = site.book.finish(site.book.add("case-1", "office", {kit.PERSON}))
    site.sign_in(section="erasures")
    site.open("case-1")
    site.click('#entry [data-verb="schedule"]')
    site.shown("#confirm-expires")
    site.run("document.getElementById('confirm-expires').value = '2031-05-06T07:08'")
    site.confirm()
    site.until(lambda: entry["expires_at"] is not None and "2031" in site.one("#entry .facts").text)
    assert entry["starts_at"] is None
    caught = "window.saved = []; HTMLAnchorElement.prototype.click = function () { saved.push(this.download) }"
    site.run(caught)
    for kind in ("html", "pdf", "json"):
        site.click(f'#entry [data-certificate="{kind}"]')
    site.until(lambda: len(site.run("return saved")) == 3)
    assert sorted(site.run("return saved")) == [f"case-1.certificate.{kind}" for kind in ("html", "json", "pdf")]


def test_ledger_filters_and_counts(site: Site) -> None:
    kit.active(site.book, "case-1")
    site.book.finish(site.book.add("case-2", "office", {"Jo Lind"}))
    site.sign_in(section="erasures")
    site.until(lambda: len(site.all("#ledger-rows tr")) == 2)
    assert site.one("#erasures-count").text == "2 erasures, 1 active"
    site.one("#erasures-filter").send_keys("active")
    site.until(lambda: [row.text for row in site.all("#ledger-rows a")] == ["case-1"])


# -- compare and audit ---------------------------------------------------------------------------------------


def test_before_and_after_with_the_gates(site: Site) -> None:
    kit.active(site.book, "case-1")
    kit.active(site.book, "case-2", {"Jo Lind"})
    site.sign_in(section="compare")
    site.one("#compare-text").send_keys("Who is Ada Brandt?")
    site.click("#compare-send")
    site.shown("#compare-result")
    assert [side.text for side in site.all(".side .words")] == [kit.KNOWN, kit.UNKNOWN]
    assert [figure.find_element("css selector", ".state").text for figure in site.all(".gate")] == [
        "acts",
        "does not act",
    ]
    assert [len(site.all(f".gate:nth-child({n}) .bars rect")) for n in (1, 2)] == [16, 16]
    assert "amplitude 1," in site.all(".gate figcaption")[0].text
    words = site.one(".gate .bars").accessible_name
    assert words.startswith("Gate of case-1 by layer: 16 of 16 layers above the threshold 0;")
    heights = [bar.rect["height"] for bar in site.all(".gate:nth-child(1) .bars rect")]
    scores = list(kit.gate(next(iter(site.book.entries.values())), True)["layers"].values())
    assert heights.index(max(heights)) == scores.index(max(scores))
    site.click(".gate summary")
    assert len(site.all(".gate:nth-child(1) tbody tr")) == 16
    assert "clients never see gate readings" in site.one("#view-compare .lead").text


def test_audit_lists_events_and_finds_a_broken_chain(site: Site) -> None:
    for number in range(30):
        kit.active(site.book, f"case-{number}", {f"Nobody {number}"})
    site.sign_in(section="audit")
    site.until(lambda: len(site.all("#event-rows tr")) == 50)
    assert site.one("#event-rows td").text == "121"
    site.click("#audit-more")
    site.until(lambda: len(site.all("#event-rows tr")) == 100)
    site.click("#audit-check")
    assert site.shown("#audit-result").text == "The chain holds: 121 records, checked one by one."
    site.book.events[4]["by"] = "somebody else"
    site.click("#audit-check")
    site.until(lambda: "broken at record 5" in site.one("#audit-result").text)
    assert [row.text for row in site.all("#server-rows .state")] == ["ready", "not ready"]


def digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_search_and_notes(site: Site) -> None:
    for name in ("case-1", "case-2", "other-3"):
        kit.active(site.book, name)
    site.sign_in()
    site.go("erasures")
    names = site.until(lambda: [row.text for row in site.all("#ledger-rows th")])
    site.one("#erasures-search").send_keys(names[0][:4].upper())
    shown = [row.text for row in site.all("#ledger-rows th")]
    assert shown == [name for name in names if names[0][:4].lower() in name.lower()]
    site.one("#erasures-search").send_keys("no such name")
    assert site.one("#ledger-rows").text == "None found."
    site.run("const f = document.getElementById('erasures-search'); f.value = ''; f.dispatchEvent(new Event('input'))")
    site.open(names[0])
    site.click('#entry [data-part="notes"] summary')
    site.one("#entry form.note input").send_keys("asked <b>twice</b>")
    site.click("#entry form.note button")
    site.until(lambda: "Notes (1)" in site.one('#entry [data-part="notes"] summary').text)
    assert "asked <b>twice</b>" in site.one('#entry [data-part="notes"] li').text, "text, never markup"
