"""The erasers that a request gets, equality of sets, and warnings for operators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_kit import HOUR, START, Hands, active, artifact, opened, verified

from mllmeraser.serving.ledger import ActiveEraser, EraserSet, Ledger, UnknownEraser
from mllmeraser.serving.ledger.conflicts import conflicts_among


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def ledger(tmp_path: Path, clock: Hands) -> Iterator[Ledger]:
    with opened(str(tmp_path / "ledger.db"), clock=clock) as book:
        yield book


def eraser(name: str, tenant: str | None = None, default: bool = True, digest: str = "d") -> ActiveEraser:
    return ActiveEraser("0" * 32, name, tenant, default, digest, "f")


SET = EraserSet(
    3,
    (
        eraser("all"),
        eraser("all-asked", default=False),
        eraser("shop", "shop"),
        eraser("shop-asked", "shop", default=False),
        eraser("bank", "bank"),
    ),
)


def test_who_gets_what() -> None:
    assert SET.chosen(None) == {"all"}
    assert SET.chosen("shop") == {"all", "shop"}
    assert SET.chosen("unknown") == {"all"}
    assert SET.chosen("shop", ["shop-asked"]) == {"all", "shop", "shop-asked"}
    assert SET.chosen("bank", {"all-asked", "bank"}) == {"all", "all-asked", "bank"}
    assert EraserSet(0, ()).chosen("shop") == frozenset()


def test_another_tenants_eraser_looks_like_none() -> None:
    with pytest.raises(UnknownEraser) as others:
        SET.chosen("shop", ["bank"])
    with pytest.raises(UnknownEraser) as missing:
        SET.chosen("shop", ["nada"])
    assert str(others.value).replace("bank", "nada") == str(missing.value)
    with pytest.raises(UnknownEraser):
        SET.chosen(None, ["shop"])


def test_digests_compare_what_acts() -> None:
    assert EraserSet(1, (eraser("a"),)).digest == EraserSet(9, (eraser("a"),)).digest
    others = [eraser("b"), eraser("a", "shop"), eraser("a", default=False), eraser("a", digest="e")]
    assert len({EraserSet(1, (one,)).digest for one in [eraser("a"), *others]}) == 5


def test_the_set_is_sorted_by_name(ledger: Ledger) -> None:
    for number, name in enumerate(["b", "a-b", "a.b", "a", "0"]):
        active(ledger, name, number)
    assert [e.name for e in ledger.active_set().erasers] == ["0", "a", "a-b", "a.b", "b"]


def test_no_conflicts(ledger: Ledger) -> None:
    active(ledger, "a", 1)
    assert ledger.conflicts(verified(ledger, "b", 2).id) == []


def test_conflicts(ledger: Ledger, clock: Hands) -> None:
    people = {"subjects": "0123456789abcdef,fedcba9876543210", "forget": "a" * 64, "n_forget": "5", "retain": "b" * 64}
    active(ledger, "first", 1, digests=people)
    entry = verified(
        ledger, "second", 1, digests={**people, "forget": "c" * 64}, expires_at=START + HOUR
    )  # retain data and counts may well be the same
    assert ledger.conflicts(entry.id) == [
        "first is active with the same artifact",
        "first (active) was requested for the same people",
    ]
    ledger.revoke("first", by="x", reason="r")
    assert ledger.conflicts("second") == []
    clock.now += HOUR
    (line,) = ledger.conflicts("second")
    assert "schedule was over" in line
    third = ledger.add("third", by="x", **{**artifact(3), "fingerprint": "model-2"}, digests={"forget": "c" * 64})
    ledger.activate(third.id, by="x", force="why")
    lines = ledger.conflicts("second")
    assert "third (active) was requested for the same samples" in lines
    assert "1 active eraser(s) were fitted on another model than this one" in lines


def test_conflicts_reveal_no_other_tenants(ledger: Ledger) -> None:
    people = {"subjects": "0123456789abcdef"}
    active(ledger, "secret-case", 1, tenant="bank", digests=people)
    mine = verified(ledger, "mine", 1, tenant="shop", digests=people)
    everybodys = verified(ledger, "everybodys", 1, digests=people)
    assert "secret-case" not in "".join(ledger.conflicts(mine.id))
    assert "secret-case" in "".join(ledger.conflicts(everybodys.id))


def test_a_tenant_is_warned_of_its_own_entries_alone(ledger: Ledger) -> None:
    people = {"subjects": "0123456789abcdef"}
    active(ledger, "for-everybody", 1, digests=people)
    for name, tenant in (("of-everybody", None), ("of-bank", "bank"), ("of-shop", "shop")):
        other = ledger.add(name, by="x", **{**artifact(len(name)), "fingerprint": "model-2"}, tenant=tenant)
        ledger.activate(other.id, by="x", force="why")
    active(ledger, "first", 2, tenant="shop", digests=people)
    ledger.revoke(verified(ledger, "over", 2, tenant="shop", digests=people).id, by="x", reason="r")
    mine = verified(ledger, "mine", 3, tenant="shop", digests=people)
    odd = "active eraser(s) were fitted on another model than this one"
    assert conflicts_among(mine, ledger.list(tenant="shop"), START) == [
        "first (active) was requested for the same people",
        f"1 {odd}",
    ]
    assert ledger.conflicts(mine.id) == [
        "for-everybody (active) was requested for the same people",
        "first (active) was requested for the same people",
        f"3 {odd}",
    ]


def test_a_salt_of_its_own(ledger: Ledger, tmp_path: Path) -> None:
    with opened(str(tmp_path / "other.db")) as other:
        assert len(ledger.salt) == 32 and ledger.salt == ledger.salt != other.salt
