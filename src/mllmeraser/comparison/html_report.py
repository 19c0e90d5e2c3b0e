"""The report of a comparison: one self-contained HTML page, in the style of the demo's."""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from mllmeraser.comparison.exhibits import EXHIBITS, draw
from mllmeraser.comparison.exhibits.main_table import lines, notes
from mllmeraser.comparison.results import Run
from mllmeraser.samples.files import write_whole
from mllmeraser.version import __version__

FIGURES = {
    "trade-off": (
        "Forgetting against utility",
        "Up: the forgotten are not recalled. Right: everything else is. No row beats the rows on the line.",
    ),
    "outcomes": (
        "How answers about the forgotten ended",
        "A collapsed model recalls nothing either. Its answers are gibberish.",
    ),
    "time": ("Time", "Making a product, and answering while it is attached. Whiskers go from the least to the most."),
    "activations": (
        "States before and after steering",
        "At the first shifted layer, relative to the mean of each kind of question, in the plane of largest variance.",
    ),
}


def write_exhibits(run: Run, out: Path) -> list[Path]:
    """Write every exhibit into `out`/exhibits, then `out`/report.html; returns all files."""
    written = [file for name in EXHIBITS for file in draw(name, run, out / "exhibits")]
    page = out / "report.html"
    write_whole(page, render(run, out / "exhibits"), force=True)
    return [*written, page]


def render(run: Run, exhibits: Path) -> str:
    """The page, with the figures in `exhibits` inside it."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = (files("mllmeraser.comparison") / "templates" / "comparison.html.jinja").read_text(encoding="utf-8")
    style = (files("mllmeraser.report") / "templates" / "style.css").read_text(encoding="utf-8")
    first = run.cells[0] if run.cells else None
    return environment.from_string(template).render(
        style=Markup(style),
        name=run.recipe.get("name", "Comparison"),
        version=__version__,
        benchmark=first.benchmark if first else "",
        protocol=first.protocol if first else "",
        cells=len(run.cells),
        done=len(run.scored),
        places=[_place(run, model, split) for model, split in run.places],
        figures=[_figure(name, exhibits) for name in FIGURES if (exhibits / f"{name}.svg").is_file()],
    )


def _place(run: Run, model: str, split: str) -> dict[str, Any]:
    header, rows = lines(run, model, split)
    return {"title": f"{model}, {split}", "header": header, "rows": rows, "notes": notes(run, model, split)}


def _figure(name: str, exhibits: Path) -> dict[str, str]:
    title, text = FIGURES[name]
    data = base64.b64encode((exhibits / f"{name}.svg").read_bytes()).decode("ascii")
    return {"name": name, "title": title, "text": text, "image": f"data:image/svg+xml;base64,{data}"}
