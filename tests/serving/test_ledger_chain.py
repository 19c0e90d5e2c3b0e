"""The database refuses changes made outside the ledger, or a check finds them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ledger_kit import active, artifact, opened, raw, verified, without_triggers
from sqlalchemy.exc import DBAPIError

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger import Ledger, LedgerError
from mllmeraser.serving.ledger.chain import canonical
from mllmeraser.serving.ledger.check import parse_head

if TYPE_CHECKING:
    from postgres_kit import Cluster

pytest_plugins = ["postgres_kit"]


def fill(url: str) -> None:
    """Two entries in force, a third verified, a key, an audit event: 13 events, version 2."""
    with opened(url) as book:
        active(book, "a", 1)
        active(book, "b", 2, tenant="shop")
        book.audit("server-started", by="srv", details={"n": 1})
        verified(book, "c", 3)
        book.add_key(label="shop", scope="client", tenant="shop", by="ann")
        assert book.verify_chain().ok


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger in SQLite, to be copied."""
    file = tmp_path_factory.mktemp("filled") / "ledger.db"
    fill(str(file))
    return file


@pytest.fixture(scope="module")
def filled_postgres(postgres_cluster: Cluster) -> str:
    """Name of a ledger's database, to be copied."""
    url = postgres_cluster.create()
    fill(url)
    return url.rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Address of a filled ledger for one test, in SQLite and in PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{shutil.copy(request.getfixturevalue('filled'), tmp_path)}"
        return
    cluster: Cluster = request.getfixturevalue("postgres_cluster")
    url = cluster.create(request.getfixturevalue("filled_postgres"))
    yield url
    cluster.drop(url)


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    with opened(database_url) as book:
        yield book


def test_a_third_party_can_check_it_too(ledger: Ledger) -> None:
    """Recompute the hashes from the plain data that `ledger history --json` and `/v1/audit` show."""
    before = "0" * 64
    for event in ledger.events():
        record = json.loads(json.dumps(event.as_dict()))
        stated = record.pop("hash")
        text = json.dumps(record, sort_keys=True, separators=(",", ":"))
        assert record["previous"] == before and stated == hashlib.sha256(text.encode()).hexdigest()
        before = stated
    assert ledger.head() == (13, before)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE ledger_events SET actor = 'eve' WHERE seq = 3",
        "UPDATE ledger_events SET actor = actor",
        "DELETE FROM ledger_events WHERE seq = 3",
        "DELETE FROM ledger_events",
    ],
)
def test_events_cannot_be_changed(ledger: Ledger, database_url: str, sql: str) -> None:
    with pytest.raises(DBAPIError, match="append-only"), raw(database_url) as run:
        run(sql)
    assert ledger.verify_chain().ok


def test_events_cannot_be_replaced_or_truncated(ledger: Ledger, database_url: str) -> None:
    if database_url.startswith("sqlite"):
        sql = "INSERT OR REPLACE INTO ledger_events SELECT seq, at, 'eve', action, about, details, version, "
        sql += "in_force, row_digest, previous, hash FROM ledger_events WHERE seq = 3"
    else:
        sql = "TRUNCATE ledger_events"
    with pytest.raises(DBAPIError, match="append-only"), raw(database_url) as run:
        run(sql)
    assert ledger.verify_chain().ok


