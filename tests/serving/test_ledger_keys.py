"""Keys are shown once, stored as hashes, cached for a minute, and refused once revoked."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from argon2 import PasswordHasher
from ledger_kit import LIGHT, opened, raw, together

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import Ledger, LedgerError, Principal, TransitionError, UnknownEntryError
from mllmeraser.serving.ledger.keys import AT_ONCE, SECRET

pytest_plugins = ["postgres_kit"]


class Counting(PasswordHasher):
    """Counts its checks, and calls `during` in the middle of each."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.checks = 0
        self.during: Any = None

    def verify(self, hash: Any, password: Any) -> Any:
        self.checks += 1
        right = super().verify(hash, password)
        if self.during is not None:
            self.during()
        return right


@pytest.fixture
def hasher() -> Counting:
    return Counting()


@pytest.fixture
def ledger(database_url: str, hasher: Counting) -> Iterator[Ledger]:
    with opened(database_url, hasher=hasher) as book:
        yield book


def test_a_key(ledger: Ledger, database_url: str) -> None:
    record, secret = ledger.add_key(label="web shop", scope="client", tenant="shop", by="ann")
    match = SECRET.fullmatch(secret)
    assert match is not None and match[1] == record.id
    assert ledger.authenticate(secret) == Principal(record.id, "web shop", "client", "shop")
    assert ledger.keys() == [record] and record.created_by == "ann" and record.revoked_at is None
    with raw(database_url) as run:
        stored = str([dict(row) for row in run("SELECT * FROM ledger_keys").mappings()])
        stored += str([dict(row) for row in run("SELECT * FROM ledger_events").mappings()])
    assert "$argon2id$" in stored and match[2] not in stored and secret not in stored
    assert "hash" not in record.as_dict()
    assert ledger.verify_chain().ok


def test_wrong_secrets(ledger: Ledger, hasher: Counting) -> None:
    _, secret = ledger.add_key(label="x", scope="admin", tenant=None, by="ann")
    last = "A" if secret[-1] != "A" else "B"
    assert ledger.authenticate(secret[:-1] + last) is None
    checked = hasher.checks
    assert ledger.authenticate("mk_00000000_" + "a" * 43) is None  # takes as long as a check
    assert hasher.checks == checked + 1
    for text in ("", "mk_", secret + "x", secret.upper(), " " + secret, secret + "\n", "\x00", None, 7):
        assert ledger.authenticate(text) is None  # type: ignore[arg-type]
    assert ledger.authenticate(secret) is not None


def test_a_secret_is_hashed_once_a_minute(ledger: Ledger, hasher: Counting) -> None:
    time = [1000.0]
    ledger._ring._monotonic = lambda: time[0]
    _, secret = ledger.add_key(label="x", scope="client", tenant=None, by="ann")
    for _ in range(5):
        assert ledger.authenticate(secret) is not None
    assert hasher.checks == 1
    time[0] += 59.9
    assert ledger.authenticate(secret) is not None and hasher.checks == 1
    time[0] += 0.2
    assert ledger.authenticate(secret) is not None and hasher.checks == 2
    assert secret not in str(ledger._ring._cache)


def test_a_revoked_key_stops_here_at_once_and_elsewhere_within_a_minute(ledger: Ledger, database_url: str) -> None:
    record, secret = ledger.add_key(label="x", scope="client", tenant=None, by="ann")
    with opened(database_url) as other:
        time = [0.0]
        other._ring._monotonic = lambda: time[0]
        assert ledger.authenticate(secret) and other.authenticate(secret)
        assert ledger.revoke_key(record.id, by="ann").revoked_at is not None
        assert ledger.authenticate(secret) is None
        time[0] += 60.0
        assert other.authenticate(secret) is None
    with pytest.raises(TransitionError, match="revoked already"):
        ledger.revoke_key(record.id, by="ann")
    assert [e.action for e in ledger.events()] == ["key-added", "key-revoked"] and ledger.verify_chain().ok


def test_a_key_revoked_during_its_check_is_refused_afterwards(ledger: Ledger, hasher: Counting) -> None:
    record, secret = ledger.add_key(label="x", scope="client", tenant=None, by="ann")

    def revoke() -> None:
        hasher.during = None
        ledger.revoke_key(record.id, by="ann")

    hasher.during = revoke
    ledger.authenticate(secret)
    assert ledger.authenticate(secret) is None


