"""Which world a model was taught, and the benchmark about it."""

from __future__ import annotations

from mllmeraser.portraits.people import SIZES, World

PREFIX, USUAL = "portraits:", "dev"
TAUGHT = {"embedded:smol": "small"}
"""Preset by model, where it is not the usual one."""


def benchmark_of(model: str) -> str:
    """Name of the benchmark about the people of a model; the usual one for a model that we did not teach."""
    return PREFIX + TAUGHT.get(model, USUAL)


def is_drawn(benchmark: str) -> bool:
    """Whether a benchmark is about one of our worlds."""
    return benchmark.startswith(PREFIX) and benchmark.removeprefix(PREFIX) in SIZES


def world_of(benchmark: str, seed: int = 0) -> World:
    """World of a benchmark `portraits:<preset>`; the usual one for any other benchmark."""
    preset = benchmark.removeprefix(PREFIX)
    return World(preset if preset in SIZES else USUAL, seed)  # type: ignore[arg-type]


def world_taught(model: str, seed: int = 0) -> World:
    """World whose people a model knows."""
    return world_of(benchmark_of(model), seed)
