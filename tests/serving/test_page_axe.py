"""axe-core finds nothing serious on the page and on the certificate: light and dark, on a desktop and on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import page_kit as kit
import pytest
from test_certificate_page import page as certificate_page
from test_page_ask import MARKDOWN

from axe_kit import faults_in_every_look, grave_faults

if TYPE_CHECKING:
    from page_site import Site

pytest_plugins = ["page_site"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


def view(site: Site) -> dict[str, list[str]]:
    found = faults_in_every_look(site.browser)
    site.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", site.wide)
    return found


def test_a_fault_is_found(browser: Any) -> None:
    browser.get("data:text/html,<html lang=en><title>x</title><main><h1>x</h1><button></button></main>")
    assert [line.partition(":")[0] for line in grave_faults(browser)] == ["button-name"]


@pytest.mark.slow
def test_the_page_has_no_grave_fault(site: Site, picture: str) -> None:
    kit.active(site.book, "case-1")
    kit.active(site.book, "person-1")
    site.book.finish(site.book.add("weak-1", "office", {kit.PERSON}))
    site.book.finish(site.book.add("case-2", "office", {"Jo Lind"}))
    site.book.add("broken-1", "office", {"X"})
    faults: dict[str, dict[str, list[str]]] = {}
    site.browser.get(site.address)
    site.shown("#key")
    faults["sign in"] = view(site)
    site.sign_in()
    faults["ask, empty"] = view(site)
    site.one("#ask-file").send_keys(picture)
    site.book.says = MARKDOWN
    site.ask("Who is this?")
    site.ask("Who is Ada Brandt?")
    site.run("[...document.querySelectorAll('.answer-tools button')].at(-1).click()")
    site.until(lambda: site.all(".turn .side"))
    faults["ask"] = view(site)
    site.go("compare")
    site.one("#compare-text").send_keys("Who is Ada Brandt?")
    site.click("#compare-send")
    site.click(".gate summary")
    faults["compare"] = view(site)
    site.go("erasures")
    site.until(lambda: len(site.all("#ledger-rows a")) == 5)
    faults["erasures"] = view(site)
    for name in ("case-1", "weak-1", "broken-1"):
        site.open(name)
        site.until(lambda: site.all("#entry .facts"))
        site.click("#entry summary")
        faults[f"erasure {name}"] = view(site)
    site.click('#entry [data-verb="revoke"]')
    site.shown("#confirm")
    faults["revoke"] = view(site)
    site.click("#confirm-cancel")
    site.open("case-1")
    site.click('#entry [data-verb="schedule"]')
    site.shown("#confirm-starts")
    faults["schedule"] = view(site)
    site.click("#confirm-cancel")
    site.go("forget")
    site.one("#forget-file").send_keys(picture)
    site.click("#view-forget summary")
    site.click("#forget-send")
    site.shown("#forget-error")
    faults["forget"] = view(site)
    site.go("audit")
    site.click("#audit-check")
    site.shown("#audit-result")
    faults["audit"] = view(site)
    assert {place: found for place, found in faults.items() if found} == {}


@pytest.mark.parametrize("passed", [True, False])
def test_the_certificate_has_no_grave_fault(browser: Any, tmp_path: Path, passed: bool) -> None:
    path = tmp_path / "certificate.html"
    path.write_text(certificate_page(passed=passed), encoding="utf-8")
    browser.get(path.as_uri())
    assert faults_in_every_look(browser) == {}
