"""Engines on tiny models, and prompts and choices to put to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from mllmeraser.erasure.steering.plan import Steerable
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import Sample
from mllmeraser.serving.engine import BatchReport, Choose, Engine, EngineSettings, Prompt, Sampling, Ticket

SOON = 120.0
"""Seconds after which a test that waits has failed."""
FULL = 10.0
"""The longest `max_wait_s`: a batch begins when it is full, however slowly its requests arrive."""


class Steps:
    """Holds each forward pass of a model until the test lets it run; at the end of the block all run."""

    def __init__(self, model: MultimodalModel) -> None:
        self.reached = threading.Event()
        self._model, self._permits, self._free = model, threading.Semaphore(0), False

    def __enter__(self) -> Steps:
        self._hook = self._model.hf.register_forward_pre_hook(self._wait)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()
        self._free = True
        self.let(1)

    def let(self, passes: int) -> None:
        """Let so many forward passes run."""
        self._permits.release(passes)

    def _wait(self, *_: object) -> None:
        self.reached.set()
        assert self._free or self._permits.acquire(timeout=SOON), "the test did not let the model run"


class Clock:
    """The clock of requests and deadlines: a test sets it forward by `ahead` seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        shifted = SimpleNamespace(monotonic=lambda: time.monotonic() + self.ahead)
        for module in ("engine", "rows", "queue"):
            monkeypatch.setattr(f"mllmeraser.serving.engine.{module}.time", shifted)


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
    return Prompt(model.prompts.text(sample), () if sample.image is None else (sample.image,))


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
