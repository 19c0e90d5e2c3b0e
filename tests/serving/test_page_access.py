"""The page for everybody: by keyboard alone, with names for screen readers, narrow and wide, light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import page_kit as kit
import pytest

if TYPE_CHECKING:
    from page_site import Site

pytest_plugins = ["page_site"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


# -- keyboard, names, sizes, schemes -------------------------------------------------------------------------


def test_by_keyboard_alone(site: Site) -> None:
    from selenium.webdriver.common.keys import Keys

    entry = kit.active(site.book, "case-1")
    site.browser.get(site.address)
    site.until(lambda: site.focus() == "key")
    site.keys(kit.ADMIN, Keys.ENTER)
    site.until(lambda: site.focus() == "ask-title")
    reach(site, "ask-text")
    site.keys("Who is Ada Brandt?", Keys.ENTER)
    site.until(lambda: site.one(".turn .words").text == kit.UNKNOWN)
    site.run("document.activeElement.blur(); window.getSelection().removeAllRanges()")
    site.browser.refresh()
    site.shown("#view-ask")
    site.run("document.activeElement.blur()")
    reach(site, "skip")
    site.keys(Keys.ENTER)
    assert site.focus() == "main"
    back(site, "Erasures")
    site.keys(Keys.ENTER)
    site.until(lambda: site.focus() == "erasures-title" and site.all("#ledger-rows a"))
    reach(site, "case-1")
    assert outlined(site)
    site.keys(Keys.ENTER)
    site.until(lambda: site.focus().startswith("case-1 active"))
    reach(site, "Suspend")
    site.keys(Keys.ENTER)
    site.until(lambda: site.focus() == "confirm-reason")
    site.keys(Keys.ESCAPE)
    site.until(lambda: site.focus() == "Suspend")
    assert entry["state"] == "active"
    site.keys(Keys.ENTER)
    site.until(lambda: site.focus() == "confirm-reason")
    site.keys("tried without a mouse")
    reach(site, "confirm-yes")
    site.keys(Keys.ENTER)
    site.until(lambda: site.focus().startswith("case-1 suspended"))
    assert site.book.events[-1]["details"] == {"reason": "tried without a mouse"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_section_narrow_and_wide_in_both_schemes(site: Site, picture: str, tmp_path: Path, scheme: str) -> None:
    kit.active(site.book, "case-1")
    site.book.finish(
        site.book.add("weak-with-a-rather-long-label-of-sixty-three-signs-it-must-wrap", "o", {kit.PERSON})
    )
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    site.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    site.browser.get(site.address)
    site.shown("#key")
    inspect(site, tmp_path / "sign-in", scheme)
    site.sign_in()
    site.one("#ask-file").send_keys(picture)
    site.ask("Who is " + "averyveryverylongwordthatdoesnotend" * 4 + "?")
    inspect(site, tmp_path / "ask", scheme)
    site.go("compare")
    site.one("#compare-text").send_keys("Who is Ada Brandt?")
    site.click("#compare-send")
    site.click(".gate summary")
    inspect(site, tmp_path / "compare", scheme)
    site.open("weak-with-a-rather-long-label-of-sixty-three-signs-it-must-wrap")
    site.click("#entry summary")
    inspect(site, tmp_path / "erasures", scheme)
    site.click('#entry [data-verb="revoke"]')
    inspect(site, tmp_path / "dialog", scheme)
    site.click("#confirm-cancel")
    site.go("forget")
    site.one("#forget-file").send_keys(picture)
    site.click("#view-forget summary")
    inspect(site, tmp_path / "forget", scheme)
    site.go("audit")
    site.click("#audit-check")
    site.shown("#audit-result")
    inspect(site, tmp_path / "audit", scheme)


def reach(site: Site, wanted: str, key: str = "") -> None:
    """Press Tab until `wanted` has the focus."""
    from selenium.webdriver.common.keys import Keys

    for _ in range(40):
        site.keys(key or Keys.TAB)
        if site.focus() == wanted:
            return
    raise AssertionError(f"{wanted} cannot be reached by keyboard")


def back(site: Site, wanted: str) -> None:
    """Press Shift and Tab until `wanted` has the focus."""
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    for _ in range(40):
        ActionChains(site.browser).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
        if site.focus() == wanted:
            return
    raise AssertionError(f"{wanted} cannot be reached by keyboard")


def outlined(site: Site) -> bool:
    return site.run("return getComputedStyle(document.activeElement).outlineStyle") not in ("none", "")


DIM = """
const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
  .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
const ground = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const colour = parts(getComputedStyle(at).backgroundColor);
    if (colour.length < 4 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = [];
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest("noscript, .sr")) continue;
  const style = getComputedStyle(node);
  const ink = node.closest("svg") ? style.fill : style.color;
  const [low, high] = [luminance(parts(ink)), luminance(ground(node))].sort((a, b) => a - b);
  const ratio = (high + 0.05) / (low + 0.05);
  if (ratio < 4.5) found.push(`${node.tagName} ${walker.currentNode.data.trim()} ${ratio.toFixed(2)}`);
}
return found;
"""


def inspect(site: Site, place: Path, scheme: str) -> None:
    """No sideways scrolling, a name for every control, readable text; a picture of both sizes is kept."""
    from PIL import Image

    for size in (site.wide, site.narrow):
        site.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        site.until(lambda: site.run("return !document.getAnimations().some(one => one instanceof CSSTransition)"))
        wide, seen = site.run("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert wide <= seen <= size["width"], f"{place.name} is {wide} wide at {size['width']}"
        kept = place.with_name(f"{place.name}-{scheme}-{size['width']}.png")
        site.browser.save_screenshot(str(kept))
        with Image.open(kept) as image:
            corner = image.convert("L").getpixel((4, image.height // 2))
        assert place.name == "dialog" or (corner > 200) == (scheme == "light"), f"{kept.name} is not {scheme}"
        nameless = [e.get_attribute("outerHTML")[:80] for e in controls(site) if not e.accessible_name]
        assert nameless == []
        assert site.run(DIM) == []
    site.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", site.wide)


def controls(site: Site) -> list[Any]:
    # Behind an open dialog nothing can be reached.
    within = "dialog[open]" if site.all("dialog[open]") else "body"
    wanted = "button, a, input, select, textarea, summary, progress, svg[role=img], [tabindex='0']"
    return [element for element in site.one(within).find_elements("css selector", wanted) if element.is_displayed()]
