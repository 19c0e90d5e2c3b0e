"""The Python of the README and of the pages in docs/ runs as it is printed, page after page in one folder."""

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
# concepts.md looks at the eraser that the README makes.
ON_THE_MODEL = ("README.md", "docs/concepts.md", "docs/limits.md")
SERVED = "docs/serving.md"
WITHOUT_MODEL = (
    "docs/requests.md",
    "docs/compare.md",
    "docs/ablations.md",
    "docs/studies.md",
    "docs/families.md",
    "docs/large-models.md",
    "docs/results.md",
)


def run(*pages: str) -> None:
    """Run the blocks of each page, each page with names of its own; a failure names its line in the page."""
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        names: dict[str, object] = {"__name__": "__main__"}
        for block in BLOCK.finditer(text):
            above = text.count("\n", 0, block.start(1))
            exec(compile("\n" * above + block.group(1), page, "exec"), names)


def test_every_page_is_run() -> None:
    pages = {"README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))}
    assert pages == {*ON_THE_MODEL, *WITHOUT_MODEL, SERVED}


def test_links_between_pages_lead_somewhere() -> None:
    for page in (*ON_THE_MODEL, *WITHOUT_MODEL, SERVED):
        for target in re.findall(r"(?<!!)\[[^\]]*\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


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
    page = (ROOT / "docs/requests.md").read_text(encoding="utf-8")
    (card,), (table,) = (re.findall(rf"^```{kind}\n(.*?)^```$", page, re.M | re.S) for kind in ("yaml", "json"))
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
    page = (ROOT / "docs/compare.md").read_text(encoding="utf-8")
    run("docs/compare.md")
    told = {line.split()[0] for line in capsys.readouterr().out.splitlines()}
    assert told == {*method_names(), *PROTOCOLS}
    assert all(f"`{name}`" in page for name in told), "the tables have a row for each"


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
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 5 and told[-1].endswith("kB")
    assert sorted(path.name for path in (tmp_path / "jane.eraser").iterdir()) == [
        "eraser_config.json",
        "eraser_model.safetensors",
    ]
