from __future__ import annotations

import re

import pytest

from html_kit import Page
from mllmeraser.report.content import DemoResult, GatePanel, ScoreRow
from mllmeraser.report.figures import describe, gate_picture
from mllmeraser.report.render import render_report
from mllmeraser.report.summary import headline, outcome_bars, recall, score_table, size


@pytest.fixture(scope="module")
def text(demo_result: DemoResult) -> str:
    return render_report(demo_result)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_every_tag_is_closed(page: Page) -> None:
    assert page.open == []


def test_nothing_is_fetched(text: str, page: Page) -> None:
    for tag, attrs in page.tags:
        for name in ("src", "href", "srcset", "poster", "data", "action"):
            value = attrs.get(name) or ""
            assert value == "" or value.startswith(("data:", "#")), f"<{tag} {name}={value[:40]!r}>"
    assert "<script" not in text
    assert not re.search(r"url\(|@import|https?://", text)


def test_what_people_words_is_escaped(text: str) -> None:
    assert "Ilva &lt;Marro&gt; &amp; Daughters" in text
    assert "<Marro>" not in text


def test_a_screen_reader_gets_everything(page: Page) -> None:
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 4
    assert all(attrs.get("alt") for attrs in images)
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert tables == sum(tag == "caption" for tag, _ in page.tags) == 3
    for tag, attrs in page.tags:
        if tag == "svg":
            assert attrs.get("aria-hidden") == "true" or attrs.get("aria-label")
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    targets = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    assert {target.lstrip("#") for target in targets if target} <= ids


def test_headline_pools_generation_and_cloze_of_held_out_prompts(demo_result: DemoResult) -> None:
    forgotten, others, *_ = headline(demo_result)
    assert (forgotten.before, forgotten.value) == ("98.0 %", "1.0 %")
    assert others.value == "97.5 %"
    assert recall(demo_result.scores, "vanilla", ("test",)).n == 4 * 36
    assert recall(demo_result.scores, "vanilla", ("nowhere",)) is None


def test_table_keeps_unmeasured_cells_apart(demo_result: DemoResult) -> None:
    extra = ScoreRow("npo", "test", "image", "cloze", 36, 0.2, 0.1, 0.3)
    labels, groups = score_table((*demo_result.scores, extra))
    assert labels == (
        "vanilla", "mllmeraser, default", "mllmeraser, paper", "retain-only", "detached", "npo",
    )  # fmt: skip
    test = next(group for group in groups if group.set == "test")
    assert [line.task for line in test.lines[:3]] == ["generation", "cloze", "classification"]
    assert [line.cells[-1] for line in test.lines] == [None, extra, None, None, None, None]


def test_outcome_shares_sum_to_one(demo_result: DemoResult) -> None:
    for _, bars in outcome_bars(demo_result.scores):
        for bar in bars:
            assert sum(share for *_, share in bar.parts) == pytest.approx(1)
            assert sum(count for _, count, _ in bar.parts) == bar.n
    bars = dict(outcome_bars(demo_result.scores))["Forgotten people, new pictures and wordings"]
    assert bars[0].spoken == "vanilla: recalled 97.2 %, unknown 2.8 %"
    assert bars[1].spoken == "mllmeraser, default: unknown 100.0 %"


def test_gate_is_described_in_numbers() -> None:
    panel = GatePanel("layer 2", {"forget": (0.9, 1.1), "retain": (0.1, 0.2, 0.3, 0.8), "strangers": ()}, 0.5)
    words = describe(panel)
    assert "forget: median 1 over 2 prompts, 100.0 % at or above" in words
    assert "25.0 % at or above" in words
    assert "strangers" not in words
    assert "acts from 0.5" in gate_picture(panel)


@pytest.mark.parametrize("scores", [(0.0,), (1.0, 1.0, 1.0), (-1e6, 1e6)])
def test_gate_picture_survives_degenerate_readings(scores: tuple[float, ...]) -> None:
    picture = gate_picture(GatePanel("x", {"forget": scores}))
    assert "nan" not in picture and "inf" not in picture


def test_sizes_read_well() -> None:
    assert [size(n) for n in (12, 9_812, 98_304, 589_824, 2_150_000_000)] == [
        "12 B", "9.8 kB", "98.3 kB", "590 kB", "2.1 GB",
    ]  # fmt: skip


def test_changed_answer_after_detach_is_marked(demo_result: DemoResult) -> None:
    from dataclasses import replace

    first = demo_result.forgotten[0]
    changed = replace(first, qa=(replace(first.qa[0], detached="Something else."),))
    text = render_report(replace(demo_result, forgotten=(changed,), retained=(), detached_identical=False))
    assert "chip changed" in text
    assert "not identical" in text
