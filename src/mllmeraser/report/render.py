"""DemoResult in, one page of HTML out."""

from __future__ import annotations

import base64
from functools import cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from mllmeraser.report import figures, summary
from mllmeraser.report.content import OUTCOMES, DemoResult


def render_report(result: DemoResult) -> str:
    """The page, with everything inline: it fetches nothing, has no script, and works in light, dark and print."""
    labels, groups = summary.score_table(result.scores)
    page = _environment().get_template("page.html.jinja")
    return page.render(
        result=result,
        style=Markup(_read("style.css")),
        headline=summary.headline(result),
        labels=labels,
        groups=groups,
        outcomes=OUTCOMES,
        bars=summary.outcome_bars(result.scores),
    )


def png_uri(image: bytes) -> str:
    """A PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(image).decode("ascii")


def _read(name: str) -> str:
    return (files("mllmeraser.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "png": png_uri,
        "percent": summary.percent,
        "size": summary.size,
        "seconds": summary.seconds,
        "gate": figures.gate_picture,
    }
    environment.globals["interval"] = figures.interval_picture
    return environment