@pytest.mark.parametrize(
    ("sql", "bad", "why"),
    [
        ("UPDATE ledger_events SET actor = 'eve' WHERE seq = 3", 3, "changed"),
        ("UPDATE ledger_events SET at = '2001-01-01T00:00:00.000000+00:00' WHERE seq = 1", 1, "changed"),
        ("UPDATE ledger_events SET details = '{}' WHERE seq = 4", 4, "changed"),
        ("UPDATE ledger_events SET details = 'not json' WHERE seq = 4", 4, "cannot be read"),
        ("UPDATE ledger_events SET about = NULL WHERE seq = 2", 2, "changed"),
        ("UPDATE ledger_events SET row_digest = NULL WHERE seq = 2", 2, "changed"),
        ("UPDATE ledger_events SET version = 7 WHERE seq = 13", 13, "changed"),
        ("UPDATE ledger_events SET previous = hash WHERE seq = 5", 5, "does not follow"),
        ("UPDATE ledger_events SET hash = previous WHERE seq = 5", 5, "changed"),
        ("DELETE FROM ledger_events WHERE seq = 6", 6, "missing"),
        ("DELETE FROM ledger_events WHERE seq = 1", 1, "missing"),
        ("DELETE FROM ledger_events WHERE seq > 10", 11, "is gone"),
        ("DELETE FROM ledger_events", 1, "is gone"),
        ("UPDATE ledger_events SET seq = 99 WHERE seq = 13", 13, "missing"),
        ("UPDATE ledger_head SET hash = 'x'", 13, "head points elsewhere"),
        ("UPDATE ledger_head SET version = 9", 13, "head points elsewhere"),
        ("DELETE FROM ledger_head", None, "no head"),
        ("UPDATE ledger_entries SET state = 'suspended' WHERE name = 'a'", 4, "than ledger_entries holds"),
        ("UPDATE ledger_entries SET state = 'active' WHERE name = 'c'", 12, "than ledger_entries holds"),
        ("UPDATE ledger_entries SET tenant = NULL WHERE name = 'b'", 8, "than ledger_entries holds"),
        ("UPDATE ledger_entries SET passed = NULL WHERE name = 'a'", 4, "than ledger_entries holds"),
        ("UPDATE ledger_entries SET scores = '{}' WHERE name = 'c'", 12, "than ledger_entries holds"),
        ("DELETE FROM ledger_entries WHERE name = 'b'", 8, "which is gone"),
        ("UPDATE ledger_keys SET scope = 'admin'", 13, "than ledger_keys holds"),
        ("UPDATE ledger_keys SET hash = 'x'", 13, "than ledger_keys holds"),
        ("DELETE FROM ledger_keys", 13, "which is gone"),
        ("DELETE FROM ledger_artifacts", 2, "stored the artifact"),
        ("DELETE FROM ledger_artifacts WHERE file = 'eraser_config.json'", 2, "stored the artifact"),
    ],
)
def test_changes_by_the_owner_of_the_database_are_found(
    ledger: Ledger, database_url: str, sql: str, bad: int | None, why: str
) -> None:
    with raw(database_url) as run:
        without_triggers(run, database_url)
        run(sql)
    report = ledger.verify_chain()
    assert not report.ok and report.bad == bad and why in str(report.why), report


def test_an_entry_without_a_request(ledger: Ledger, database_url: str) -> None:
    columns = "seq, tenant, is_default, state, requested_at, requested_by, artifact_digest, fingerprint, "
    columns += "request_digests, scores, passed, pending"
    with raw(database_url) as run:
        run(
            f"INSERT INTO ledger_entries (id, name, {columns}) "
            f"SELECT '{'f' * 32}', 'smuggled', {columns} FROM ledger_entries WHERE name = 'a'"
        )
    report = ledger.verify_chain()
    assert not report.ok and report.bad is None and "no event recorded it" in str(report.why)
    with pytest.raises(LedgerError, match="tampered"):
        ledger.active_set()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE ledger_entries SET state = 'suspended' WHERE name = 'a'",
        "UPDATE ledger_entries SET state = 'active' WHERE name = 'c'",
        "UPDATE ledger_entries SET tenant = NULL WHERE name = 'b'",
        "UPDATE ledger_entries SET is_default = NOT is_default WHERE name = 'a'",
        "UPDATE ledger_entries SET artifact_digest = 'x' WHERE name = 'a'",
        "DELETE FROM ledger_entries WHERE name = 'a'",
    ],
)
def test_a_set_that_was_never_recorded_is_not_given_out(ledger: Ledger, database_url: str, sql: str) -> None:
    with raw(database_url) as run:
        run(sql)
    with pytest.raises(LedgerError, match="tampered"):
        ledger.active_set()


def test_a_record_cut_off_with_its_head_is_found_by_a_kept_head(ledger: Ledger, database_url: str) -> None:
    kept = ledger.head()
    ledger.audit("later", by="x", details={})
    assert ledger.verify_chain(kept=kept).ok
    with raw(database_url) as run:
        without_triggers(run, database_url)
        run("DELETE FROM ledger_events WHERE seq > 9")
        run("UPDATE ledger_head SET seq = 9, hash = (SELECT hash FROM ledger_events WHERE seq = 9)")
        run("DELETE FROM ledger_keys")
        run("DELETE FROM ledger_entries WHERE name = 'c'")
    assert ledger.verify_chain().ok  # it looks as it did at that time
    report = ledger.verify_chain(kept=kept)
    assert not report.ok and report.bad == 10 and "is gone" in str(report.why)
    for _ in range(5):
        ledger.audit("later", by="x", details={})
    report = ledger.verify_chain(kept=kept)
    assert not report.ok and report.bad == 13 and "kept elsewhere" in str(report.why)


