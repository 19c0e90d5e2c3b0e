"""What the tests of the ledger share: a clock that is set by hand, light hashes, made-up artifacts, raw SQL."""

from __future__ import annotations

import hashlib
import json
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
    """A clock that stands where it was put."""

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
    """An entry that went up to verification."""
    entry = ledger.request(name, by="ann", **options)
    ledger.fitted(entry.id, by="fit", **artifact(seed))
    return ledger.verified(entry.id, by="verify", scores={"forget": 0.99}, passed=passed)


def active(ledger: Ledger, name: str, seed: int = 0, **options: Any) -> Entry:
    """An entry in force."""
    return ledger.activate(verified(ledger, name, seed, **options).id, by="ann")


@contextmanager
def raw(url: str) -> Iterator[Any]:
    """Run SQL behind the ledger's back: `run(sql)`; everything is committed in the end."""
    engine = create_engine(parse_url(url))
    try:
        with engine.begin() as connection:
            yield lambda sql, **values: connection.execute(text(sql), values)
    finally:
        engine.dispose()


def without_triggers(run: Any, url: str) -> None:
    """What somebody who owns the database can do."""
    names = ("no_update", "no_delete", "no_replace") if url.startswith("sqlite") else ("no_change", "no_truncate")
    for name in names:
        run(f"DROP TRIGGER ledger_events_{name}" + ("" if url.startswith("sqlite") else " ON ledger_events"))
