"""The page in the hands of a user: a headless Chromium at the stand-in of `page_kit`, as a plugin of pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import page_kit as kit
import pytest

pytest_plugins = ["browser_kit"]

WIDE = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
NARROW = {**WIDE, "width": 360, "height": 740}


class Site:
    """The page, and what a user does with it."""

    wide, narrow = WIDE, NARROW

    def __init__(self, browser: Any, address: str, book: kit.Book) -> None:
        self.browser, self.address, self.book = browser, address, book

    def all(self, selector: str) -> list[Any]:
        return self.browser.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def until(self, done: Callable[[], Any], seconds: float = 30.0) -> Any:
        from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
        from selenium.webdriver.support.ui import WebDriverWait

        ignored = [StaleElementReferenceException, WebDriverException, IndexError]
        return WebDriverWait(self.browser, seconds, 0.05, ignored).until(lambda _: done())

    def shown(self, selector: str) -> Any:
        self.until(lambda: self.one(selector).is_displayed())
        return self.one(selector)

    def click(self, selector: str) -> None:
        wanted = self.shown(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", wanted)  # clear of the bars at both ends
        wanted.click()

    def run(self, script: str, *given: Any) -> Any:
        return self.browser.execute_script(script, *given)

    def keys(self, *pressed: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(*pressed).perform()

    def focus(self) -> str:
        return self.run("return document.activeElement.id || document.activeElement.textContent.trim()")

    def sign_in(self, key: str = kit.ADMIN, section: str = "ask") -> None:
        self.browser.get(f"{self.address}#{section}")
        self.shown("#key").send_keys(key)
        self.click("#sign-in-button")
        self.shown(f"#view-{section}")

    def go(self, section: str) -> None:
        self.click(f'#nav a[href="#{section}"]')
        self.shown(f"#view-{section}")

    def ask(self, question: str) -> str:
        before = len(self.all(".turn"))
        self.shown("#ask-text").send_keys(question, "\n")
        self.until(lambda: len(self.all(".turn")) == before + 1 and not self.all(".words[aria-busy]"))
        return self.all(".turn .words")[-1].text

    def open(self, name: str) -> None:
        """Show an erasure of the ledger in full."""
        if not self.one("#view-erasures").is_displayed():
            self.go("erasures")
        self.until(lambda: name in [link.text for link in self.all("#ledger-rows a")])
        link = next(link for link in self.all("#ledger-rows a") if link.text == name)
        self.run("arguments[0].scrollIntoView({block: 'center'})", link)
        link.click()
        self.until(lambda: self.one("#entry h2").text.startswith(name))

    def confirm(self, reason: str = "") -> None:
        self.shown("#confirm")
        if reason:
            self.one("#confirm-reason").send_keys(reason)
        self.click("#confirm-yes")
        self.until(lambda: not self.one("#confirm").is_displayed())

    def state(self, panel: str, state: str) -> None:
        self.until(lambda: self.one(f"{panel} h2 .state").text == state)


@pytest.fixture
def site(browser: Any) -> Iterator[Site]:
    """A fresh stand-in; afterwards nothing but refused requests may stand on the console."""
    browser.get("about:blank")
    browser.get_log("browser")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", WIDE)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    with kit.serving() as (address, book):
        yield Site(browser, address, book)
        assert [line for line in browser.get_log("browser") if line["source"] != "network"] == []


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "ada.png"
    path.write_bytes(kit.png("#8fb8ad"))
    return str(path)
