"""Engines on tiny models, and prompts and choices to put to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mllmeraser.erasure.steering.plan import Steerable
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import Sample
from mllmeraser.serving.engine import BatchReport, Choose, Engine, EngineSettings, Prompt, Sampling, Ticket

SOON = 60.0
"""Seconds after which a test that waits has failed."""


@contextmanager
def running(
    model: MultimodalModel,
    erasers: Mapping[str, Steerable] | None = None,
    *,
    version: int = 1,
    observe: Callable[[BatchReport], None] | None = None,
    **settings: Any,
) -> Iterator[Engine]:
    """A started engine with `erasers` in force; leaves the model bare."""
    engine = Engine(model, EngineSettings(**settings), observe)
    engine.start()
    try:
        engine.apply(version, erasers or {}).result(SOON)
        yield engine
    finally:
        assert engine.stop(drain=False, timeout_s=SOON)


def prompt(model: MultimodalModel, sample: Sample) -> Prompt:
    return Prompt(model.prompts.text(sample), sample.image)


def only(*names: str) -> Choose:
    return lambda view: frozenset(names)


def ask(
    engine: Engine,
    model: MultimodalModel,
    sample: Sample,
    names: Sequence[str] = (),
    *,
    deadline_s: float = SOON,
    choose: Choose | None = None,
    **sampling: Any,
) -> Ticket:
    """Submit a sample."""
    settings = Sampling(**{"max_tokens": 12, **sampling})
    return engine.submit(prompt(model, sample), settings, choose or only(*names), deadline_s=deadline_s)


def answers(tickets: Sequence[Ticket]) -> list[str]:
    return [ticket.result(SOON).text for ticket in tickets]
