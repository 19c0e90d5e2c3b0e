"""A signed certificate as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from mllmeraser.serving.verify.sheet import CHECKABLE, COLUMNS, sheet_of


def render_certificate(document: Mapping[str, Any]) -> str:
    """Render a signed certificate. The page is self-contained, without scripts, and has light, dark and print styles.

    Raises:
        InputError: If the document is not a certificate as `sign` returns it.
    """
    page = _environment().get_template("certificate.html.jinja")
    style = Markup(_read("certificate.css"))
    return page.render(sheet=sheet_of(document), columns=COLUMNS, checkable=CHECKABLE, style=style)


def _read(name: str) -> str:
    return (files("mllmeraser.serving.verify") / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    loader = FunctionLoader(_read)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
