"""The page in a real browser: nothing on the console, everything there, in light, dark and narrow."""

from __future__ import annotations

from pathlib import Path

import pytest

from axe_kit import faults_in_every_look
from mllmeraser.report.content import DemoResult
from mllmeraser.report.render import render_report

pytest_plugins = ["browser_kit"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def page(browser, demo_result: DemoResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_report(demo_result), encoding="utf-8")
    browser.get_log("browser")  # what earlier tests left
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(path.as_uri())
    return path


def test_console_is_silent(browser, page: Path) -> None:
    assert browser.get_log("browser") == []


def test_key_elements_are_visible(browser, page: Path) -> None:
    assert "Forgetting 6 of 120 people" in browser.find_element("css selector", "h1").text
    assert len(browser.find_elements("css selector", "#figures > div")) == 5
    assert len(browser.find_elements("css selector", "#forgotten .person")) == 2
    for element in browser.find_elements("css selector", ".person img"):
        assert element.is_displayed()
        assert element.get_property("naturalWidth") == 192
    assert "I do not know this person." in browser.find_element("css selector", "#forgotten .person").text
    assert len(browser.find_elements("css selector", "#gates svg .ridge")) == 9
    assert len(browser.find_elements("css selector", ".scores tbody tr:not(.set)")) == 30


def test_bars_fill_their_track(browser, page: Path) -> None:
    for bar in browser.find_elements("css selector", ".bar"):
        parts = sum(part.rect["width"] for part in bar.find_elements("css selector", "i"))
        assert parts == pytest.approx(bar.rect["width"], abs=8)


def test_nothing_was_requested(browser, page: Path) -> None:
    names = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in names if not name.startswith("data:")] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_schemes(browser, page: Path, scheme: str) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    style = "return [getComputedStyle(arguments[0]).color, getComputedStyle(document.body).backgroundColor]"
    for selector in ("h1", ".lead", ".kicker", "caption", ".chip.unknown", ".answer dt", "nav a"):
        ink, paper = browser.execute_script(style, browser.find_element("css selector", selector))
        assert contrast(ink, paper) >= 4.5, f"{selector} in {scheme}: {ink} on {paper}"


def test_narrow_window_does_not_scroll_sideways(browser, page: Path) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False},
    )
    try:
        wide, seen = browser.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert wide <= seen
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_axe_finds_nothing_serious(browser, page: Path) -> None:
    try:
        assert faults_in_every_look(browser) == {}
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("width", [1280, 1000, 800, 600, 390, 340])
def test_no_figure_is_left_over_on_the_last_row(browser, page: Path, width: int) -> None:
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False})  # fmt: skip
    try:
        tops = [one.rect["y"] for one in browser.find_elements("css selector", "#figures > div")]
        rows = [tops.count(top) for top in sorted(set(tops))]
        assert sum(rows) == 5 and (rows[-1] > 1 or set(rows) == {1}), rows
        boxes = browser.find_elements("css selector", "#figures > div")
        assert [box.text for box in boxes if box.get_property("scrollWidth") > box.get_property("clientWidth")] == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def contrast(ink: str, paper: str) -> float:
    """WCAG contrast ratio of two `rgb(...)` colours."""

    def luminance(colour: str) -> float:
        channels = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)
