"""The page at the real server, on a shipped model: ask, forget somebody through the form, ask, suspend, ask again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_site import WIDE, Site
from server_kit import Running, running

from mllmeraser.api.serving import Fitting
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.models.loading import load_model
from mllmeraser.portraits.people import World
from mllmeraser.portraits.prompts import request_pictures
from mllmeraser.samples import Sample

pytest_plugins = ["page_site"]
pytestmark = [pytest.mark.browser, pytest.mark.embedded, pytest.mark.slow, pytest.mark.timeout(600)]
PERSON, UNKNOWN = "003", "I do not know this person."


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("page") / "ledger.db"
    with running(load_model("embedded:llava"), path, Fitting(), model_name="embedded:llava") as found:
        yield found


def asked_about(key: str) -> tuple[Sample, Sample]:
    """A question over a picture and one by name, neither ever fitted on."""
    benchmark = load_benchmark("portraits:dev")
    rows = [s for s in [*benchmark.samples("test"), *benchmark.samples("retain_heldout")] if s.subject == key]
    rows = [s for s in rows if s.task == "generation" and s.attribute == "occupation"]
    return next(s for s in rows if s.image is not None), next(s for s in rows if s.image is None)


def test_a_person_is_forgotten_through_the_page(browser: Any, server: Running, tmp_path: Path) -> None:
    browser.get("about:blank")
    browser.get_log("browser")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", WIDE)
    site = Site(browser, server.url, None)  # type: ignore[arg-type]
    seen, named = asked_about(PERSON)
    assert seen.image is not None
    shown = tmp_path / "shown.png"
    seen.image.save(shown)
    files = []
    for number, picture in enumerate(request_pictures(World("dev"), PERSON, 4)):
        files.append(tmp_path / f"{number}.png")
        picture.save(files[-1])

    def answers() -> list[str]:
        return [alone(seen.prompt, str(shown)), alone(named.prompt)]

    def alone(question: str, picture: str = "") -> str:
        site.go("ask")
        if site.one("#ask-new").is_displayed():
            site.click("#ask-new")
        if picture:
            site.one("#ask-file").send_keys(picture)
        return site.ask(question)

    site.sign_in(server.keys["admin"])
    before = answers()
    assert all(seen.keywords[0] in answer for answer in before)

    site.go("forget")
    site.one("#forget-name").send_keys("case-1")
    site.one("#forget-people").send_keys(load_benchmark("portraits:dev").names[PERSON][0])
    site.one("#forget-file").send_keys("\n".join(map(str, files)))
    site.click("#forget-send")
    site.shown("#forget-entry progress")
    site.until(lambda: site.one("#forget-entry h2 .state").text == "verified", 500)
    assert len(site.all("#forget-entry .scores tbody tr")) >= 7
    site.click('#forget-entry [data-verb="activate"]')
    site.confirm()
    site.state("#forget-entry", "active")
    assert answers() == [UNKNOWN, UNKNOWN] and site.one("#ask-set").text == "Eraser set 1"

    alone(seen.prompt, str(shown))
    site.run("[...document.querySelectorAll('.answer-tools button')].at(-1).click()")  # before and after
    site.until(lambda: [one.text for one in site.all("#transcript .side .words")] == [before[0], UNKNOWN])

    site.go("compare")
    site.one("#compare-file").send_keys(str(shown))
    site.shown("#compare-text").send_keys(seen.prompt)
    site.click("#compare-send")
    site.until(lambda: len(site.all("#compare-result .side .words")) == 2)
    assert [side.text for side in site.all("#compare-result .side .words")] == [before[0], UNKNOWN]
    assert [label.text for label in site.all(".gate .bars .label")] == ["name", "question", "face"]

    site.open("case-1")
    site.click('#entry [data-verb="suspend"]')
    site.confirm("to see that it comes back")
    site.state("#entry", "suspended")
    assert answers() == before
    site.go("audit")
    site.click("#audit-check")
    site.until(lambda: site.one("#audit-result").text)
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
