"""Ask in a real browser: Markdown, copies, other answers, several pictures, and before and after for administrators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import page_kit as kit
import pytest

if TYPE_CHECKING:
    from page_site import Site

pytest_plugins = ["page_site"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

MARKDOWN = """# Ada
She is **a baker** and *plays* the `cello`.

1. one
2. two
   - inner

```
<b>code</b>
```

| name | place |
|---|---|
| Ada | Porto |"""
HOSTILE = (
    "Look <img src=x onerror=document.title='owned'> <script>document.title='owned'</script> "
    "[here](javascript:document.title='owned') ![seen](http://127.0.0.1:9/pixel.png) https://example.org/ &amp; 2 < 3"
)


def tags(site: Site) -> list[str]:
    script = "return [...document.querySelectorAll('.turn:last-child .words *')].map((node) => node.tagName)"
    return [tag.lower() for tag in site.run(script)]


def button(site: Site, words: str) -> str:
    """Give the button of the last turn with these words a name, for `click`."""
    script = """
        const found = [...document.querySelectorAll('.turn:last-child .answer-tools button')];
        found.forEach((one) => { one.id = one.textContent === arguments[0] ? 'wanted' : ''; });
        return found.map((one) => one.textContent);
    """
    assert words in site.run(script, words)
    return "#wanted"


# -- Markdown --------------------------------------------------------------------------------------------------


def test_markdown_of_an_answer_is_shown(site: Site) -> None:
    site.book.says = MARKDOWN
    site.sign_in()
    shown = site.ask("Who?")
    assert {"p", "strong", "em", "code", "ol", "ul", "li", "pre", "table", "th", "td"} <= set(tags(site))
    assert "**" not in shown and [one.text for one in site.all(".words strong")] == ["Ada", "a baker"]
    assert site.one(".words pre").text == "<b>code</b>"
    assert [item.text for item in site.all(".words ol > li")] == ["one", "two\ninner"]
    assert not site.all(".words h1"), "an answer adds no heading to the outline of the page"


def test_an_answer_is_never_markup(site: Site) -> None:
    site.book.says = HOSTILE
    site.sign_in()
    shown = site.ask("Who?")
    assert set(tags(site)) == {"p"}
    for part in ("<img src=x", "<script>", "javascript:", "![seen](http://127.0.0.1:9/pixel.png)", "&amp; 2 < 3"):
        assert part in shown
    assert "owned" not in site.browser.title
    asked_for = site.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert not [name for name in asked_for if "pixel" in name or name.endswith("/x")]


def test_an_answer_that_is_nested_too_deeply_is_shown_as_it_stands(site: Site) -> None:
    site.book.says = ">" * 20_000 + "deep"
    site.sign_in()
    assert site.ask("Who?") == site.book.says


# -- copies and other answers ------------------------------------------------------------------------------------


def test_an_answer_is_copied_as_it_was_written_or_left_selected(site: Site) -> None:
    site.book.says = MARKDOWN
    site.sign_in()
    site.ask("Who?")
    granted = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    site.browser.execute_cdp_cmd("Browser.grantPermissions", granted)
    site.click(button(site, "Copy"))
    site.until(lambda: site.one("#wanted").text == "Copied")
    read = "const done = arguments[0]; navigator.clipboard.readText().then(done, (error) => done(String(error)))"
    assert site.browser.execute_async_script(read) == MARKDOWN
    site.until(lambda: site.one("#wanted").text == "Copy")
    site.run("Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})")  # as over http
    site.click("#wanted")
    site.until(lambda: "press Ctrl+C" in site.one("#wanted").text)
    assert "a baker" in site.run("return getSelection().toString()")


def test_the_last_answer_is_drawn_again(site: Site) -> None:
    site.sign_in()
    site.ask("Where is Lisbon?")
    site.ask("Who is Ada Brandt?")
    assert [one.is_displayed() for one in site.all(".again")] == [False, True]
    before = site.book.asked[-1]
    site.book.says = "Another answer."
    site.click(button(site, "Regenerate"))
    site.until(lambda: site.all(".turn .words")[-1].text == "Another answer.")
    site.until(lambda: "sampled at temperature 0.7" in site.all(".turn .note")[-1].text)
    assert len(site.all(".turn")) == 2 and site.book.asked[-1] == {**before, "temperature": 0.7}
    site.ask("And?")
    assert site.book.asked[-1]["messages"][3]["content"] == "Another answer."


def test_an_answer_that_cannot_be_drawn_again_stays(site: Site) -> None:
    site.sign_in()
    site.ask("Who is Ada Brandt?")
    note = site.one(".turn .note").text
    site.book.fault = "the ledger is away"
    site.click(button(site, "Regenerate"))
    site.until(lambda: "the ledger is away" in site.one("#ask-error").text)
    assert (site.one(".turn .words").text, site.one(".turn .note").text) == (kit.KNOWN, note)


def test_earlier_turns_go_in_the_order_of_the_transcript(site: Site) -> None:
    site.sign_in()
    site.book.pieces = 1
    site.one("#ask-text").send_keys("Where is Lisbon?", "\n")
    site.until(lambda: site.one(".words").text)
    site.click("#ask-stop")
    site.until(lambda: "Stopped" in site.one(".turn .note").text)
    site.book.pieces = 1_000
    site.ask("Who is Ada Brandt?")
    assert len(site.book.asked[-1]["messages"]) == 1, "a stopped answer is no earlier turn"
    site.run("document.querySelector('.turn .again').click()")
    site.until(lambda: "sampled" in site.one(".turn .note").text and not site.all(".words[aria-busy]"))
    site.ask("And?")
    said = [message["content"] for message in site.book.asked[-1]["messages"]]
    assert said[0::2] == ["Where is Lisbon?", "Who is Ada Brandt?", "And?"] and said[3] == kit.KNOWN


# -- pictures ------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    found = [tmp_path / f"{name}.png" for name in ("one", "two")]
    for path, colour in zip(found, ("#8fb8ad", "#b88f8f"), strict=True):
        path.write_bytes(kit.png(colour))
    return [str(path) for path in found]


def test_several_pictures_go_with_one_question_and_stay_attached(site: Site, pictures: list[str]) -> None:
    site.sign_in()
    site.one("#ask-file").send_keys("\n".join(pictures))
    site.until(lambda: len(site.all("#ask-thumbs li")) == 2)
    assert not site.all("#ask-thumbs .still")
    site.ask("Who are they?")
    assert len(kit.pictures_of(site.book.asked[-1]["messages"][0])) == 2 and len(site.all(".turn .asked img")) == 2
    assert [one.text for one in site.all("#ask-thumbs .still")] == ["still attached"] * 2

    site.ask("Which is older?")
    first, _, last = site.book.asked[-1]["messages"]
    assert len(kit.pictures_of(first)) == 2 and last["content"] == "Which is older?"
    assert "2 pictures still attached" in site.all(".turn .asked")[-1].text

    site.click("#ask-thumbs .cross")
    site.ask("And now?")
    assert [len(kit.pictures_of(turn)) for turn in site.book.asked[-1]["messages"]] == [1, 0, 0, 0, 0]
    site.click("#ask-follow")  # without earlier turns, what is still attached goes with the question itself
    site.ask("And alone?")
    assert [len(kit.pictures_of(turn)) for turn in site.book.asked[-1]["messages"]] == [1]
    site.click("#ask-new")
    assert not site.all("#ask-thumbs li")


def test_a_picture_that_is_added_during_an_answer_goes_with_the_next_question(site: Site, pictures: list[str]) -> None:
    site.sign_in()
    site.book.pieces = 1
    site.one("#ask-text").send_keys("Who is Ada Brandt?", "\n")
    site.until(lambda: site.one(".words").text)
    site.one("#ask-file").send_keys(pictures[0])
    site.book.pieces = 1_000
    site.until(lambda: not site.all(".words[aria-busy]"))
    assert len(site.all("#ask-thumbs li")) == 1 and not site.all("#ask-thumbs .still")
    site.ask("And this?")
    assert [len(kit.pictures_of(turn)) for turn in site.book.asked[-1]["messages"]] == [0, 0, 1]
    assert len(site.all("#ask-thumbs .still")) == 1


def test_a_sign_out_while_a_picture_is_read_ends_the_question(site: Site, pictures: list[str]) -> None:
    site.sign_in()
    site.one("#ask-file").send_keys(pictures[0])
    site.run("""
        const read = FileReader.prototype.readAsDataURL;
        FileReader.prototype.readAsDataURL = function (file) { window.goOn = () => read.call(this, file); };
        const send = window.fetch;
        window.sent = [];
        window.fetch = (...all) => { window.sent.push(String(all[0])); return send(...all); };
    """)
    site.one("#ask-text").send_keys("Who is Ada Brandt?", "\n")
    site.until(lambda: site.run("return Boolean(window.goOn)"))
    site.click("#sign-out")
    site.shown("#view-sign-in")
    site.run("window.sent = []; window.goOn()")
    site.shown("#key").send_keys(kit.CLIENT, "\n")
    site.shown("#view-ask")
    assert not site.all(".turn") and site.one("#ask-text").get_property("value") == ""
    assert not [address for address in site.run("return window.sent") if "completions" in address]
    assert site.ask("Where is Lisbon?") and len(site.book.asked) == 1


def test_one_picture_too_many_is_told_with_what_to_do(site: Site, pictures: list[str]) -> None:
    site.book.most_pictures = 1
    site.sign_in()
    site.one("#ask-file").send_keys(pictures[0])
    site.ask("Who is this?")
    site.one("#ask-file").send_keys(pictures[1])
    site.one("#ask-text").send_keys("And this?", "\n")
    error = site.shown("#ask-error").text
    assert "may have 1 pictures" in error and "Start a new conversation" in error
    assert site.one("#ask-text").get_property("value") == "And this?" and len(site.all("#ask-thumbs li")) == 2
    assert [one.text for one in site.all("#ask-thumbs .still")] == ["still attached"]
    site.click("#ask-thumbs .cross")
    site.one("#ask-text").send_keys("\n")
    site.until(lambda: len(site.all(".turn")) == 2)


# -- before and after ------------------------------------------------------------------------------------------------


def test_an_administrator_sees_before_and_after_of_an_answer(site: Site, pictures: list[str]) -> None:
    kit.active(site.book, "case-1")
    site.sign_in()
    site.ask("Where is Lisbon?")
    assert site.ask("Who is Ada Brandt?") == kit.UNKNOWN
    site.click(button(site, "Before and after"))
    site.until(lambda: [one.text for one in site.all(".turn:last-child .side .words")] == [kit.KNOWN, kit.UNKNOWN])
    assert "The answers differ. Acting: case-1." in site.one(".turn:last-child .both .note").text
    assert site.book.compared[-1]["messages"] == site.book.asked[-1]["messages"]
    site.until(lambda: kit.KNOWN in site.one("#live").get_property("textContent"))
    site.click("#sign-out")
    site.shown("#view-sign-in")
    assert kit.KNOWN not in site.run("return document.body.textContent")


def test_before_and_after_is_of_the_model_that_answered(site: Site) -> None:
    site.book.models = [kit.MODEL, f"{kit.MODEL}@case-1"]
    site.sign_in()
    site.ask("Who is Ada Brandt?")
    site.run("document.getElementById('ask-model').selectedIndex = 1")
    site.click(button(site, "Before and after"))
    site.until(lambda: site.book.compared and site.all(".turn .side .words"))
    site.click(button(site, "Regenerate"))
    site.until(lambda: "sampled" in site.one(".turn .note").text)
    site.ask("And?")
    assert site.book.compared[-1]["model"] == kit.MODEL
    assert [body["model"] for body in site.book.asked] == [kit.MODEL, kit.MODEL, f"{kit.MODEL}@case-1"]


@pytest.mark.parametrize("key", [kit.CLIENT, kit.TENANT])
def test_nobody_else_is_offered_before_and_after(site: Site, key: str) -> None:
    kit.active(site.book, "case-1")
    site.sign_in()
    site.ask("Who is Ada Brandt?")
    assert "Before and after" in site.one(".answer-tools").text
    site.click("#sign-out")
    site.shown("#key").send_keys(key, "\n")
    site.shown("#view-ask")
    site.ask("Who is Ada Brandt?")
    assert site.one(".answer-tools").text.split("\n") == ["Copy", "Regenerate"]
    assert site.book.compared == []
