"""Requests that wait in the queue of a running server as long as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from server_kit import Running, wait_for

from mllmeraser.serving.engine import Prompt, Sampling, Ticket


@contextmanager
def held_up(server: Running) -> Iterator[None]:
    """The engine's thread does not go on before the block ends."""
    gate, engine = threading.Event(), server.server.engine

    def choose(_: object) -> frozenset[str]:
        gate.wait(60)
        return frozenset()

    ticket = engine.submit(Prompt("Hi"), Sampling(max_tokens=1), choose, deadline_s=60)
    wait_for(lambda: engine.status().queued == 0)
    try:
        yield
    finally:
        gate.set()
        ticket.result(60)


def noted_tickets(server: Running, monkeypatch: pytest.MonkeyPatch) -> list[Ticket]:
    """The handles of the requests that come from now on."""
    tickets: list[Ticket] = []
    submit = server.server.engine.submit

    def noted(*args: Any, **options: Any) -> Ticket:
        tickets.append(submit(*args, **options))
        return tickets[-1]

    monkeypatch.setattr(server.server.engine, "submit", noted)
    return tickets
