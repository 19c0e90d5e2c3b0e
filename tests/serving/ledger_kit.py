"""Helpers for the tests of the ledger: a clock set by hand, fast hashes, made-up artifacts, raw SQL, threads."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

from argon2 import PasswordHasher
from sqlalchemy import create_engine, text

from mllmeraser.serving.ledger import Entry, Ledger
from mllmeraser.serving.ledger.database import parse_url

LIGHT = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
START = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)


class Hands:
    """A clock set by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def opened(url: str, **options: Any) -> Ledger:
    return Ledger.open(url, **{"hasher": LIGHT, **options})


def artifact(seed: int = 0, **manifest: Any) -> dict[str, Any]:
    """Arguments of `fitted` for a made-up eraser."""
    tensors = f"tensors {seed}".encode()
    config = json.dumps({"format_version": 2, "strength": 1.0, "created": "2030", **manifest})
    return {
        "artifact": {"eraser_config.json": config.encode(), "eraser_model.safetensors": tensors},
        "digest": hashlib.sha256(tensors).hexdigest(),
        "fingerprint": "model-1",
    }


def verified(ledger: Ledger, name: str, seed: int = 0, *, passed: bool = True, **options: Any) -> Entry:
    """A verified entry."""
    entry = ledger.request(name, by="ann", **options)
    ledger.fitted(entry.id, by="fit", **artifact(seed))
    return ledger.verified(entry.id, by="verify", scores={"forget": 0.99}, passed=passed)


def active(ledger: Ledger, name: str, seed: int = 0, **options: Any) -> Entry:
    """An active entry."""
    return ledger.activate(verified(ledger, name, seed, **options).id, by="ann")


@contextmanager
def raw(url: str) -> Iterator[Any]:
    """Yields `run(sql)`, which runs SQL outside the ledger. Everything is committed at the end."""
    engine = create_engine(parse_url(url))
    try:
        with engine.begin() as connection:
            yield lambda sql, **values: connection.execute(text(sql), values)
    finally:
        engine.dispose()


def without_triggers(run: Any, url: str) -> None:
    """Drop the triggers, as the owner of the database can."""
    names = ("no_update", "no_delete", "no_replace") if url.startswith("sqlite") else ("no_change", "no_truncate")
    for name in names:
        run(f"DROP TRIGGER ledger_events_{name}" + ("" if url.startswith("sqlite") else " ON ledger_events"))


def together(*jobs: Any) -> list[BaseException]:
    """Run all jobs at once in threads. Returns the errors they raised."""
    raised: list[BaseException] = []

    def run(job: Any) -> None:
        try:
            job()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised
