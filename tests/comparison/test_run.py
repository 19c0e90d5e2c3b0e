"""A comparison from start to end on a tiny model: rows, resuming, failures, the gate."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow.parquet as pq
import pytest

from conftest import made_up_cell
from mllmeraser.benchmarks import load_benchmark, thin
from mllmeraser.comparison import run, stage
from mllmeraser.comparison.cells import Cell, cell_file, write_cell
from mllmeraser.comparison.memorisation_check import swapped, verdicts
from mllmeraser.comparison.recipe import MANDATORY
from mllmeraser.comparison.results import read_run
from mllmeraser.comparison.run import run_recipe
from mllmeraser.comparison.twin import StoredAnswers
from mllmeraser.evaluation import evaluate
from mllmeraser.methods import registry
from mllmeraser.models import MultimodalModel
from mllmeraser.samples import InputError
from tiny import build_llava

Write = Callable[..., Path]
SPEC = set(
    [
        "method",
        "preset",
        "model",
        "benchmark",
        "split",
        "set",
        "modality",
        "task",
        "n",
        "people",
        "accuracy",
        "ci_low",
        "ci_high",
        "rouge_l",
        "outcomes",
        "seed",
        "policy",
        "seconds",
        "protocol",
        "fold",
        "label",
        "variant",
    ]
)


def by_label(cells: tuple[Cell, ...]) -> dict[str, Cell]:
    return {cell.label: cell for cell in cells}


def test_rows_records_and_files(recipe_file: Write, tmp_path: Path) -> None:
    rows = [
        {"method": "mllmeraser", "settings": {"false_alarm_rate": 0.2}},
        {"method": "grad-diff", "variant": "sequential", "settings": {"steps": 1, "learning_rate": 0.01}},
    ]
    path = recipe_file(methods=rows, sets={"forget": 1, "retain": 1}, folds=[0, 1], seeds=[0, 1], limit=2)
    out = tmp_path / "out"
    path_changes = ["splits={forget_5: [1]}"]
    told: list[tuple[str, int, int]] = []
    done = run_recipe(path, out, changes=path_changes, force=True, progress=lambda *at: told.append(at))
    labels = [cell.label for cell in done.cells]
    assert set(MANDATORY) <= set(labels) and labels[-1] == "hook-off"
    assert labels.count("vanilla") == labels.count("hook-off") == 1
    assert labels.count("mllmeraser, default") == labels.count("grad-diff, sequential") == 2, "one for each seed"
    assert [cell.reason for cell in done.failed] == [] and done.ran == len(labels)
    assert ("cells", len(labels), len(labels)) in told
    cells = by_label(done.cells)
    assert cells["retain-only"].status == "missing" and "names no retain-only model" in (
        cells["retain-only"].reason or ""
    )
    assert cells["hook-off"].items == cells["vanilla"].items
    assert cells["vanilla"].making_seconds is None and cells["mllmeraser, default"].making_seconds > 0  # type: ignore[operator]
    assert cells["grad-diff, sequential"].product_bytes and cells["block-list"].product_bytes
    assert set(cells["mllmeraser, default"].stages) >= {"capture"}
    assert cells["mllmeraser, default"].activations is not None and cells["vanilla"].activations is None
    (verdict,) = done.verdicts
    assert verdict.passed is False and "no retain-only row" in verdict.reason
    records = json.loads((out / "results.json").read_text())
    assert set(records[0]) >= SPEC and {r["fold"] for r in records} == {1}
    assert {(r["label"], r["preset"], r["variant"]) for r in records} >= {
        ("mllmeraser, default", "default", None), ("grad-diff, sequential", None, "sequential"),
    }  # fmt: skip
    table = pq.read_table(out / "results.parquet").to_pylist()
    assert len(table) == len(records) == 2 * 3 * 2 * (len(labels) - 1)
    assert [(r["label"], r["accuracy"], r["outcome_wrong"]) for r in table] == [
        (r["label"], r["accuracy"], r["outcomes"]["wrong"]) for r in records
    ]
    assert read_run(out).cells == done.cells
    block = json.loads((out / "comparison.json").read_text())["provenance"]
    assert block["command"].startswith("mllmeraser compare ") and f"--out {out}" in block["command"]
    assert (out / "report.html").is_file() and (out / "exhibits" / "main-table.md").is_file()
    # The same once more: nothing is run, nothing is lost.
    again = run_recipe(path, out, changes=path_changes, force=True)
    assert again.ran == 0 and again.cells == done.cells


def test_stopped_half_way(recipe_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = recipe_file(), tmp_path / "out"
    inner, asked = stage.Stage.run, []

    def stopped(self: Any, task: Any, *rest: Any) -> Cell:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(task.row.label)
        return inner(self, task, *rest)

    monkeypatch.setattr(stage.Stage, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(path, out)
    assert asked == ["vanilla", "retain-only", "system-prompt"]
    assert len(list((out / "cells").iterdir())) == 3 and not (out / "results.json").exists()
    asked.clear()
    monkeypatch.setattr(
        stage.Stage, "run", lambda self, task, *rest: asked.append(task.row.label) or inner(self, task, *rest)
    )
    done = run_recipe(path, out)
    assert asked == ["block-list", "mllmeraser, default", "hook-off"] and done.ran == 3
    assert [cell.status for cell in done.cells] == ["done", "missing", *["done"] * 4]
    asked.clear()
    # A setting of one row: that row alone. What is asked: all of them.
    run_recipe(recipe_file(methods=[{"method": "mllmeraser", "settings": {"false_alarm_rate": 0.2}},
                                    {"method": "block-list", "settings": {"answer": "No."}}]), out)  # fmt: skip
    assert asked == ["block-list"]
    asked.clear()
    run_recipe(recipe_file(sets={"forget": 2}), out)
    assert asked == ["vanilla", "retain-only", "system-prompt", "block-list", "mllmeraser, default", "hook-off"]


def test_another_model_is_another_cell(recipe_file: Write, tmp_path: Path) -> None:
    folder = build_llava(tmp_path / "model", seed=3)
    path, out = recipe_file(models=[str(folder)], methods=[]), tmp_path / "out"
    monkey = ["sets={forget: 1}"]
    first = {cell.digest for cell in run_without_eraser(path, out, monkey)}
    build_llava(folder, seed=4)
    second = {cell.digest for cell in run_without_eraser(path, out, monkey)}
    assert first.isdisjoint(second)


def run_without_eraser(path: Path, out: Path, changes: list[str]) -> tuple[Cell, ...]:
    """The hook-off row of the plain default preset fails on the little world: it wants more retain prompts."""
    done = run_recipe(path, out, changes=changes)
    assert [cell.label for cell in done.failed] == ["hook-off"] and "false-alarm rate" in (done.failed[0].reason or "")
    return done.cells


def test_a_cell_that_fails(recipe_file: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        name = "broken"
        variants: tuple[str, ...] = ()
        settings = registry.load_method("system-prompt").settings

        def make(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("no\nluck")

    monkeypatch.setitem(registry.BUILT_IN, "broken", "nowhere:Broken")
    monkeypatch.setitem(sys.modules, "nowhere", SimpleNamespace(Broken=Broken))
    rows = [{"method": "broken"}, {"method": "mllmeraser", "settings": {"false_alarm_rate": 0.2}}]
    path, out = recipe_file(methods=rows), tmp_path / "out"
    done = run_recipe(path, out)
    (failed,) = done.failed
    assert failed.label == "broken" and failed.reason == "RuntimeError: no luck" and "in make" in (failed.trace or "")
    assert [c.status for c in done.cells] == ["done", "missing", "done", "done", "failed", "done", "done"]
    assert done.summary()["failures"] == [f"{failed.title}: RuntimeError: no luck"]
    assert "broken" in (out / "exhibits" / "main-table.md").read_text()
    assert run_recipe(path, out).ran == 1, "what failed is tried again, the rest stands"


def test_hook_off_notices_a_trace(recipe_file: Write, tmp_path: Path) -> None:
    path, out = recipe_file(), tmp_path / "out"
    cells = by_label(run_recipe(path, out).cells)
    spoilt = cells["vanilla"].model_copy(deep=True)
    spoilt.items[0]["answer"] += " and more"
    write_cell(out, spoilt)
    cell_file(out, cells["hook-off"].digest).unlink()
    (failed,) = run_recipe(path, out).failed
    assert failed.label == "hook-off" and "1 of 6 answers differ from vanilla's" in (failed.reason or "")


def test_the_check_with_a_twin(recipe_file: Write, tmp_path: Path, tiny_llava_path: Path) -> None:
    models = [{"name": str(tiny_llava_path), "retain_only": str(tmp_path / "twin-{percent}-{fold}")}]
    path, out = recipe_file(models=models), tmp_path / "out"
    missing = run_recipe(path, out)
    assert "twin-5-0" in (by_label(missing.cells)["retain-only"].reason or "") and missing.refused
    build_llava(tmp_path / "twin-5-0", seed=5)
    done = run_recipe(path, out)
    assert done.ran == 1 and by_label(done.cells)["retain-only"].status == "done"
    (verdict,) = done.verdicts
    assert verdict.passed is False and "below 50 points" in verdict.reason
    assert list(done.refused) == [(str(tiny_llava_path), "forget_5")]
    assert json.loads((out / "results.json").read_text()) == [] and not (out / "exhibits/trade-off.svg").exists()
    assert "Scores are refused" in (out / "exhibits/main-table.md").read_text()
    assert "Scores are refused" in (out / "report.html").read_text()
    forced = run_recipe(path, out, force=True)
    assert forced.ran == 0 and not forced.refused
    records = json.loads((out / "results.json").read_text())
    assert {r["method"] for r in records} == {*MANDATORY, "mllmeraser"}
    assert {r["model"] for r in records} == {str(tiny_llava_path)}, "a twin goes by the name of its model"


def test_the_check_without_a_twin(recipe_file: Write, tmp_path: Path, tiny_llava_path: Path) -> None:
    path, out = recipe_file(methods=[], benchmark="portraits:dev"), tmp_path / "out"
    done = run_recipe(path, out)
    (verdict,) = done.verdicts
    assert verdict.passed is False and done.refused == {(str(tiny_llava_path), "forget_5"): f"fold 0: {verdict.reason}"}
    for part in ("no retain-only row", "at least 50 are needed", "fine-tune the checkpoint", "retain_only"):
        assert part in verdict.reason
    assert json.loads((out / "results.json").read_text()) == [] and done.summary()["refusals"]
    vanilla = by_label(done.cells)["vanilla"]
    assert {(r.task, r.n) for r in vanilla.control} == {(r.task, r.n) for r in vanilla.records}
    assert run_recipe(path, out, force=True).refused == {}


def test_answers_of_a_model_that_knows_the_people_pass_without_a_twin() -> None:
    """Right answers pass; answers that fit one person as well as another do not."""
    benchmark = load_benchmark("portraits:dev")
    asked = thin(benchmark.samples("forget"), 6)
    items: Any = [{"id": sample.id, "set": "forget", "answer": sample.answer} for sample in asked]
    others, answers = swapped(asked, benchmark.samples("forget"), items)
    assert [s.id for s in others] == [s.id for s in asked] and answers.keys() == {s.id for s in asked}
    for sample, other in zip(asked, others, strict=True):
        assert sample.subject != other.subject and sample.attribute == other.attribute
        assert (sample.task, sample.modality) == (other.task, other.modality)
    alike = [{**item, "answer": "A I do not know."} for item in items]
    for said, passed in ((items, True), (alike, False)):
        texts = {("forget", item["id"]): item["answer"] for item in said}
        own, control = (
            evaluate(
                cast(MultimodalModel, StoredAnswers("m", texts, {"forget": rows})), {"forget": rows}, method="vanilla",
                benchmark="b", split="forget_5", values=benchmark.values, vocabulary=benchmark.vocabulary,
            ).records
            for rows in (asked, others)
        )  # fmt: skip
        cell = made_up_cell("vanilla", "forget_5", 0, 0, records=own, control=control)
        (verdict,) = verdicts([cell])
        assert verdict.passed is passed and verdict.gap is not None and (verdict.gap > 0.8) is passed
        assert passed or abs(verdict.gap) < 0.1
    assert swapped(asked[:1], asked[:1], items) == ([], {}), "nobody to swap with"
    (alone,) = verdicts([made_up_cell("vanilla", "forget_5", 0, 0)])
    assert alone.passed is False and "two people or more" in alone.reason


def test_products_may_go(recipe_file: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_recipe(recipe_file(keep_products=False), out)
    assert not list((out / "products").iterdir())


def test_what_is_refused_before_the_work(recipe_file: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for changes, words in (
        ({"models": ["./no/such/model"]}, "no/such/model"),
        ({"benchmark": "portraits:none"}, "no such preset"),
        ({"protocol": "best"}, "unknown protocol"),
        ({"splits": ["forget_7"]}, "no split 'forget_7'"),
        ({"folds": [9]}, "fold 9"),
        ({"sets": ["forgotten"]}, "unknown set 'forgotten'"),
    ):
        with pytest.raises(InputError, match=words):
            run_recipe(recipe_file(**changes), out)
    assert not out.exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    for place in (other, other / "thesis.txt"):
        with pytest.raises(InputError, match="choose another"):
            run_recipe(recipe_file(), place)
    with pytest.raises(InputError, match="no comparison is here"):
        read_run(other)


def test_run_counts_what_it_will_run(recipe_file: Write) -> None:
    from mllmeraser.comparison.method_rows import rows_of
    from mllmeraser.comparison.recipe import read_recipe

    recipe = read_recipe(recipe_file(seeds=[0, 1, 2]))
    assert run.cell_count(recipe, rows_of(recipe)) == 5 + 3