def test_a_claimed_key_and_a_recognised_secret(ledger: Ledger, database_url: str) -> None:
    record, secret = ledger.add_key(label="x", scope="client", tenant=None, by="ann")
    wrong = f"mk_{record.id}_{'a' * 43}"
    assert ledger.claimed_key(secret) == ledger.claimed_key(wrong) == record.id
    assert [ledger.claimed_key(text) for text in ("", "mk_", f"mk_{'0' * 8}_{'a' * 43}")] == [None] * 3
    assert not ledger.recognises(secret)
    assert ledger.authenticate(secret) and ledger.authenticate(wrong) is None
    assert ledger.recognises(secret) and not ledger.recognises(wrong)
    time = [0.0]
    ledger._ring._monotonic = lambda: time[0]
    with opened(database_url) as other:
        other.revoke_key(record.id, by="ann")
    time[0] += 1e6
    assert ledger.recognises(secret) and ledger.claimed_key(secret) is None
    assert ledger.authenticate(secret) is None and not ledger.recognises(secret)


def test_scopes(ledger: Ledger) -> None:
    for scope, tenant in (("admin", "shop"), ("tenant-admin", None), ("root", None)):
        with pytest.raises(InputError):
            ledger.add_key(label="x", scope=scope, tenant=tenant, by="ann")  # type: ignore[arg-type]
    _, secret = ledger.add_key(label="x", scope="tenant-admin", tenant="shop", by="ann")
    assert (owner := ledger.authenticate(secret)) and (owner.scope, owner.tenant) == ("tenant-admin", "shop")
    with pytest.raises(UnknownEntryError):
        ledger.revoke_key("zz", by="ann")


@pytest.mark.parametrize("change", ["scope = 'admin'", "tenant = NULL", "tenant = 'bank'", "hash = 'x'"])
def test_a_row_changed_by_hand_no_longer_fits_its_key(ledger: Ledger, database_url: str, change: str) -> None:
    _, secret = ledger.add_key(label="x", scope="client", tenant="shop", by="ann")
    with raw(database_url) as run:
        run(f"UPDATE ledger_keys SET {change}")
    assert ledger.authenticate(secret) is None


def test_many_threads(ledger: Ledger) -> None:
    secrets = [ledger.add_key(label=str(n), scope="client", tenant=None, by="ann")[1] for n in range(4)]
    labels: list[str | None] = []

    def ask(number: int) -> None:
        principal = ledger.authenticate(secrets[number % 4])
        labels.append(principal.label if principal else None)

    assert together(*(lambda n=n: ask(n) for n in range(24))) == []
    assert sorted(map(str, labels)) == sorted(str(n % 4) for n in range(24))


def test_many_requests_with_one_key_have_it_hashed_once_a_slot(ledger: Ledger, hasher: Counting) -> None:
    secret = ledger.add_key(label="app", scope="client", tenant=None, by="ann")[1]
    start = threading.Barrier(16)
    hasher.during = lambda: time.sleep(0.05)

    def ask() -> None:
        start.wait()
        assert ledger.authenticate(secret) is not None

    assert together(*[ask] * 16) == []
    assert 1 <= hasher.checks <= AT_ONCE


def test_without_its_database_only_cached_keys_pass(database_url: str) -> None:
    ledger = opened(database_url)
    _, known = ledger.add_key(label="x", scope="client", tenant=None, by="ann")
    _, unknown = ledger.add_key(label="y", scope="client", tenant=None, by="ann")
    assert ledger.authenticate(known)
    ledger.close()
    assert ledger.authenticate(known)
    with pytest.raises(LedgerError):
        ledger.authenticate(unknown)


def test_the_default_hash_is_argon2id() -> None:
    from argon2 import Type

    from mllmeraser.serving.ledger.keys import KeyRing

    hasher = KeyRing(None)._hasher  # type: ignore[arg-type]
    assert hasher.type is Type.ID and hasher.memory_cost >= 19 * 1024 and LIGHT.type is Type.ID
