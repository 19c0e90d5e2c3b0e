"""Every exhibit from a made-up comparison: files, numbers, and what is said where something is missing."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mllmeraser.comparison.exhibits import EXHIBITS, draw
from mllmeraser.comparison.exhibits.main_table import markdown
from mllmeraser.comparison.exhibits.trade_off import front
from mllmeraser.comparison.html_report import write_exhibits
from mllmeraser.comparison.results import Run
from mllmeraser.samples import InputError

FIGURES = ("trade-off", "outcomes", "time", "activations")


def data(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", FIGURES)
def test_figures(comparison: Run, tmp_path: Path, name: str) -> None:
    files = draw(name, comparison, tmp_path)
    assert {file.name for file in files} >= {f"{name}.csv", f"{name}.svg", f"{name}.pdf"}
    assert all(file.is_file() for file in files) and not list(tmp_path.glob(".*"))
    root = ET.parse(tmp_path / f"{name}.svg").getroot()
    assert root.tag.endswith("svg") and len(list(root.iter())) > 50
    assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    before = (tmp_path / f"{name}.svg").read_bytes()
    draw(name, comparison, tmp_path)
    assert (tmp_path / f"{name}.svg").read_bytes() == before, "the same run, the same picture"


def test_main_table(comparison: Run, tmp_path: Path) -> None:
    draw("main-table", comparison, tmp_path)
    rows = data(tmp_path / "main-table.csv")
    assert {(r["set"], r["task"]) for r in rows} == {
        (name, task)
        for name in ("forget", "test", "retain", "celebrity")
        for task in ("classification", "generation", "cloze")
    }
    keys = {"label": "mllmeraser, default", "split": "forget_5", "set": "forget", "task": "cloze", "modality": "all"}
    (ours,) = [r for r in rows if all(r[k] == v for k, v in keys.items()) and r["metric"] == "accuracy"]
    assert (ours["folds"], ours["seeds"], ours["n"], ours["people"]) == ("2", "2", "48", "8")
    assert float(ours["mean"]) == 0 and float(ours["minus_vanilla_high"]) < -0.7
    said = (tmp_path / "main-table.md").read_text()
    table = [line for line in said.splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in table}) == 1
    assert "| grad-diff, joint | – |" in said, "a failed row stands there"
    assert "diverged" in said and "no twin" in said and "not checked, no retain-only row" in said
    assert "Memorisation, fold 0: vanilla minus retain-only" in said


def test_official_tables_show_rouge(comparison: Run) -> None:
    cells = tuple(cell.model_copy(update={"protocol": "official-zero-shot"}) for cell in comparison.cells)
    said = markdown(replace(comparison, cells=cells))
    assert "forget, generation (ROUGE-L)" in said and "forget, cloze |" in said


def test_trade_off(comparison: Run, tmp_path: Path) -> None:
    draw("trade-off", comparison, tmp_path)
    rows = data(tmp_path / "trade-off.csv")
    first = {r["label"]: r for r in rows if r["split"] == "forget_5"}
    ours = first["mllmeraser, default"]
    assert float(ours["forgetting"]) == 1.0 and ours["on_front"] == "True"
    assert first["retain-only"]["on_front"] == first["hook-off"]["on_front"] == "False", "nobody can use them"
    for row in rows:
        assert float(row["forgetting_low"]) <= float(row["forgetting"]) <= float(row["forgetting_high"])
    assert "grad-diff, joint" not in {r["label"] for r in rows if r["split"] == "forget_10"}


def test_the_front() -> None:
    points = {"a": (0.0, 1.0), "b": (0.9, 0.9), "c": (0.8, 0.8), "d": (1.0, 0.2), "twin": (1.0, 1.0)}
    rows = [
        {"method": "retain-only" if name == "twin" else name, "forgetting": f, "utility": u}
        for name, (f, u) in points.items()
    ]
    assert [row["method"] for row in front(rows)] == ["d", "b", "a"]


def test_outcomes_tell_a_collapse(comparison: Run, tmp_path: Path) -> None:
    draw("outcomes", comparison, tmp_path)
    rows = data(tmp_path / "outcomes.csv")
    told = {label: [r for r in rows if r["label"] == label] for label in ("grad-diff, joint", "mllmeraser, default")}
    assert sum(int(r["gibberish"]) for r in told["grad-diff, joint"]) > 0
    assert sum(int(r["gibberish"]) for r in told["mllmeraser, default"]) == 0
    assert {r["set"] for r in rows} == {"forget", "test"}


def test_time(comparison: Run, tmp_path: Path) -> None:
    draw("time", comparison, tmp_path)
    rows = {(r["split"], r["label"]): r for r in data(tmp_path / "time.csv")}
    ours = rows["forget_5", "mllmeraser, default"]
    assert (ours["cells"], ours["making_seconds"], ours["making_min"], ours["making_max"]) == ("4", "2.5", "2", "3")
    assert rows["forget_5", "vanilla"]["making_seconds"] == ""
    assert float(ours["answer_seconds"]) == pytest.approx(1 / 288, rel=1e-4)


def test_activations(comparison: Run, tmp_path: Path) -> None:
    draw("activations", comparison, tmp_path)
    numbers = data(tmp_path / "activations-numbers.csv")
    assert len(numbers) == 6 * 6 and {r["layer"] for r in numbers} == {"4"}
    still = [r for r in numbers if r["pair"] == "retain, before / retain, after"]
    assert {float(r["energy_share"]) for r in still} == {0.0}
    points = data(tmp_path / "activations.csv")
    assert len(points) == 6 * 2 * (12 + 15)


def test_refused_scores_leave_nothing_behind(comparison: Run, tmp_path: Path) -> None:
    write_exhibits(comparison, tmp_path)
    assert (tmp_path / "exhibits/trade-off.svg").exists()
    why = {("m", "forget_5"): "too little", ("m", "forget_10"): "too little"}
    write_exhibits(replace(comparison, refused=why), tmp_path)
    left = {file.name for file in (tmp_path / "exhibits").iterdir()}
    assert "trade-off.svg" not in left and "outcomes.pdf" not in left and "time.svg" in left
    assert "Scores are refused, there is too little to forget: too little" in (tmp_path / "report.html").read_text()


def test_nothing_at_all(tmp_path: Path) -> None:
    for name in EXHIBITS:
        assert draw(name, Run({"name": "empty"}, ()), tmp_path)
    assert not list(tmp_path.glob("*.svg"))
    with pytest.raises(InputError, match="unknown exhibit 'poster': there are main-table, trade-off"):
        draw("poster", Run({}, ()), tmp_path)


def test_the_page_is_whole(comparison: Run, tmp_path: Path) -> None:
    write_exhibits(replace(comparison, recipe={"name": "A <b>bold</b> name"}), tmp_path)
    page = (tmp_path / "report.html").read_text()
    seen: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append((tag, dict(attrs)))

    Reader().feed(page)
    assert "<b>bold" not in page and "script" not in {tag for tag, _ in seen}
    pictures = [about for tag, about in seen if tag == "img"]
    assert len(pictures) == 4 and all((p["src"] or "").startswith("data:image/svg+xml") and p["alt"] for p in pictures)
    assert not any((about.get("src") or about.get("href") or "").startswith("http") for _, about in seen)