def test_an_event_may_not_skip_a_version(ledger: Ledger, database_url: str) -> None:
    """Matching hashes alone are not enough: the versions have to match too."""
    from mllmeraser.serving.ledger.chain import digest_of, record_of

    with raw(database_url) as run:
        without_triggers(run, database_url)
        row = run("SELECT * FROM ledger_events WHERE seq = 13").mappings().one()
        hash = digest_of({**record_of(row), "version": 5})
        run("UPDATE ledger_events SET version = 5, hash = :hash WHERE seq = 13", hash=hash)
        run("UPDATE ledger_head SET version = 5, hash = :hash", hash=hash)
    report = ledger.verify_chain()
    assert not report.ok and report.bad == 13 and "skips a version" in str(report.why)


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("damage", [flip, lambda data: data[:-1], lambda data: b""])
@pytest.mark.parametrize("file", ["eraser_config.json", "eraser_model.safetensors"])
def test_a_damaged_artifact_is_not_given_out(
    ledger: Ledger, database_url: str, damage: Callable[[bytes], bytes], file: str
) -> None:
    made = artifact(1)
    with raw(database_url) as run:
        data = damage(made["artifact"][file])
        where = "WHERE digest = :digest AND file = :file"
        run(f"UPDATE ledger_artifacts SET data = :data {where}", data=data, digest=made["digest"], file=file)
    with pytest.raises(LedgerError, match="damaged") as refused:
        ledger.artifact(made["digest"])
    assert file in str(refused.value) and not isinstance(refused.value, InputError)
    report = ledger.verify_chain()
    assert not report.ok and report.bad == 2
    assert ledger.artifact(artifact(2)["digest"]) == artifact(2)["artifact"]


def test_a_manifest_exchanged_with_its_checksum_is_found(ledger: Ledger, database_url: str) -> None:
    weak = artifact(1, strength=0.0)["artifact"]["eraser_config.json"]
    with raw(database_url) as run:
        run(
            "UPDATE ledger_artifacts SET data = :data, sha256 = :sum WHERE digest = :digest AND file = :file",
            data=weak,
            sum=hashlib.sha256(weak).hexdigest(),
            digest=artifact(1)["digest"],
            file="eraser_config.json",
        )
    report = ledger.verify_chain()
    assert not report.ok and report.bad == 2 and "stored the artifact" in str(report.why)


def test_the_same_bytes_repair_a_damaged_artifact(ledger: Ledger, database_url: str) -> None:
    with raw(database_url) as run:
        run("UPDATE ledger_artifacts SET data = :data WHERE digest = :digest", data=b"", digest=artifact(1)["digest"])
    with pytest.raises(LedgerError, match="damaged"):
        ledger.add("other", by="x", **artifact(1, created="2031"))
    ledger.add("other", by="x", **artifact(1))
    assert ledger.artifact(artifact(1)["digest"]) == artifact(1)["artifact"] and ledger.verify_chain().ok


def test_one_artifact_for_two_entries(ledger: Ledger, database_url: str) -> None:
    """An eraser with the same tensors is stored once if only descriptive keys differ, and refused if settings do."""
    other = ledger.add("same", by="x", **artifact(1, created="2031", subjects=["0123"]))
    assert ledger.artifact(str(other.artifact_digest)) == artifact(1)["artifact"]
    with raw(database_url) as run:
        assert run("SELECT count(*) FROM ledger_artifacts").scalar() == 6
    with pytest.raises(InputError, match="other settings"):
        ledger.add("stronger", by="x", **artifact(1, strength=2.0))
    for name in ("same", "a"):
        ledger.revoke(name, by="x", reason="r")
    ledger.add("stronger", by="x", **artifact(1, strength=2.0))
    assert ledger.artifact(artifact(1)["digest"]) == artifact(1, strength=2.0)["artifact"]
    assert ledger.verify_chain().ok


def test_an_artifact_that_was_never_stored(ledger: Ledger) -> None:
    for digest in ("0" * 64, "", "x", None):
        with pytest.raises(LedgerError, match="no artifact"):
            ledger.artifact(digest)  # type: ignore[arg-type]


def test_canonical_json() -> None:
    value: Any = {"b": [1, 2.5, None, True], "a": {"ü": "\x00\ud800"}}
    assert canonical(value) == '{"a":{"\\u00fc":"\\u0000\\ud800"},"b":[1,2.5,null,true]}'
    for bad in (float("inf"), {1, 2}, object()):
        with pytest.raises(InputError):
            canonical(bad)


def test_odd_text_is_kept(ledger: Ledger) -> None:
    details = {"text": 'ü "quoted" \\ \x00 \ud800 \U0001f600', "deep": [[[]]], "big": 2**70, "small": 1e-300}
    assert ledger.audit("odd", by="Zoë", details=details).details == details
    assert ledger.events()[-1].details == details and ledger.verify_chain().ok


def test_a_head_to_keep() -> None:
    assert parse_head("42:" + "a" * 64) == (42, "a" * 64)
    for bad in ("", "42", "42:abc", "x:" + "a" * 64):
        with pytest.raises(InputError, match="SEQ:HASH"):
            parse_head(bad)
