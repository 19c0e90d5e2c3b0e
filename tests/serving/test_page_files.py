"""The files of the page, without a browser: sound markup, names for every control, nothing from elsewhere, contrast."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from mllmeraser.samples.subject import KINDS
from mllmeraser.serving import page
from mllmeraser.serving.verify import sheet

VOID = {"meta", "link", "img", "input", "br"}
FOLDER = page.files()
SCRIPTS = sorted(FOLDER.glob("*.js"))
CSS = (FOLDER / "page.css").read_text(encoding="utf-8")
INK_ON_GROUND = [
    ("ink", "paper"), ("ink", "card"), ("ink", "mark"), ("ink", "mute-ground"), ("soft", "paper"), ("soft", "card"),
    ("soft", "mark"), ("soft", "mute-ground"), ("accent", "paper"), ("accent", "card"), ("accent", "mark"),
    ("on-accent", "accent"), ("on-accent", "deep"), ("card", "bad"), ("bad", "card"), ("warn", "card"),
    ("good", "good-ground"), ("warn", "warn-ground"), ("bad", "bad-ground"), ("info", "info-ground"),
]  # fmt: skip
SHAPE_ON_GROUND = [("edge", "card"), ("bar", "card"), ("ink", "card")]


class Markup(HTMLParser):
    """Tags with their attributes, their text and where they stand."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[dict] = []
        self.tags: list[dict] = []
        self.faults: list[str] = []
        self.feed(text)
        self.faults += [f"<{tag['tag']}> is never closed" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {"tag": tag, "text": "", "within": [one["tag"] for one in self.open], **dict(attrs)}
        self.tags.append(found)
        if tag not in VOID:
            self.open.append(found)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop()["tag"] != tag:
            self.faults.append(f"</{tag}> closes something else, line {self.getpos()[0]}")

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            tag["text"] += data

    def all(self, *names: str) -> list[dict]:
        return [tag for tag in self.tags if tag["tag"] in names]


@pytest.fixture(scope="module")
def markup() -> Markup:
    return Markup((FOLDER / "index.html").read_text(encoding="utf-8"))


def test_tags_are_closed_in_order(markup: Markup) -> None:
    assert markup.faults == []


def test_ids_are_unique_and_every_reference_has_its_target(markup: Markup) -> None:
    ids = [tag["id"] for tag in markup.tags if "id" in tag]
    assert len(ids) == len(set(ids))
    named = ("for", "aria-labelledby", "aria-describedby", "aria-controls")
    wanted = {id for tag in markup.tags for name in named for id in (tag.get(name) or "").split()}
    assert wanted <= set(ids), wanted - set(ids)


def test_scripts_ask_for_ids_that_exist(markup: Markup) -> None:
    ids = {tag.get("id") for tag in markup.tags}
    for script in SCRIPTS:
        wanted = set(re.findall(r'byId\("([^"]+)"\)', script.read_text(encoding="utf-8")))
        assert wanted <= ids, (script.name, wanted - ids)


def test_every_control_has_a_name(markup: Markup) -> None:
    labels = {tag["for"]: tag["text"].strip() for tag in markup.all("label")}
    for control in markup.all("input", "textarea", "select"):
        assert labels.get(control["id"]), control["id"]
    later = {"entry", "confirm-yes"}  # filled by the scripts; the browser tests ask the browser for their names
    for control in markup.all("button", "a", "summary"):
        assert control["text"].strip() or control.get("aria-label") or control["id"] in later, control


def test_landmarks_language_and_headings(markup: Markup) -> None:
    assert markup.all("html")[0]["lang"] == "en"
    assert [len(markup.all(tag)) for tag in ("main", "nav", "footer", "aside")] == [1, 1, 1, 0]
    views = [tag for tag in markup.all("section") if tag["id"].startswith("view-")]
    assert len(views) == len(markup.all("h1")) == 7
    assert all("aria-labelledby" in view and "hidden" in view for view in views)
    first = next(tag for tag in markup.tags if tag["tag"] == "a")
    assert first["class"] == "skip" and first["href"] == "#main"
    assert all("alt" in image for image in markup.all("img"))
    levels = [int(tag["tag"][1]) for tag in markup.all("h1", "h2", "h3")]
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_nothing_comes_from_elsewhere_and_nothing_is_inline(markup: Markup) -> None:
    for tag in markup.tags:
        for name in ("src", "href"):
            assert not re.match(r"(https?:)?//", tag.get(name) or ""), tag
        assert "style" not in tag and not any(name.startswith("on") for name in tag), tag
    assert all("src" in script for script in markup.all("script")) and not markup.all("style")
    assert "url(" not in CSS and "@import" not in CSS
    for script in SCRIPTS:
        text = script.read_text(encoding="utf-8")
        assert "http" not in text.replace("http://www.w3.org/2000/svg", ""), script.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|localStorage|cookie", text)


def test_key_field_is_never_part_of_an_address(markup: Markup) -> None:
    key = next(tag for tag in markup.all("input") if tag["id"] == "key")
    assert key["type"] == "password" and "name" not in key
    assert all(form.get("method") in ("post", "dialog") for form in markup.all("form"))


def test_page_says_that_clients_never_see_gate_readings(markup: Markup) -> None:
    assert "Clients never see gate readings." in markup.all("footer")[0]["text"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    checked = subprocess.run(
        [node, "--check", "--input-type=module"], input=script.read_bytes(), capture_output=True, timeout=60
    )
    assert checked.returncode == 0, checked.stderr.decode()


def test_files_stay_small() -> None:
    own = [path for path in FOLDER.iterdir() if path.is_file()]
    assert {path.name: n for path in own if (n := path.read_text("utf-8").count("\n")) > 300} == {}


def test_code_of_others_is_unchanged_and_only_reads_markdown() -> None:
    notes = (FOLDER / "vendor" / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256((FOLDER / "vendor" / "marked.esm.js").read_bytes()).hexdigest() in notes
    assert "MIT" in notes and "Permission is hereby granted" in (FOLDER / "vendor" / "marked.LICENSE").read_text(
        "utf-8"
    )
    imports = [line for script in SCRIPTS for line in script.read_text("utf-8").splitlines() if "vendor/" in line]
    assert imports == ['import { lexer } from "./vendor/marked.esm.js";']  # never what writes HTML


def test_checks_have_the_words_of_the_certificate() -> None:
    words = (FOLDER / "words.js").read_text(encoding="utf-8")
    assert dict(re.findall(r'^  (\w+): "(.*)",$', words, flags=re.M)) == sheet.TITLES
    assert tuple(re.findall(r'"([^"]*)"', re.findall(r"COLUMNS = \[(.*)\]", words)[0])) == sheet.COLUMNS


def test_kinds_have_the_words_of_the_certificate(markup: Markup) -> None:
    words = (FOLDER / "words.js").read_text(encoding="utf-8")
    listed = re.findall(r"KINDS = \{(.*)\};", words)[0]
    assert dict(re.findall(r'(\w+): "([^"]*)"', listed)) == {kind: one for kind, (one, _) in sheet.KINDS.items()}
    offered = [tag["value"] for tag in markup.all("option") if tag.get("value") in KINDS]
    assert tuple(sheet.KINDS) == KINDS == tuple(offered)


def test_the_form_follows_its_kind() -> None:
    """The script of the form, with a stand-in for the document."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    script = f"""
        const nodes = {{}};
        const node = (id) => {{
          const take = (...all) => all.forEach((one) => (one.at = id));
          return {{ id, textContent: "", hidden: false, prepend: take, replaceChildren: take }};
        }};
        globalThis.document = {{ getElementById: (id) => (nodes[id] ??= node(id)) }};
        const {{ inWordsOf, missing }} = await import({json.dumps((FOLDER / "kinds.js").as_uri())});
        const seen = {{}};
        for (const kind of {json.dumps(KINDS)}) {{
          inWordsOf(kind);
          const given = [{{}}, {{ names: 1 }}, {{ questions: 1 }}, {{ pictures: 1 }}];
          seen[kind] = {{
            ...Object.fromEntries(Object.values(nodes).map((one) => [one.id, one.textContent])),
            at: nodes["forget-reply-field"].at, exact: !nodes["forget-exact-field"].hidden,
            thing: !nodes["forget-thing"].hidden, lacks: given.map((some) => missing(kind, some)),
          }};
        }}
        console.log(JSON.stringify(seen));
    """
    ran = subprocess.run(
        [node, "--input-type=module"], input=script.encode(), capture_output=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()
    seen = json.loads(ran.stdout)
    for kind, form in seen.items():
        person = kind == "person"
        assert (form["at"], form["exact"], form["thing"]) == (
            "forget-more" if person else "forget-thing", person, not person,
        )  # fmt: skip
        assert ("person" in form["forget-title"]) == ("person" in form["forget-people-label"]) == person
        assert person or form["forget-kind-hint"], "what this kind is"
        assert form["lacks"][0], "an empty request is refused"
        enough = {"person": (1, 3), "fact": (2,)}.get(kind, (1, 2, 3))
        assert [place for place in (1, 2, 3) if not form["lacks"][place]] == list(enough), kind


def palettes() -> dict[str, dict[str, str]]:
    light, dark = re.findall(r":root\s*\{(.*?)\n\s*\}", CSS, flags=re.S)
    read = lambda text: dict(re.findall(r"--([a-z-]+):\s*(#[0-9a-f]{6})", text))  # noqa: E731
    return {"light": read(light), "dark": {**read(light), **read(dark)}}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_text_and_of_shapes(scheme: str) -> None:
    colours = palettes()[scheme]
    for pairs, least in ((INK_ON_GROUND, 4.5), (SHAPE_ON_GROUND, 3.0)):
        for ink, ground in pairs:
            got = contrast(colours[ink], colours[ground])
            assert got >= least, f"{ink} on {ground} in {scheme}: {got:.2f}"


def test_text_takes_its_colours_from_the_palette() -> None:
    rules = re.sub(r":root\s*\{.*?\n\s*\}", "", CSS, flags=re.S)
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b", rules) == []
    inks = set(re.findall(r"(?<![-\w])color:\s*var\(--([a-z-]+)\)", rules))
    assert inks <= {ink for ink, _ in INK_ON_GROUND}, "a pair of colours that no test works out"


def test_motion_only_where_it_is_welcome() -> None:
    still = CSS.split("@media (prefers-reduced-motion: no-preference)")[0]
    assert "transition" not in still and "animation" not in still


def contrast(ink: str, ground: str) -> float:
    """WCAG contrast ratio of two `#rrggbb` colours."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(ink), luminance(ground)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)
