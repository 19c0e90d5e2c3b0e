"""The Python of the README and of docs/ runs as printed. Links, and paths of files, lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from server_kit import NoFitter, running

from mllmeraser import Request, Sample, erase
from mllmeraser.evaluation import PROTOCOLS
from mllmeraser.methods import method_names
from mllmeraser.models import families
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits import World
from mllmeraser.portraits.prompts import request_pictures
from tiny import picture

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r"`((?:src|docs|tools|benchmarks|recipes|deploy|tests)/[^\s`*{]+)`")
# concepts.md reads the eraser that the README makes.
ON_THE_MODEL = ("README.md", "docs/concepts.md", "docs/limits.md")
SERVED = "docs/serving.md"
WITHOUT_MODEL = (
    "docs/requests.md",
    "docs/runbook.md",
    "docs/compare.md",
    "docs/ablations.md",
    "docs/studies.md",
    "docs/families.md",
    "docs/large-models.md",
    "docs/pretrained.md",
    "docs/results.md",
)


PAGES = (*ON_THE_MODEL, *WITHOUT_MODEL, SERVED)


def read(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def run(*pages: str) -> None:
    """Run the blocks of each page with fresh names. A failure names its line in the page."""
    for page in pages:
        text = read(page)
        names: dict[str, object] = {"__name__": "__main__"}
        for block in BLOCK.finditer(text):
            above = text.count("\n", 0, block.start(1))
            exec(compile("\n" * above + block.group(1), page, "exec"), names)


def test_every_page_is_run() -> None:
    pages = {"README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))}
    assert pages == set(PAGES)


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths_of_a_page_lead_somewhere(page: str) -> None:
    for target, anchor in re.findall(r"(?<!!)\[[^\]]*\]\((?!https?:)([^)#]*)#?([^)]*)\)", read(page)):
        place = (ROOT / page).parent / target if target else ROOT / page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), f"{target}#{anchor}"
    for place in PLACE.findall(read(page)):
        assert (ROOT / place).exists(), place


def test_serving(
    tiny_llava: MultimodalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tiny_llava, tmp_path / "ledger.db", NoFitter()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", server.keys["client"])
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        run(SERVED)
    assert "set-0 " in capsys.readouterr().out


def test_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for number, folder in enumerate(("jane", "people/jane", "people/omar")):
        (tmp_path / folder).mkdir(parents=True)
        picture(number).save(tmp_path / folder / "1.png")
    page = read("docs/requests.md")
    found = (re.findall(rf"^```{kind}\n(.*?)^```$", page, re.M | re.S) for kind in ("yaml", "json"))
    (card, thing), (table, facts) = found
    (tmp_path / "fact").mkdir()
    (tmp_path / "fact/request.yaml").write_text(thing)
    fact = Request.from_folder(tmp_path / "fact")
    (tmp_path / "facts.jsonl").write_text(facts)
    for request in (fact, Request.from_folder(tmp_path / "facts.jsonl")):
        assert (request.subjects[0].kind, request.reply) == ("fact", "The capital of Japan is Kyoto.")
    (tmp_path / "jane/request.yaml").write_text(card)
    (tmp_path / "request.jsonl").write_text(table)
    assert all(json.loads(line) for line in table.splitlines())
    monkeypatch.chdir(tmp_path)
    run("docs/requests.md")
    assert capsys.readouterr().out.startswith("['jane', 'omar'] 2 ")


def test_large_models(capsys: pytest.CaptureFixture[str]) -> None:
    run("docs/large-models.md")
    rows, sums = (float(amount) for amount in re.findall(r"([\d.]+) GB", capsys.readouterr().out))
    assert 0.5 < rows < 2 and 2 < sums < 10


def test_comparing(capsys: pytest.CaptureFixture[str]) -> None:
    page = read("docs/compare.md")
    run("docs/compare.md")
    printed = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert printed == {*method_names(), *PROTOCOLS}
    assert all(f"`{name}`" in page for name in printed), "the tables have a row for each"


def test_families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "_FAMILIES", dict(families._FAMILIES))
    run("docs/families.md")
    assert families._FAMILIES["my_model"].name == "mine"


@pytest.mark.embedded
@pytest.mark.slow
def test_readme_and_concepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mllmeraser.embedded import checkpoint_path

    try:
        checkpoint_path("llava")
    except ValueError as error:
        pytest.skip(f"the embedded weights are missing: {error}")
    world = World("dev")
    (tmp_path / "jane").mkdir()
    request_pictures(world, world.people[0].key, 1)[0].save(tmp_path / "jane/1.png")
    monkeypatch.chdir(tmp_path)
    omar = world.people[1]
    pictures = [Sample("Who is this?", image, subject="omar") for image in request_pictures(world, omar.key, 1)]
    erase("embedded:llava", Request.from_samples(pictures)).save_pretrained("omar.eraser")
    run(*ON_THE_MODEL)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 5 and printed[-1].endswith("kB")
    assert sorted(path.name for path in (tmp_path / "jane.eraser").iterdir()) == [
        "eraser_config.json",
        "eraser_model.safetensors",
    ]
