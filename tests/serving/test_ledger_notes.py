"""Notes on entries, and the search for entries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ledger_kit import active, opened, raw, verified

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import Ledger, UnknownEntryError
from mllmeraser.serving.ledger.database import Database
from mllmeraser.serving.ledger.migrating import migrate

pytest_plugins = ["postgres_kit"]


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    with opened(database_url) as book:
        yield book


def test_notes_are_kept_in_order_and_not_in_the_record(ledger: Ledger) -> None:
    entry = active(ledger, "case-1")
    first = ledger.note("case-1", by="ann", text=" letter of 3 May ")
    ledger.revoke(entry.id, by="ann", reason="withdrawn")
    second = ledger.note(entry.id, by="bo", text="the letter was answered")
    assert ledger.notes(entry.id) == [first, second] and first.text == "letter of 3 May"
    assert [note.by for note in ledger.notes(entry.id)] == ["ann", "bo"] and first.at <= second.at
    noted = [event for event in ledger.events() if event.action == "noted"]
    assert [(event.about, event.details) for event in noted] == [
        (first.id, {"entry": entry.id}),
        (second.id, {"entry": entry.id}),
    ]
    assert "letter" not in str(ledger.events()) and ledger.verify_chain().ok
    assert ledger.notes(verified(ledger, "case-2", 2).id) == []


@pytest.mark.parametrize("text", ["", "  ", "two\nlines", "x" * 1001])
def test_what_cannot_be_a_note(ledger: Ledger, text: str) -> None:
    active(ledger, "a")
    head = ledger.head()
    with pytest.raises(InputError, match="the note"):
        ledger.note("a", by="ann", text=text)
    with pytest.raises(UnknownEntryError):
        ledger.note("b", by="ann", text="x")
    assert ledger.head() == head and ledger.notes("a") == []


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("UPDATE ledger_notes SET text = 'other'", "recorded other values"),
        ("UPDATE ledger_notes SET author = 'bo'", "recorded other values"),
        ("DELETE FROM ledger_notes", "which is gone"),
        ("UPDATE ledger_notes SET id = '00000000000000000000000000000000'", "no event recorded it"),
    ],
)
def test_a_note_that_is_changed_is_found(ledger: Ledger, database_url: str, sql: str, why: str) -> None:
    active(ledger, "a")
    ledger.note("a", by="ann", text="x")
    assert ledger.verify_chain().ok
    with raw(database_url) as run:
        run(sql)
    report = ledger.verify_chain()
    assert not report.ok and why in str(report.why)


def test_a_ledger_from_before_notes_gets_them(database_url: str) -> None:
    with opened(database_url) as ledger:
        entry = active(ledger, "a")
    database = Database(database_url)
    migrate(database, "0002")
    database.close()
    with opened(database_url) as ledger:
        assert ledger.verify_chain().ok and ledger.notes(entry.id) == []
        assert ledger.note("a", by="ann", text="x").text == "x"


def test_entries_are_found_by_name_and_id(ledger: Ledger) -> None:
    one, two, three = (
        active(ledger, "case-17", 1),
        verified(ledger, "case_7", 2, tenant="shop"),
        verified(ledger, "other.7", 3, passed=False),
    )

    def found(search: str, **more: object) -> list[str]:
        return [entry.name for entry in ledger.list(search=search, **more)]  # type: ignore[arg-type]

    assert found("case") == ["case-17", "case_7"] and found(" CASE-17 ") == ["case-17"]
    assert found("_7") == ["case_7"], "an underscore is no wildcard"
    assert found("") == ["case-17", "case_7", "other.7"]
    assert found(two.id[:9]) == ["case_7"] and found(three.id.upper()) == ["other.7"]
    assert found("7", state="checks_failed") == ["other.7"] and found("7", tenant="shop") == ["case_7"]
    assert found(one.id[1:9] + "zz") == []
    for odd in ("%", "a%", "a\x00", "ü", "' OR 1=1 --", "x" * 64):
        assert found(odd) == []
