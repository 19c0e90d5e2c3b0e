"""Searching settings: running, resuming, the committed space, and what a recipe takes from the result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from search_kit import SETS, answer
from typer.testing import CliRunner, Result

from mllmeraser.cli.app import app
from mllmeraser.comparison import stage
from mllmeraser.comparison.cells import Cell, Task
from mllmeraser.comparison.method_rows import rows_of
from mllmeraser.comparison.recipe import read_recipe
from mllmeraser.comparison.search import CrashedError, run_search
from mllmeraser.comparison.space import candidates_of, read_space
from mllmeraser.embedded import checkpoint_path
from mllmeraser.samples.errors import NumericalError

ROOT = Path(__file__).parents[2]
Write = Callable[..., Path]


# -- what is committed -----------------------------------------------------------------------------------------


def test_the_committed_space() -> None:
    space = read_space(ROOT / "recipes/search.yaml")
    assert space.fold == 1 and 0 in space.test_folds and space.split == "forget_5"
    found = candidates_of(space)
    assert len(found) == space.budget * len(space.methods)
    content = yaml.safe_load((ROOT / "recipes/paper-table.yaml").read_text())
    assert content["settings_from"] == "../benchmarks/results/search-llava.json"
    trained = [row for row in content["methods"] if row["method"] != "mllmeraser"]
    assert not any("settings" in row for row in trained), "nothing in the table is guessed"
    titles = {", ".join(filter(None, (row["method"], row.get("variant")))) for row in trained}
    assert titles == {one.title for one in found}


def test_the_committed_result() -> None:
    file = ROOT / "benchmarks/results/search-llava.json"
    result, space = json.loads(file.read_text()), read_space(ROOT / "recipes/search.yaml")
    known = {(one.title, one.name): one for one in candidates_of(space)}
    judged = {(title, one["name"]) for title, found in result["methods"].items() for one in found["candidates"]}
    assert judged == known.keys() and result["criterion"] == space.criterion.model_dump(mode="json")
    assert (result["fold"], result["model"], result["seeds"]) == (space.fold, space.model.name, list(space.seeds))
    card = json.loads((checkpoint_path("llava") / "model_card.json").read_text())
    listed = next(line for line in (ROOT / "docs/results.md").read_text().splitlines() if file.name in line)
    same = result["fingerprint"] == card["fingerprint"]
    assert same or "older than the code" in listed, "docs/results.md must list a search on other weights"
    rows_of(read_recipe(ROOT / "recipes/paper-table.yaml"))


# -- running ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_from_space_to_table(space_file: Write, tmp_path: Path, tiny_llava_path: Path) -> None:
    """Real trainings on a tiny model, through the command line, and a comparison that uses what was found."""
    path, out, work = space_file(criterion={"utility": ["perception"]}), tmp_path / "found/search.json", tmp_path / "w"
    done = search(path, "--out", out, "--work", work)
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.stdout.strip() == str(out) and "5 cells: 5 run now" in done.stderr
    result = json.loads(out.read_text())
    block = result["provenance"]
    assert block["command"] == f"mllmeraser search {path} --out {out}" and "torch" in block["hardware"]
    assert (result["split"], result["fold"], result["seeds"], result["budget"]) == ("forget_5", 1, [0], 2)
    assert block["version"] and result["fingerprint"] and result["criterion"]["within"] == 5
    assert set(result["vanilla"]["sets"]) == {"perception"} and sum(result["vanilla"]["outcomes"].values()) == 4
    for title, found in result["methods"].items():
        figures = [one["figures"] for one in found["candidates"]]
        assert len(figures) == 2 and all(f["seconds"] > 0 for f in figures)
        (chosen,) = [one for one in found["candidates"] if one["chosen"]]
        assert result["settings"][title] == chosen["settings"]
    assert not list((work / "products").iterdir()), "products do not stay"
    recipe = {
        "name": "tiny", "models": [str(tiny_llava_path)], "benchmark": "portraits:unit", "sets": {"forget": 1},
        "settings_from": "../found/search.json", "activations": 0,
        "methods": [{"method": "mllmeraser", "settings": {"false_alarm_rate": 0.2}}, {"method": "ga", "label": "mine"}],
    }  # fmt: skip
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/recipe.yaml").write_text(yaml.safe_dump(recipe))
    compared = command(
        "compare", tmp_path / "recipes/recipe.yaml", "--out", tmp_path / "out", "--threads", 1, "--force"
    )
    assert compared.exit_code == 0, (compared.output, compared.exception)
    cells = [Cell.model_validate_json(file.read_text()) for file in (tmp_path / "out/cells").iterdir()]
    (mine,) = [cell for cell in cells if cell.label == "mine"]
    assert mine.settings["learning_rate"] == 0.01 and mine.settings["steps"] == result["settings"]["ga"]["steps"]


def command(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def search(*arguments: str | Path | int) -> Result:
    return command("search", *arguments, "--threads", 1)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cells with made-up answers: the second candidate of ga forgets, that of grad-diff ruins the model.

    Returns:
        Labels of what was run.
    """
    asked: list[str] = []

    def run(self: stage.Stage, task: Task, *rest: Any) -> Cell:
        asked.append(task.row.label)
        second = task.row.label.endswith(("steps=2", "gamma=2"))
        ruined = second and task.row.method == "grad-diff"
        items = [answer("forget", n, not second, "gibberish" if ruined else "unknown") for n in range(4)]
        items += [answer(name, n, not ruined, "gibberish") for name in SETS for n in range(4)]
        return Cell(**self.blank(task), status="done", items=items)

    monkeypatch.setattr(stage.Stage, "run", run)
    return asked


