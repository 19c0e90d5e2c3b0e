"""axe-core, the accessibility checker, on whatever page the browser shows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
SCHEMES = ("light", "dark")
GRAVE = ("serious", "critical")
RUN = """
const done = arguments[0];
axe.run(document, {preload: false, selectors: false, resultTypes: ["violations"]}).then(
  ({violations, passes}) => done({violations, passes: passes.length}), (error) => done(String(error)));
"""
STILL = "return !document.getAnimations().some((one) => one instanceof CSSTransition)"


@cache
def script() -> str:
    return (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")


def looks(browser: Any) -> Iterator[str]:
    """Show the page light and dark, on a desktop and on a phone; yields the name of each look."""
    for scheme in SCHEMES:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        for size, (width, height) in SIZES.items():
            metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            wait_until_still(browser)
            yield f"{scheme}-{size}"


def wait_until_still(browser: Any) -> None:
    """Wait until colours have stopped changing."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 10, 0.02).until(lambda _: browser.execute_script(STILL))


def grave_faults(browser: Any) -> list[str]:
    """Violations of impact serious or critical on the shown page, one line for each element."""
    if not browser.execute_script("return Boolean(window.axe)"):
        browser.execute_script(script())
    found = browser.execute_async_script(RUN)
    assert isinstance(found, dict) and found["passes"] >= 5, f"axe-core did not run: {found}"
    return [
        f"{rule['id']}: {node['html'][:160]} ({node['failureSummary']})"
        for rule in found["violations"]
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]


def faults_in_every_look(browser: Any) -> dict[str, list[str]]:
    """Look -> grave faults, without the looks that have none."""
    return {look: found for look in looks(browser) if (found := grave_faults(browser))}
