"""Every step of an entry, allowed or not, schedules, and the recorded events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from ledger_kit import HOUR, START, Hands, active, artifact, opened, raw, verified

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import Entry, Ledger, NameTakenError, TransitionError, UnknownEntryError

pytest_plugins = ["postgres_kit"]


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def ledger(database_url: str, clock: Hands) -> Iterator[Ledger]:
    with opened(database_url, clock=clock) as book:
        yield book


def test_from_request_to_revocation(ledger: Ledger) -> None:
    assert ledger.active_set().version == ledger.version() == 0
    entry = ledger.request("case-1", by="ann", tenant="shop", default=False, digests={"forget": "ab"}, inputs=b"zip")
    assert (entry.state, entry.tenant, entry.default, entry.requested_by) == ("requested", "shop", False, "ann")
    assert entry.requested_at == START and ledger.inputs(entry.id) == b"zip"
    entry = ledger.failed(entry.id, by="fit", reason="no face was found")
    assert (entry.state, entry.failure) == ("requested", "no face was found") and ledger.inputs(entry.id) == b"zip"
    made = artifact(1)
    entry = ledger.fitted(entry.id, by="fit", **made)
    assert (entry.state, entry.failure, entry.fingerprint) == ("fitted", None, "model-1")
    assert ledger.inputs(entry.id) == b"zip" and ledger.has_inputs(entry.id), "verification needs them"
    entry = ledger.failed(entry.id, by="verify", reason="made for other weights")
    assert (entry.state, entry.failure) == ("fitted", "made for other weights") and ledger.has_inputs(entry.id)
    assert ledger.artifact(made["digest"]) == made["artifact"]
    entry = ledger.verified(entry.id, by="verify", scores={"forget": 0.5, "n": (1, 2)}, passed=False)
    assert entry.failure is None and entry.state == "checks_failed" and not ledger.has_inputs(entry.id)
    entry = ledger.verified(entry.id, by="verify", scores={"forget": 0.99}, passed=True)
    assert (entry.state, entry.passed, entry.scores) == ("verified", True, {"forget": 0.99})
    assert ledger.version() == 0
    assert ledger.activate(entry.id, by="ann").state == "active"
    (eraser,) = ledger.active_set().erasers
    assert (eraser.name, eraser.artifact_digest, eraser.fingerprint) == ("case-1", made["digest"], "model-1")
    assert ledger.suspend(entry.id, by="ann", reason="a doubt").state == "suspended"
    assert ledger.active_set().erasers == ()
    assert ledger.activate(entry.id, by="ann").state == "active"
    assert ledger.revoke(entry.id, by="ann", reason="withdrawn").state == "revoked"
    assert ledger.version() == 4 and ledger.active_set().erasers == ()
    history = ledger.history(entry.id)
    assert [event.action for event in history] == [
        *("requested", "failed", "fitted", "failed", "checks-failed", "verified"),
        *("activated", "suspended", "activated", "revoked"),
    ]
    assert [event.version for event in history] == [0, 0, 0, 0, 0, 0, 1, 2, 3, 4]
    assert [event.by for event in history[:3]] == ["ann", "fit", "fit"]
    assert history[-1].details["reason"] == "withdrawn"
    assert ledger.verify_chain().ok


def test_what_is_returned_is_what_is_stored(ledger: Ledger) -> None:
    for entry in (active(ledger, "a", starts_at=START - HOUR, expires_at=START + HOUR), verified(ledger, "b", 1)):
        assert ledger.get(entry.id) == ledger.get(entry.name) == entry
    assert ledger.list() == [ledger.get("a"), ledger.get("b")]


STEPS: dict[str, Callable[[Ledger, str], Any]] = {
    "fitted": lambda ledger, id: ledger.fitted(id, by="x", **artifact(9)),
    "failed": lambda ledger, id: ledger.failed(id, by="x", reason="r"),
    "verified": lambda ledger, id: ledger.verified(id, by="x", scores={}, passed=True),
    "checks-failed": lambda ledger, id: ledger.verified(id, by="x", scores={}, passed=False),
    "activate": lambda ledger, id: ledger.activate(id, by="x"),
    "force": lambda ledger, id: ledger.activate(id, by="x", force="why"),
    "suspend": lambda ledger, id: ledger.suspend(id, by="x", reason="r"),
    "revoke": lambda ledger, id: ledger.revoke(id, by="x", reason="r"),
}
WAYS = {
    "requested": (),
    "fitted": ("fitted",),
    "verified": ("fitted", "verified"),
    "checks_failed": ("fitted", "checks-failed"),
    "active": ("fitted", "verified", "activate"),
    "suspended": ("fitted", "verified", "activate", "suspend"),
    "revoked": ("revoke",),
}
ALLOWED = {
    "requested": {"fitted", "failed", "revoke"},
    "fitted": {"verified", "checks-failed", "failed", "force", "revoke"},
    "verified": {"verified", "checks-failed", "activate", "force", "revoke"},
    "checks_failed": {"verified", "checks-failed", "force", "revoke"},
    "active": {"suspend", "revoke"},
    "suspended": {"activate", "force", "revoke"},
    "revoked": set(),
}


def test_every_step_from_every_state(ledger: Ledger) -> None:
    """A step that is not allowed is refused in one line, and changes nothing."""
    for state, way in WAYS.items():
        for step, do in STEPS.items():
            entry = ledger.request("e", by="x")
            for earlier in way:
                STEPS[earlier](ledger, entry.id)
            before = (ledger.get(entry.id), ledger.head())
            if step in ALLOWED[state]:
                do(ledger, entry.id)
                assert ledger.head()[0] == before[1][0] + 1, (state, step)
            else:
                with pytest.raises(TransitionError, match=f"{state}|did not pass") as refused:
                    do(ledger, entry.id)
                assert "\n" not in str(refused.value)
                assert (ledger.get(entry.id), ledger.head()) == before, (state, step)
            if ledger.get(entry.id).state != "revoked":
                ledger.revoke(entry.id, by="x", reason="r")
    assert ledger.verify_chain().ok and ledger.active_set().erasers == ()


def test_the_message_names_both_states(ledger: Ledger) -> None:
    entry = active(ledger, "e")
    ledger.suspend(entry.id, by="x", reason="r")
    with pytest.raises(TransitionError, match="^e: suspended cannot become verified$"):
        ledger.verified(entry.id, by="x", scores={}, passed=True)


def test_names_are_unique_until_revoked(ledger: Ledger) -> None:
    first = ledger.request("case", by="ann")
    with pytest.raises(NameTakenError, match="case"):
        ledger.request("case", by="ann", tenant="other")
    ledger.revoke("case", by="ann", reason="r")
    second = ledger.request("case", by="ann")
    assert ledger.get("case").id == second.id != first.id
    assert ledger.get(first.id).state == "revoked"


@pytest.mark.parametrize("name", ["", "Jane", "a b", "-a", "a/b", "a" * 64, "0" * 32, "a\n", "ü"])
def test_names_that_cannot_be(ledger: Ledger, name: str) -> None:
    with pytest.raises(InputError, match="cannot be a name"):
        ledger.request(name, by="ann")


@pytest.mark.parametrize("id", ["missing", "0" * 32, "", "a\x00b", "' OR 1=1 --", "x" * 1000])
def test_unknown_entries(ledger: Ledger, id: str) -> None:
    for ask in (ledger.get, ledger.history, ledger.inputs, ledger.conflicts):
        with pytest.raises(UnknownEntryError):
            ask(id)
    with pytest.raises(UnknownEntryError):
        ledger.suspend(id, by="ann", reason="r")


def test_what_cannot_be_recorded(ledger: Ledger) -> None:
    entry = verified(ledger, "e")
    head = ledger.head()
    bad: list[Callable[[], object]] = [
        lambda: ledger.verified(entry.id, by="x", scores={"a": float("nan")}, passed=True),
        lambda: ledger.verified(entry.id, by="x", scores={"a": object()}, passed=True),
        lambda: ledger.suspend(entry.id, by="", reason="r"),
        lambda: ledger.revoke(entry.id, by="x", reason=" "),
        lambda: ledger.revoke(entry.id, by="x", reason="two\nlines"),
        lambda: ledger.request("f", by="x", tenant="a b"),
        lambda: ledger.request("f", by="x", digests={"n": 3}),  # type: ignore[dict-item]
        lambda: ledger.request("f", by="x", starts_at=datetime(2031, 1, 1)),
        lambda: ledger.request("f", by="x", expires_at=START - HOUR),
        lambda: ledger.request("f", by="x", starts_at=START + 2 * HOUR, expires_at=START + HOUR),
        lambda: ledger.request("f", by="x", starts_at=datetime.max.replace(tzinfo=START.tzinfo)),
        lambda: ledger.audit("activated", by="x", details={}),
        lambda: ledger.audit("Bad Word", by="x", details={}),
        lambda: ledger.list(state="gone"),  # type: ignore[arg-type]
        lambda: ledger.events(limit=0),
    ]
    for number, do in enumerate(bad):
        with pytest.raises(InputError):
            do()
            pytest.fail(f"number {number} was recorded")
    assert ledger.head() == head and ledger.verify_chain().ok


def test_an_artifact_that_is_not_what_its_digest_says(ledger: Ledger) -> None:
    entry = ledger.request("e", by="x", inputs=b"kept")
    made = artifact(1)
    made["artifact"] = {**made["artifact"], "eraser_model.safetensors": b"something else"}
    with pytest.raises(InputError, match="no file of the artifact has this digest"):
        ledger.fitted(entry.id, by="x", **made)
    assert ledger.get(entry.id).state == "requested" and ledger.inputs(entry.id) == b"kept"


def test_force_is_recorded(ledger: Ledger) -> None:
    entry = verified(ledger, "e", passed=False)
    with pytest.raises(TransitionError, match="did not pass"):
        ledger.activate(entry.id, by="ann")
    ledger.activate(entry.id, by="ann", force="checked by hand")
    assert ledger.history(entry.id)[-1].details["force"] == "checked by hand"
    ledger.suspend(entry.id, by="ann", reason="r")
    with pytest.raises(TransitionError, match="did not pass"):
        ledger.activate(entry.id, by="ann")


def test_a_schedule(ledger: Ledger, clock: Hands) -> None:
    entry = verified(ledger, "e", starts_at=START + HOUR, expires_at=START + 2 * HOUR)
    waiting = ledger.activate(entry.id, by="ann")
    assert (waiting.state, waiting.pending) == ("verified", True) and ledger.tick() == []
    clock.now = START + HOUR
    assert [(e.name, e.state) for e in ledger.tick()] == [("e", "active")]
    assert ledger.tick() == [] and ledger.version() == 1
    clock.now = START + 2 * HOUR
    assert [(e.name, e.state) for e in ledger.tick()] == [("e", "suspended")]
    assert ledger.tick() == [] and ledger.version() == 2
    assert ledger.history("e")[-1].details["reason"] == "expired"
    with pytest.raises(TransitionError, match="schedule is over"):
        ledger.activate("e", by="ann")
    ledger.schedule("e", by="ann", expires_at=START + 9 * HOUR)
    assert ledger.activate("e", by="ann").state == "active"
    assert ledger.verify_chain().ok


def test_what_tick_leaves_alone(ledger: Ledger, clock: Hands) -> None:
    soon = START + HOUR
    verified(ledger, "not-passed", 1, passed=False, starts_at=soon)
    verified(ledger, "no-start", 2)
    ledger.request("not-fitted", by="x", starts_at=soon)
    active(ledger, "by-hand", 3)
    ledger.suspend("by-hand", by="x", reason="r")
    ledger.schedule("by-hand", by="x", starts_at=soon)  # a schedule alone does not undo a suspension
    verified(ledger, "cleared", 4, starts_at=soon)
    ledger.activate("cleared", by="x")
    ledger.schedule("cleared", by="x")
    verified(ledger, "too-late", 5, starts_at=soon, expires_at=soon + HOUR)
    clock.now = soon + 2 * HOUR
    assert ledger.tick() == [] and ledger.version() == 2


def test_what_tick_does(ledger: Ledger) -> None:
    soon = START + HOUR
    verified(ledger, "passed", 1, starts_at=soon)
    verified(ledger, "forced", 2, passed=False, starts_at=soon)
    ledger.activate("forced", by="x", force="why")
    active(ledger, "again", 3)
    ledger.suspend("again", by="x", reason="r")
    ledger.schedule("again", by="x", starts_at=soon)
    assert ledger.activate("again", by="x").state == "suspended"
    entry = ledger.request("unverified", by="x", starts_at=soon)
    ledger.fitted(entry.id, by="x", **artifact(4))
    assert ledger.activate("unverified", by="x", force="why").state == "fitted"
    verified(ledger, "late-failure", 5, starts_at=soon)
    ledger.activate("late-failure", by="x", force="why")
    ledger.verified("late-failure", by="x", scores={}, passed=False)  # an operator has to decide again
    before = ledger.version()
    assert [e.name for e in ledger.tick(soon)] == ["passed", "forced", "again", "unverified"]
    assert ledger.version() == before + 4


def test_an_active_entry_is_not_put_off_silently(ledger: Ledger) -> None:
    active(ledger, "e")
    with pytest.raises(TransitionError, match="active already"):
        ledger.schedule("e", by="x", starts_at=START + HOUR)
    assert ledger.schedule("e", by="x", expires_at=START + HOUR).state == "active"


def test_a_clock_that_jumps_back(ledger: Ledger, clock: Hands) -> None:
    entry = active(ledger, "e", expires_at=START + HOUR)
    clock.now = START + HOUR
    assert ledger.tick()[0].state == "suspended"
    clock.now = START - 1000 * HOUR
    assert ledger.tick() == []
    other = ledger.request("later", by="x")
    assert [e.name for e in ledger.list()] == ["e", "later"] and other.requested_at < entry.requested_at
    events = ledger.events()
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].at < events[-2].at and ledger.verify_chain().ok


def test_listing(ledger: Ledger) -> None:
    active(ledger, "a", 1, tenant="shop")
    verified(ledger, "b", 2)
    assert [e.name for e in ledger.list(state="active")] == ["a"]
    assert [e.name for e in ledger.list(tenant="shop")] == ["a"]
    assert [e.name for e in ledger.list(state="verified", tenant="shop")] == []
    verified(ledger, "c", 3, passed=False)
    assert [e.name for e in ledger.list(state="verified")] == ["b"]
    assert [e.name for e in ledger.list(state="checks_failed")] == ["c"]
    assert ledger.counts() == {
        **{"requested": 0, "fitted": 0, "verified": 1, "checks_failed": 1, "active": 1, "suspended": 0, "revoked": 0}
    }


def test_a_failed_verification_of_an_older_ledger(ledger: Ledger, database_url: str) -> None:
    """Rows are as an older version wrote them: state "verified", and beside it that it did not pass."""
    entry = verified(ledger, "old", passed=False)
    with raw(database_url) as run:
        assert run("SELECT state, passed FROM ledger_entries").one() == ("verified", False)
    with opened(database_url) as again:
        assert again.get("old").state == "checks_failed" == again.list()[0].as_dict()["state"]
        assert again.verify_chain().ok
        with pytest.raises(TransitionError, match="did not pass"):
            again.activate("old", by="ann")
        assert again.activate("old", by="ann", force="checked by hand").state == "active"
        assert again.suspend(entry.id, by="ann", reason="r").state == "suspended" and again.verify_chain().ok


def test_events_by_page_and_audit(ledger: Ledger) -> None:
    for number in range(5):
        assert ledger.audit("server-started", by="srv", details={"n": number}).seq == number + 1
    assert [e.details["n"] for e in ledger.events(after=2, limit=2)] == [2, 3]
    assert ledger.events(after=2**80) == []
    assert ledger.head() == (5, ledger.events()[-1].hash)


def test_servers(ledger: Ledger, clock: Hands) -> None:
    ledger.heartbeat("one", 3, ready=False)
    ledger.heartbeat("two", 3, ready=True)
    clock.now += HOUR
    ledger.heartbeat("one", 4, ready=True)
    assert [(s.server, s.version, s.ready) for s in ledger.servers()] == [("one", 4, True), ("two", 3, True)]
    assert ledger.servers()[0].seen_at == clock.now
    assert [s.server for s in ledger.servers(within=HOUR / 2)] == ["one"]
    assert ledger.head()[0] == 0


def test_add_is_one_change(ledger: Ledger) -> None:
    entry: Entry = ledger.add("made-elsewhere", by="ann", **artifact(1))
    assert entry.state == "fitted" and [e.action for e in ledger.events()] == ["requested", "fitted"]
    bad = {**artifact(2), "digest": "0" * 64}
    with pytest.raises(InputError):
        ledger.add("other", by="ann", **bad)
    assert ledger.head()[0] == 2 and [e.name for e in ledger.list()] == ["made-elsewhere"]