LABELS = ["vanilla", "ga: steps=1", "ga: steps=2", "grad-diff, joint: steps=1", "grad-diff, joint: steps=1, gamma=2"]


def test_the_criterion_decides(space_file: Write, tmp_path: Path, made_up: list[str]) -> None:
    out = tmp_path / "search.json"
    found = run_search(space_file(), out, work=tmp_path / "work")
    assert made_up == LABELS
    result = json.loads(out.read_text())
    assert result["settings"] == {"ga": {"learning_rate": 0.01, "steps": 2}, "grad-diff, joint": {"steps": 1}}
    ruined = result["methods"]["grad-diff, joint"]["candidates"][1]
    assert ruined["figures"]["recalled"] == 0 and ruined["figures"]["gibberish"] == {"forget": 1.0, "utility": 1.0}
    assert ruined["figures"]["outcomes"]["gibberish"] == 4 and not ruined["within"] and not ruined["chosen"]
    assert {one["rule"] for one in result["methods"].values()} == {"within"}
    assert found.summary()["chosen"]["ga"]["name"] == "steps=2"


def test_several_seeds(space_file: Write, tmp_path: Path, made_up: list[str]) -> None:
    out = tmp_path / "search.json"
    run_search(space_file(seeds=[0, 1]), out, work=tmp_path / "work")
    assert made_up == [*LABELS, *LABELS[1:]], "the bare model is asked once"
    result = json.loads(out.read_text())
    ga = result["methods"]["ga"]["candidates"]
    assert [len(set(one["cells"])) for one in ga] == [2, 2] and result["seeds"] == [0, 1]
    assert [sum(one["figures"]["outcomes"].values()) for one in ga] == [8, 8]


