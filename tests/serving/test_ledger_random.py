"""Random steps. After each, the set in force holds the active entries, and the version counts its changes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_kit import HOUR, Hands, artifact, opened
from sqlalchemy import event

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import Ledger

pytest_plugins = ["postgres_kit"]

ACTIONS = {
    "request": lambda ledger, name, clock, n: ledger.request(
        name,
        by="x",
        tenant=[None, "shop"][n % 2],
        default=n > 1,
        starts_at=[None, clock.now + HOUR][n // 2 % 2],
        expires_at=[None, clock.now + 3 * HOUR][n % 2],
        inputs=b"x",
    ),
    "failed": lambda ledger, name, clock, n: ledger.failed(name, by="x", reason="r"),
    "fitted": lambda ledger, name, clock, n: ledger.fitted(name, by="x", **artifact(n)),
    "verified": lambda ledger, name, clock, n: ledger.verified(name, by="x", scores={"n": n}, passed=n > 0),
    "activate": lambda ledger, name, clock, n: ledger.activate(name, by="x", force=[None, "why"][n // 3]),
    "suspend": lambda ledger, name, clock, n: ledger.suspend(name, by="x", reason="r"),
    "revoke": lambda ledger, name, clock, n: n == 0 and ledger.revoke(name, by="x", reason="r"),
    "schedule": lambda ledger, name, clock, n: ledger.schedule(
        name, by="x", starts_at=[None, clock.now + HOUR][n % 2], expires_at=[None, clock.now + 2 * HOUR][n // 2]
    ),
    "tick": lambda ledger, name, clock, n: ledger.tick(),
    "audit": lambda ledger, name, clock, n: ledger.audit("note", by="x", details={"n": n}),
    "wait": lambda ledger, name, clock, n: setattr(clock, "now", clock.now + timedelta(hours=[1, 1, 2, -3][n])),
}  # fmt: skip
# The usual steps first, so that random steps reach every state.
USUAL = ["request", "fitted", "verified", "activate"]
STEP = st.tuples(st.sampled_from(sorted(ACTIONS)), st.sampled_from(["a", "b", "c"]), st.integers(0, 3))
LIFE = st.builds(
    lambda names, steps: [(action, name, 1) for name in names for action in USUAL] + steps,
    st.lists(st.sampled_from(["a", "b", "c"]), max_size=3, unique=True),
    st.lists(STEP, max_size=14),
)


def in_force(ledger: Ledger) -> list[tuple[Any, ...]]:
    rows = [(e.name, e.tenant, e.default, e.artifact_digest) for e in ledger.list(state="active")]
    return sorted(rows, key=str)


def live(ledger: Ledger, clock: Hands, steps: list[tuple[str, str, int]]) -> None:
    """Take every step, and check the ledger after each."""
    before, version, seq = in_force(ledger), ledger.version(), ledger.head()[0]
    for action, name, number in steps:
        allowed = True
        try:
            ACTIONS[action](ledger, name, clock, number)
        except InputError:
            allowed = False
        current = ledger.active_set()
        now = in_force(ledger)
        assert sorted([(e.name, e.tenant, e.default, e.artifact_digest) for e in current.erasers], key=str) == now
        assert (current.version > version) == (now != before), action
        events = ledger.events(after=seq)
        assert allowed or not events
        for one in events:  # each event that changes the set is one version, and no other is
            changed = one.action in ("activated", "suspended") or (one.action == "revoked" and one.version > version)
            assert one.version == version + int(changed)
            version = one.version
        assert current.version == version
        before, seq = now, seq + len(events)
        if action == "tick":
            assert ledger.tick() == []
    for entry in ledger.list():
        assert (ledger.inputs(entry.id) is None) == (entry.state not in ("requested", "fitted"))
        assert entry.state not in ("active", "suspended") or entry.artifact_digest is not None
    assert ledger.verify_chain().ok


@contextmanager
def sqlite_ledger(clock: Hands) -> Iterator[Ledger]:
    with tempfile.TemporaryDirectory() as folder, opened(str(Path(folder) / "l.db"), clock=clock) as ledger:
        # faster, and safe because no test here crashes the machine
        ledger._database.engine.dispose()
        event.listen(ledger._database.engine, "connect", lambda c, _: c.execute("PRAGMA synchronous = OFF"))
        yield ledger


@settings(max_examples=20, deadline=None)
@given(steps=LIFE)
def test_any_life_in_sqlite(steps: list[tuple[str, str, int]]) -> None:
    clock = Hands()
    with sqlite_ledger(clock) as ledger:
        live(ledger, clock, steps)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=LIFE)
def test_any_life_in_postgresql(postgres_cluster: Any, steps: list[tuple[str, str, int]]) -> None:
    clock = Hands()
    with opened(postgres_cluster.emptied(), clock=clock) as ledger:
        live(ledger, clock, steps)


def test_the_lives_come_far(tmp_path: Path) -> None:
    """The steps are not all refused."""
    clock = Hands()
    with opened(str(tmp_path / "l.db"), clock=clock) as ledger:
        live(ledger, clock, [(action, name, 1) for name in "ab" for action in USUAL])
        clock.now += 3 * HOUR
        live(ledger, clock, [("tick", "a", 0)])
        assert ledger.version() == 4 and [e.state for e in ledger.list()] == ["suspended", "suspended"]
