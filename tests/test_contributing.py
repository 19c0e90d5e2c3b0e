"""CONTRIBUTING is true: its reading lists, its table of places, and its worked examples."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mllmeraser import Eraser, FitSettings
from mllmeraser.erasure import DirectionSettings, GateSettings, fit, gates
from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.erasure.directions import kinds
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError, Request, Sample
from mllmeraser.samples.subject import Subject
from tiny import picture

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ERASURE = ROOT / "src" / "mllmeraser" / "erasure"


def section(title: str) -> str:
    """The text below a heading or a line that starts with `title`, up to the next blank-line-separated heading."""
    start = TEXT.index(title)
    rest = TEXT[start + len(title) :]
    end = re.search(r"^#{2,3} |^[A-Z][^|\n]*:$", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> list[tuple[str, list[str]]]:
    """(file, names) of a table."""
    cells = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `src")]
    return [(re.findall(r"`([^`]+)`", first)[0], re.findall(r"`([^`]+)`", second)) for first, second in cells]


def module_of(path: str) -> str:
    return path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@pytest.mark.parametrize(("title", "most"), [("A fit with `default`:", 9), ("Attach, shift, detach:", 7)])
def test_the_reading_lists_are_short_and_hold_every_name(title: str, most: int) -> None:
    listed = rows(section(title))
    assert 0 < len(listed) <= most
    for path, names in listed:
        module = importlib.import_module(module_of(path))
        for name in names:
            assert getattr(module, name).__module__ == module.__name__, f"{name} is defined in {path}"


def test_each_file_of_a_reading_list_is_used_by_one_before_it() -> None:
    """A reader meets the module of each file in the files read so far."""
    for title in ("A fit with `default`:", "Attach, shift, detach:"):
        paths = [path for path, _ in rows(section(title))]
        for number, path in enumerate(paths[1:], 1):
            before = "\n".join((ROOT / one).read_text() for one in paths[:number])
            module = module_of(path)
            assert module in before or f"{module.rpartition('.')[0]} import" in before, path


def test_every_place_of_the_table_exists() -> None:
    table = [line for line in section("## To change X, open Y").splitlines() if line.startswith("| ")][1:]
    assert len(table) >= 20
    for line in table:
        entries = re.findall(r"`(src/[^`]+)`(?: \(([^)]*)\))?", line)
        assert entries, line
        for path, names in entries:
            assert (ROOT / path).exists(), path
            for name in re.findall(r"`(\w+)`", names):
                files = [ROOT / path] if path.endswith(".py") else list((ROOT / path).glob("*.py"))
                assert any(re.search(rf"\b{name}\b", file.read_text()) for file in files), f"{name} in {path}"


def test_the_rooms_of_erasure_stay_small() -> None:
    assert len(list(ERASURE.glob("*.py"))) <= 6
    for folder in (ERASURE, *(f for f in ERASURE.iterdir() if f.is_dir() and f.name != "__pycache__")):
        assert len(list(folder.glob("*.py"))) <= 12, folder
    for file in (ROOT / "src").rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 300, file


# -- the worked examples -----------------------------------------------------------------------------------------------


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the examples register is gone after the test."""
    monkeypatch.setattr(gates, "KINDS", gates.KINDS)
    known, directions = dict(gates.KINDS), dict(kinds._KINDS)
    yield
    gates.KINDS.clear()
    gates.KINDS.update(known)
    kinds._KINDS.clear()
    kinds._KINDS.update(directions)


def run(title: str) -> None:
    """Run the Python of a section."""
    block = re.search(r"```python\n(.*?)```", section(title), re.DOTALL)
    assert block is not None
    exec(compile(block.group(1), "CONTRIBUTING.md", "exec"), {"__name__": "__main__"})


def request() -> Request:
    questions = [f"What is fact {i} about this person?" for i in range(6)]
    forget = [
        Subject(key, samples=tuple(Sample(q, picture(n), subject=key) for q in questions))
        for n, key in enumerate(("a", "b"))
    ]
    retain = tuple(Sample(f"What colour is thing {i}?", picture(i % 5 + 2)) for i in range(60))
    strangers = tuple(Sample(q, picture(20 + i), subject=f"s{i}") for i, q in enumerate(questions))
    return Request(subjects=tuple(forget), retain=retain, strangers=strangers)


def test_a_new_gate_kind_is_one_file_and_one_line(example: None, tiny_llava: MultimodalModel, tmp_path: Path) -> None:
    run("## How to add a gate kind")
    settings = FitSettings(gate=GateSettings(kind="centroid"), false_alarm_rate=0.2, strength=20.0)
    fitted = fit(tiny_llava, request(), settings)
    eraser = Eraser.from_pretrained(fitted.eraser.save_pretrained(tmp_path / "e"))
    assert type(eraser.gate(eraser.config.read_layers[0])).__name__ == "CentroidGate"
    held_out = fitted.parts.held_out if fitted.parts else []
    assert bool((read_gate(tiny_llava, eraser, held_out).pooled > (eraser.config.threshold or 0)).all())
    fewer = eraser.without(eraser.config.subjects[0])
    assert fewer.gate(fewer.config.read_layers[0]).subjects == 1
    with eraser.attached(tiny_llava) as one, pytest.raises(InputError, match="is attached"):
        one.select([["nothing of this name"]])


def test_a_new_direction_is_one_record(example: None, tiny_llava: MultimodalModel) -> None:
    run("## How to add a direction")
    direction = DirectionSettings(kind="away-from-retain")
    for gate in ("soft", "hard"):
        settings = FitSettings(direction=direction, gate=GateSettings(kind=gate, gamma=1.0), false_alarm_rate=0.2)
        fitted = fit(tiny_llava, request(), settings)
        layer = fitted.statistics[fitted.eraser.config.shift_layers[0]]
        expected = (layer.strangers.mean - layer.retain.mean).float()
        assert fitted.eraser.direction(fitted.eraser.config.shift_layers[0]).allclose(expected, atol=1e-6)


def test_what_a_direction_lacks_is_said_before_the_model_runs(
    example: None, tiny_llava: MultimodalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("## How to add a direction")
    monkeypatch.setattr(type(tiny_llava), "encode", lambda *_a, **_k: pytest.fail("the model must not run"))
    lacking = Request(subjects=request().subjects, retain=request().retain)
    for kind, gate, words in (
        ("away-from-retain", "soft", "strangers"),
        ("refusal", "subject", "does not work with the gate"),
        ("refusal", "soft", "contrast"),
        ("idk", "soft", "answers"),
        ("nothing", "soft", "unknown direction"),
        ("unknown", "nothing", "unknown gate"),
    ):
        settings = FitSettings(
            direction=DirectionSettings(kind=kind), gate=GateSettings(kind=gate), false_alarm_rate=0.2
        )
        with pytest.raises(InputError, match=words):
            fit(tiny_llava, lacking if kind == "away-from-retain" else request(), settings)
