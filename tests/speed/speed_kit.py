"""What the tests of the speed benchmarks ask of a report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
Run = Callable[..., dict[str, Any]]
"""Runs a script's main with some arguments, and gives what it wrote."""


def is_timing(found: Any, repeats: int) -> bool:
    """Whether this is what a report says about times: every repeat, and a median among or between them."""
    values = found["repeats"]
    slack = 1e-6  # repeats are rounded
    return len(values) == repeats and min(values) >= 0 and min(values) - slack <= found["median"] <= max(values) + slack


def is_ratio(found: Any) -> bool:
    """Whether this is a median with its interval."""
    return set(found) == {"median", "low", "high"} and found["low"] <= found["median"] <= found["high"]