def test_finished_candidates_are_not_run_again(
    space_file: Write, tmp_path: Path, made_up: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, work, inner = tmp_path / "search.json", tmp_path / "work", stage.Stage.run

    def stopped(self: stage.Stage, task: Task, *rest: Any) -> Cell:
        if len(made_up) == 3:
            raise KeyboardInterrupt
        return inner(self, task, *rest)

    monkeypatch.setattr(stage.Stage, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_search(space_file(), out, work=work)
    assert made_up == LABELS[:3] and not out.exists(), "no result of half a search"
    monkeypatch.setattr(stage.Stage, "run", inner)
    told: list[tuple[str, int, int]] = []
    found = run_search(space_file(), out, work=work, progress=lambda *at: told.append(at))
    assert made_up == LABELS and (found.ran, found.cells) == (2, 5) and ("cells", 5, 5) in told
    first = out.read_text()
    assert run_search(space_file(), out, work=work, force=True).ran == 0 and out.read_text() == first
    made_up.clear()
    more = [*yaml.safe_load(space_file().read_text())["methods"], {"method": "idk", "grid": {"steps": [1, 2]}}]
    run_search(space_file(methods=more), out, work=work, force=True)
    assert made_up == ["idk: steps=1", "idk: steps=2"], "another method: its candidates alone"
    made_up.clear()
    run_search(space_file(criterion={"within": 100}), out, work=work, force=True)
    assert made_up == [] and json.loads(out.read_text())["settings"]["grad-diff, joint"] == {"steps": 1, "gamma": 2}


def test_a_candidate_that_diverges(
    space_file: Write, tmp_path: Path, made_up: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, inner, fallen = tmp_path / "search.json", stage.Stage.run, "steps=2"

    def diverged(self: stage.Stage, task: Task, *rest: Any) -> Cell:
        if task.row.method == "ga" and fallen in task.row.label:
            raise NumericalError("the loss of step 1 is nan")
        return inner(self, task, *rest)

    monkeypatch.setattr(stage.Stage, "run", diverged)
    done = search(space_file(), "--out", out, "--work", tmp_path / "work")
    assert done.exit_code == 0 and "could not be made: ga: steps=2: seed 0: the loss of step 1 is nan" in done.stderr
    result = json.loads(out.read_text())
    assert result["settings"]["ga"]["steps"] == 1 and result["methods"]["ga"]["candidates"][1]["figures"] is None
    fallen = "steps="
    none = search(space_file(), "--out", out, "--work", tmp_path / "other", "--force", "--json")
    assert none.exit_code == 1 and none.stderr.splitlines()[-1].startswith("mllmeraser: no candidate of ga could")
    assert json.loads(none.stdout)["chosen"]["ga"] is None
    assert list(json.loads(out.read_text())["settings"]) == ["grad-diff, joint"]


def test_a_crash_is_no_finding(
    space_file: Write, tmp_path: Path, made_up: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, inner = tmp_path / "search.json", stage.Stage.run

    def crashed(self: stage.Stage, task: Task, *rest: Any) -> Cell:
        if task.row.label == LABELS[2]:
            raise RuntimeError("no memory")
        return inner(self, task, *rest)

    monkeypatch.setattr(stage.Stage, "run", crashed)
    with pytest.raises(CrashedError, match=r"1 of 5 cells crashed, the first: ga: steps=2 on .*no memory"):
        run_search(space_file(), out, work=tmp_path / "work")
    assert not out.exists()
    monkeypatch.setattr(stage.Stage, "run", inner)
    assert run_search(space_file(), out, work=tmp_path / "work").ran == 1


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
    (line,) = result.stderr.strip().splitlines()
    assert result.stdout == "" and all(word in line for word in words), line


def test_bad_input_is_one_line(space_file: Write, tmp_path: Path, made_up: list[str]) -> None:
    out, work = tmp_path / "search.json", tmp_path / "work"
    refused(search(tmp_path / "none.yaml", "--out", out), "none.yaml", "cannot be read")
    refused(search(space_file(budget=3), "--out", out), "ga has 2 candidate", "budget is 3")
    refused(search(space_file(fold=0), "--out", out), "fold 0 is a test fold")
    refused(search(space_file(fold=7), "--out", out, "--work", work), "fold 7 is out of range")
    refused(search(space_file(model="./no/such"), "--out", out, "--work", work), "no/such")
    refused(search(space_file(), "--out", out, "--work", tmp_path), "choose another folder")
    refused(search(space_file()), "--out")
    assert made_up == [] and not out.exists() and not work.exists()
    out.write_text("mine")
    refused(search(space_file(), "--out", out, "--work", work), "exists already")
    assert out.read_text() == "mine"
    help_page = " ".join(command("search", "--help").stdout.split())
    assert "mllmeraser search recipes/search.yaml --out" in help_page


# -- what a recipe takes ---------------------------------------------------------------------------------------


def test_searched_settings_in_a_recipe(recipe_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"ga": {"steps": 7, "lora": {"rank": 4}}, "grad-diff, sequential": {"learning_rate": 0.5}}
    (tmp_path / "there").mkdir()
    (tmp_path / "there/search.json").write_text(json.dumps({"settings": found}))
    rows = [
        {"method": "mllmeraser"},
        {"method": "block-list"},
        {"method": "ga", "settings": {"lora": {"alpha": 2}}},
        {"method": "grad-diff", "variant": "sequential", "label": "mine"},
    ]
    path = recipe_file(methods=rows, settings_from="there/search.json", quick={"methods": {"mine": {"steps": 2}}})
    by_label = {row.label: row.settings for row in rows_of(read_recipe(path))}
    assert by_label["ga"]["steps"] == 7 and by_label["ga"]["lora"]["rank"] == 4
    assert by_label["ga"]["lora"]["alpha"] == 2, "what the recipe states itself goes before"
    assert (by_label["mine"]["learning_rate"], by_label["mine"]["steps"]) == (0.5, None)
    assert by_label["mllmeraser, default"] == {row.label: row.settings for row in rows_of(read_recipe(
        recipe_file(methods=rows[:1])))}["mllmeraser, default"]  # fmt: skip
    path = recipe_file(methods=rows, settings_from="there/search.json", quick={"methods": {"mine": {"steps": 2}}})
    quick = {row.label: row.settings for row in rows_of(read_recipe(path, quick=True))}
    assert (quick["mine"]["learning_rate"], quick["mine"]["steps"]) == (0.5, 2)
    assert read_recipe(path, changes=["settings_from=null"]).methods[2].settings == {"lora": {"alpha": 2}}
    monkeypatch.chdir(tmp_path / "there")
    with_change = read_recipe(recipe_file(methods=rows), changes=["settings_from=search.json"])
    assert with_change.methods[2].settings["steps"] == 7, "from the command line: where the command is run"


def test_searched_settings_that_are_lacking(recipe_file: Write, tmp_path: Path) -> None:
    file, out = tmp_path / "search.json", tmp_path / "out"

    def compare(**changes: Any) -> Result:
        path = recipe_file(methods=[{"method": "npo", "variant": "vanilla"}], settings_from="search.json", **changes)
        return command("compare", path, "--out", out, "--threads", 1)

    refused(compare(), "settings_from", f"there is no {file}", "mllmeraser search")
    file.write_text(json.dumps({"settings": {"npo": {}}}))
    refused(compare(), str(file), "no settings of npo, vanilla")
    for text in ("[]", "{", json.dumps({"settings": {"npo, vanilla": 3}})):
        file.write_text(text)
        refused(compare(), "no result of mllmeraser search")
    file.write_text(json.dumps({"settings": {"npo, vanilla": {"rate": 1}}}))
    refused(compare(), "npo, vanilla", "rate")
    assert not out.exists()
