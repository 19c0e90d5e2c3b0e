"""The page at a real server, on a tiny model: keys, and fits and verifications that are done again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from page_site import WIDE, Site
from server_kit import NoFitter, Running, left_fitted, running
from test_page_access import inspect, reach

from axe_kit import faults_in_every_look
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import Request, Sample, Subject
from mllmeraser.serving.ledger.keys import SECRET
from mllmeraser.serving.packing import pack_request
from tiny import picture

pytest_plugins = ["page_site"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.fixture
def server(tiny_llava: MultimodalModel, tmp_path: Path) -> Iterator[Running]:
    with running(tiny_llava, tmp_path / "ledger.db", NoFitter()) as found:
        yield found


@pytest.fixture
def page(browser: Any, server: Running) -> Iterator[Site]:
    """The page of the server; afterwards nothing but refused requests may stand on the console."""
    browser.get("about:blank")
    browser.get_log("browser")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", WIDE)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    yield Site(browser, server.url, None)  # type: ignore[arg-type]
    assert [line for line in browser.get_log("browser") if line["source"] != "network"] == []


def make(page: Site, label: str, scope: str = "client", tenant: str = "") -> str:
    """Make a key through the form; its secret."""
    page.shown("#keys-label").send_keys(label)
    page.run("const s = document.getElementById('keys-scope'); s.value = arguments[0];"
             "s.dispatchEvent(new Event('change'))", scope)  # fmt: skip
    if tenant:
        page.one("#keys-tenant").send_keys(tenant)
    page.click("#keys-send")
    page.until(lambda: page.one("#keys-secret-label").text == f"Key of {label}" and page.focus() == "keys-secret")
    return str(page.one("#keys-secret").get_property("value"))


def row(page: Site, label: str) -> Any:
    return page.until(lambda: [found for found in page.all("#keys-rows tr") if found.text.startswith(label)][0])


def press_revoke(page: Site, label: str) -> None:
    page.until(lambda: row(page, label).find_element("css selector", "button").click() is None)
    page.shown("#confirm")


def status(server: Running, secret: str) -> int:
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.get(f"{server.url}/v1/models", headers=headers, trust_env=False).status_code


def test_a_key_is_made_shown_once_and_revoked(page: Site, server: Running) -> None:
    page.sign_in(server.keys["admin"], "keys")
    page.until(lambda: page.one("#keys-count").text == "5 keys, 5 in use")
    assert "signed in with it" in row(page, "admin").text and "of acme" in row(page, "acme-admin").text
    secret = make(page, "web shop", "tenant-admin", "shop")
    assert SECRET.fullmatch(secret) and status(server, secret) == 200
    assert "it is not shown again" in page.one("#keys-once").text
    assert "tenant administrator\nof shop" in row(page, "web shop").text and "by admin" in row(page, "web shop").text
    assert page.one("#keys-count").text == "6 keys, 6 in use"

    page.go("audit")
    page.until(lambda: page.all("#event-rows tr"))
    page.go("keys")
    assert not page.one("#keys-made").is_displayed()
    assert secret not in page.run(
        "return document.documentElement.outerHTML + [...document.querySelectorAll('input')].map((i) => i.value)"
    )

    press_revoke(page, "web shop")
    assert "cannot be undone" in page.shown("#confirm-text").text and page.focus() == "confirm-cancel"
    page.click("#confirm-cancel")
    assert status(server, secret) == 200
    press_revoke(page, "web shop")
    page.confirm()
    assert page.shown("#keys-notice").text == "web shop is revoked." and status(server, secret) == 401
    page.until(lambda: page.one("#keys-count").text == "6 keys, 5 in use")
    last = page.all("#keys-rows tr")[-1]
    assert last.text.startswith("web shop") and not last.find_elements("css selector", "button")


def test_a_key_is_copied_or_left_selected(page: Site, server: Running) -> None:
    page.sign_in(server.keys["admin"], "keys")
    secret = make(page, "one")
    granted = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    page.browser.execute_cdp_cmd("Browser.grantPermissions", granted)
    page.click("#keys-copy")
    page.until(lambda: page.one("#keys-copied").text == "Copied.")
    read = "const done = arguments[0]; navigator.clipboard.readText().then(done, (error) => done(String(error)))"
    assert page.browser.execute_async_script(read) == secret
    page.run("Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})")  # as over http
    page.click("#keys-copy")
    page.until(lambda: "press Ctrl+C" in page.one("#keys-copied").text)
    assert page.run("return getSelection().toString()") == secret and page.focus() == "keys-secret"
    page.click("#keys-done")
    assert not page.one("#keys-made").is_displayed() and page.focus() == "keys-title"
    assert page.one("#keys-secret").get_property("value") == ""


def test_what_cannot_be_made_is_told_at_the_form(page: Site, server: Running) -> None:
    page.sign_in(server.keys["admin"], "keys")
    page.click("#keys-send")
    assert page.shown("#keys-error").text == "Give a label." and page.focus() == "keys-label"
    assert page.one("#keys-label").get_attribute("aria-invalid") == "true"
    page.one("#keys-label").send_keys("office")
    page.one("#keys-scope").send_keys("tenant")
    page.click("#keys-send")
    page.until(lambda: "a tenant-admin has one tenant" in page.one("#keys-error").text)
    page.one("#keys-scope").send_keys("administrator")
    assert not page.one("#keys-tenant").is_enabled() and "no tenant" in page.one("#keys-tenant-hint").text
    assert len(server.server.ledger.keys()) == 5


def test_who_revokes_its_own_key_is_signed_out(page: Site, server: Running) -> None:
    page.sign_in(server.keys["admin"], "keys")
    press_revoke(page, "admin")
    assert "You are signed in with this key" in page.shown("#confirm-text").text
    page.click("#confirm-yes")
    assert "not valid" in page.shown("#sign-in-error").text
    assert page.run("return sessionStorage.length") == 0 and not page.all("#keys-rows tr")


def test_only_admins_see_keys(page: Site, server: Running) -> None:
    page.browser.get(f"{page.address}/#keys")
    page.shown("#key").send_keys(server.keys["acme-admin"], "\n")
    page.shown("#view-ask")
    assert not page.one('#nav a[href="#keys"]').is_displayed() and not page.one("#view-keys").is_displayed()


def test_keys_by_keyboard_alone(page: Site, server: Running) -> None:
    from selenium.webdriver.common.keys import Keys

    page.sign_in(server.keys["admin"], "keys")
    page.until(lambda: page.all("#keys-rows tr") and page.focus() == "keys-title")
    reach(page, "keys-label")
    page.keys("by hand", Keys.ENTER)
    page.until(lambda: page.focus() == "keys-secret")
    reach(page, "keys-done")
    page.keys(Keys.ENTER)
    button = row(page, "by hand").find_element("css selector", "button")
    assert button.accessible_name.startswith("Revoke by hand (")
    for _ in range(30):
        page.keys(Keys.TAB)
        if page.run("return document.activeElement === arguments[0]", button):
            break
    page.keys(Keys.ENTER)
    page.until(lambda: page.focus() == "confirm-cancel")
    reach(page, "confirm-yes")
    page.keys(Keys.ENTER)
    page.until(lambda: page.one("#keys-notice").text == "by hand is revoked." and page.focus() == "keys-title")
    page.until(lambda: page.one("#live").get_property("textContent") == "by hand is revoked.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_keys_narrow_and_wide_in_both_schemes(page: Site, server: Running, tmp_path: Path, scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    page.sign_in(server.keys["admin"], "keys")
    make(page, "a rather long label of sixty-three signs that has to be wrapped", "client", "acme")
    press_revoke(page, "other")
    page.confirm()
    page.until(lambda: page.one("#keys-count").text == "6 keys, 5 in use")
    inspect(page, tmp_path / "keys", scheme)


def test_axe_finds_nothing_serious_in_keys(page: Site, server: Running) -> None:
    page.sign_in(server.keys["admin"], "keys")
    make(page, "web shop")
    assert faults_in_every_look(page.browser) == {}


def test_a_fit_that_was_cut_off_is_done_again(page: Site, server: Running) -> None:
    wanted = Request((Subject("left-over", (), (Sample("Who is this?", picture(3), subject="left-over"),)),))
    server.server.ledger.request("left-over", by="ann", inputs=pack_request(wanted))
    page.sign_in(server.keys["admin"], "erasures")
    page.open("left-over")
    page.click('#entry [data-verb="fit"]')
    assert "stored pictures and names" in page.shown("#confirm-text").text
    page.confirm()
    assert page.until(lambda: page.one("#entry .notice.good").text) == "left-over is being fitted again."
    page.until(lambda: page.one("#entry h2 .state").text == "requested, failed")
    assert "Fitting failed: " in page.one("#entry").text and page.all('#entry [data-verb="fit"]')


def test_a_verification_that_was_cut_off_is_done_again(
    page: Site, server: Running, tiny_llava: MultimodalModel
) -> None:
    left_fitted(server, tiny_llava, "cut-off")
    left_fitted(server, tiny_llava, "of-another-model", fingerprint="0" * 64)
    page.sign_in(server.keys["admin"], "erasures")
    page.open("of-another-model")
    page.click('#entry [data-verb="verify"]')
    assert "stored pictures and names" in page.shown("#confirm-text").text
    page.confirm()
    page.until(lambda: page.one("#entry h2 .state").text == "fitted, failed")
    assert "Verifying failed: " in page.one("#entry").text and page.all('#entry [data-verb="verify"]')
    page.open("cut-off")
    page.click('#entry [data-verb="verify"]')
    page.confirm()
    assert page.until(lambda: page.one("#entry .notice.good").text) == "cut-off is being verified again."
    page.shown("#entry progress")
    assert not page.all('#entry [data-verb="verify"]')
    page.until(lambda: page.one("#entry h2 .state").text == "checks failed", 120)  # a random model forgets nothing
    assert page.all("#entry .scores tbody tr") and not page.all('#entry [data-verb="verify"]')
