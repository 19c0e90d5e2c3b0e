"""Details of the page in a real browser: times with their zone, checks on a phone, and what a gate reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import page_kit as kit
import pytest
from test_certificate_page import page as certificate_page

from axe_kit import SIZES
from mllmeraser.serving.verify.sheet import COLUMNS, TITLES

if TYPE_CHECKING:
    from page_site import Site

pytest_plugins = ["page_site"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


def phone(browser: Any) -> None:
    width, height = SIZES["phone"]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.fixture
def kolkata(browser: Any) -> Iterator[None]:
    browser.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kolkata"})
    yield
    browser.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})


# -- times ---------------------------------------------------------------------------------------------------------


def test_every_time_has_its_zone(site: Site, kolkata: None) -> None:
    entry = kit.active(site.book, "case-1")
    entry["requested_at"] = "2026-01-31T20:00:00+00:00"
    site.sign_in(section="erasures")
    site.open("case-1")
    shown = site.one("#entry .facts time").text
    assert "Feb 1, 2026" in shown and "1:30" in shown and ("GMT+5:30" in shown or "IST" in shown)
    assert "Asia/Calcutta" in site.one("footer").text or "Asia/Kolkata" in site.one("footer").text
    times = site.run("return [...document.querySelectorAll('time')].map((time) => time.textContent)")
    assert len(times) >= 4 and all("GMT+5:30" in time or "IST" in time for time in times)


def test_the_start_of_a_request_is_explained_and_sent(site: Site, kolkata: None) -> None:
    site.sign_in(section="forget")
    site.one("#forget-name").send_keys("case-9")
    site.one("#forget-people").send_keys("Jo Lind")
    site.click("#view-forget summary")
    hint = site.shown("#forget-starts-hint").text
    assert "A verified erasure is activated by itself" in hint and ("Asia/Calcutta" in hint or "Asia/Kolkata" in hint)
    assert site.one("#forget-starts").accessible_name == "Starts (optional)"
    site.run("document.getElementById('forget-starts').value = '2031-05-06T07:08'")
    site.click("#forget-send")
    site.shown("#forget-entry h2")
    (entry,) = site.book.entries.values()
    assert entry["starts_at"] == "2031-05-06T01:38:00.000Z" and entry["expires_at"] is None
    site.until(lambda: "Starts" in site.one("#forget-entry .facts").text)


def test_the_dialog_of_a_schedule_explains_both_fields(site: Site) -> None:
    site.book.finish(site.book.add("case-1", "office", {kit.PERSON}))
    site.sign_in(section="erasures")
    site.open("case-1")
    site.click('#entry [data-verb="schedule"]')
    assert "Times are in the time zone" in site.shown("#confirm-text").text
    hint = site.one("#confirm-starts-hint").text
    assert "A verified erasure is activated by itself" in hint and "In another state, activate it as well" in hint
    assert "suspended" in site.one("#confirm-expires-hint").text


# -- checks --------------------------------------------------------------------------------------------------------


def test_checks_have_the_words_of_the_certificate(site: Site) -> None:
    entry = kit.active(site.book, "case-1")
    site.sign_in(section="erasures")
    site.open("case-1")
    assert [head.text for head in site.all("#entry .scores thead th")] == list(COLUMNS)
    wanted = [TITLES[check["name"]] for check in entry["scores"]["checks"]]
    assert [head.text for head in site.all("#entry .scores tbody th")] == wanted
    first = [cell.text for cell in site.all("#entry .scores tbody tr:first-child td")]
    assert first == ["98.0 %", "95.0 % to 100.0 %", "at least 95.0 %", "96", "passed"]
    assert [cell.text for cell in site.all("#entry .scores tbody tr:last-child td")][1] == "–"


def whole_table(browser: Any, table: str) -> None:
    """On a phone every cell is within the window, and nothing scrolls sideways."""
    wide, seen = browser.execute_script(
        "const box = document.querySelector(arguments[0]).parentElement; return [box.scrollWidth, box.clientWidth]",
        table,
    )
    assert wide <= seen
    cells = browser.find_elements("css selector", f"{table} tbody td")
    results = browser.find_elements("css selector", f"{table} tbody tr td:last-child")
    assert len(results) >= 3 and all(cell.text in ("passed", "not passed") for cell in results)
    for cell in cells:
        box = cell.rect
        assert cell.is_displayed() and box["x"] >= 0 and box["x"] + box["width"] <= SIZES["phone"][0]


def test_results_of_checks_are_seen_on_a_phone(site: Site) -> None:
    site.book.finish(site.book.add("weak-1", "office", {kit.PERSON}))
    site.sign_in(section="erasures")
    site.open("weak-1")
    phone(site.browser)
    whole_table(site.browser, "#entry .scores")
    label = "return getComputedStyle(document.querySelector('#entry .scores td'), '::before').content"
    assert site.run(label) == '"Share"'


def test_results_of_a_certificate_are_seen_on_a_phone(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "certificate.html"
    path.write_text(certificate_page(), encoding="utf-8")
    browser.get(path.as_uri())
    phone(browser)
    whole_table(browser, "table.stacked")
    wide, seen = browser.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide <= seen


# -- gates ---------------------------------------------------------------------------------------------------------


def test_the_axis_names_what_the_gate_of_a_person_reads(site: Site) -> None:
    kit.active(site.book, "person-1")
    site.sign_in(section="compare")
    site.one("#compare-text").send_keys("Who is Ada Brandt?")
    site.click("#compare-send")
    site.shown("#compare-result")
    assert [label.text for label in site.all(".gate .bars .label")] == ["name", "question", "no face"]
    places = [label.rect["x"] for label in site.all(".gate .bars .label")]
    assert places == sorted(places) and len(site.all(".gate .bars rect")) == 2
    legend = site.one(".gate .legend").text
    assert legend.index("name the person") < legend.index("ask about a person") < legend.index("person's face")
    spoken = site.one(".gate .bars").accessible_name
    assert spoken == "Gate of person-1, threshold 0.5: name 1.25, above; question 0.8, above; no face."
    site.click(".gate summary")
    rows = [row.text for row in site.all(".gate tbody tr")]
    assert rows == ["name (layer 0) 1.25 above", "question (layer 2) 0.8 above", "face (layer 3) – not in the prompt"]
