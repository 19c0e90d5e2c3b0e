"""A signed certificate in, one page of HTML out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from jinja2.exceptions import UndefinedError
from markupsafe import Markup

from mllmeraser.samples.errors import InputError

TITLES = {
    "forget_decisions": "The decision acts on prompts about the subjects",
    "forget_answers": "What the model told about them is gone",
    "forget_gibberish": "Answers about them that are no language",
    "rest_unchanged": "What was not to be forgotten about them is answered as before",
    "neighbours_unchanged": "The people most like them: answered as before",
    "retain_unchanged": "Other people: answered as before",
    "general_unchanged": "Prompts about nobody: answered as before",
    "perception_unchanged": "What their pictures show: answered as before",
    "false_alarms": "The decision acts where it should not",
    "detached_identical": "Taken off, the model is as it was, bit for bit",
}


def render_certificate(document: Mapping[str, Any]) -> str:
    """The page: everything inline, nothing fetched, no script; readable in light, dark and print.

    Args:
        document: A certificate as `sign` returns it.

    Raises:
        InputError: It is none.
    """
    try:
        return (
            _environment()
            .get_template("certificate.html.jinja")
            .render(certificate=document, titles=TITLES, style=Markup(_read("certificate.css")))
        )
    except (UndefinedError, TypeError) as error:
        raise InputError(f"this is no signed certificate ({error})") from None


def percent(share: float | None) -> str:
    """A share as a percentage; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f} %"


def _read(name: str) -> str:
    return (files("mllmeraser.serving.verify") / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment
