"""`mllmeraser ledger`: every command, in words and in JSON, and what it refuses."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_kit import raw
from typer.testing import CliRunner, Result

from mllmeraser.cli.app import app
from mllmeraser.cli.ledger import keys, ledger
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.samples.errors import ArtifactError, InputError
from mllmeraser.serving.ledger import Ledger
from mllmeraser.serving.ledger.erasers import artifact_of, eraser_of

ERASER = Path(__file__).parents[1] / "erasure" / "artifacts" / "format-1"
pytest_plugins = ["postgres_kit"]


class Commands:
    """The command line with one ledger."""

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, *arguments: str | Path) -> Result:
        return CliRunner().invoke(app, ["ledger", *map(str, arguments)], env={"MLLMERASER_LEDGER": self.url})

    def says(self, *arguments: str | Path) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    def json(self, *arguments: str | Path) -> Any:
        return json.loads(self.says(*arguments, "--json"))

    def refused(self, *arguments: str | Path, word: str) -> None:
        result = self.run(*arguments)
        lines = result.stderr.strip().splitlines()
        assert (result.exit_code, len(lines), result.stdout) == (2, 1, ""), (result.output, result.exception)
        assert word in lines[0], lines[0]


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    book = Commands(f"sqlite:///{tmp_path / 'ledger.db'}")
    book.says("add", "--eraser", ERASER, "--name", "case-1", "--tenant", "shop", "--on-request", "--by", "ann")
    yield book


def test_a_life(commands: Commands) -> None:
    entry = commands.json("show", "case-1")
    assert (entry["state"], entry["tenant"], entry["default"]) == ("fitted", "shop", False)
    assert entry["requested_by"] == "ann" and entry["conflicts"] == []
    assert entry["artifact_digest"] == Eraser.from_pretrained(ERASER).digest()
    commands.refused("activate", "case-1", word="verify it first")
    assert commands.json("activate", "case-1", "--force", "by hand", "--by", "bo")["state"] == "active"
    assert commands.json("suspend", "case-1", "--reason", "a doubt")["state"] == "suspended"
    assert commands.json("revoke", entry["id"], "--reason", "withdrawn")["state"] == "revoked"
    history = commands.json("history", entry["id"])
    assert [e["action"] for e in history] == ["requested", "fitted", "activated", "suspended", "revoked"]
    assert history[2]["by"] == "bo" and history[2]["details"]["force"] == "by hand"
    assert [e["name"] for e in commands.json("list", "--state", "revoked", "--tenant", "shop")] == ["case-1"]
    assert commands.json("list", "--state", "active") == []


def test_a_failed_verification_has_a_state_of_its_own(commands: Commands) -> None:
    with Ledger.open(commands.url) as book:
        book.verified(book.get("case-1").id, by="verify", scores={}, passed=False)
    assert commands.json("show", "case-1")["state"] == "checks_failed"
    assert "state: checks_failed" in commands.says("show", "case-1") and "checks_failed" in commands.says("list")
    assert commands.json("list", "--state", "verified") == []
    assert [entry["name"] for entry in commands.json("list", "--state", "checks_failed")] == ["case-1"]
    assert commands.json("history", "case-1")[-1]["action"] == "checks-failed"
    commands.refused("activate", "case-1", word="did not pass")
    assert commands.json("activate", "case-1", "--force", "checked by hand")["state"] == "active"
    assert "all unchanged" in commands.says("verify")


def test_notes_and_search(commands: Commands) -> None:
    note = commands.json("note", "case-1", "--text", "letter of 3 May", "--by", "bo")
    assert (note["by"], note["text"]) == ("bo", "letter of 3 May")
    assert commands.json("show", "case-1")["notes"] == [note] and "letter of 3 May" in commands.says("show", "case-1")
    assert "letter" not in commands.says("history", "case-1", "--json")
    commands.refused("note", "case-1", "--text", "two\nlines", word="the note")
    commands.refused("note", "missing", "--text", "x", word="no erasure")
    assert [entry["name"] for entry in commands.json("list", "--search", "SE-1")] == ["case-1"]
    assert commands.json("list", "--search", "case-2") == []
    assert commands.json("list", "--search", "case", "--state", "active") == []
    commands.refused("list", "--state", "gone", word="checks_failed")


def test_kinds_are_named(commands: Commands) -> None:
    assert commands.json("show", "case-1")["kinds"] == [], "an eraser of an older version does not say"
    with Ledger.open(commands.url) as book:
        book.request("older", by="ann", digests={"subjects": "1", "forget_prompts": "4"})
        book.request("things", by="ann", digests={"subjects": "2", "kind_topic": "1", "kind_fact": "1"})
    assert commands.json("show", "older")["kinds"] == ["person"], "then there were people alone"
    assert "kinds: fact, topic" in commands.says("show", "things") and "kinds" in commands.says("list")


def test_words_for_people(commands: Commands) -> None:
    assert "case-1" in commands.says("list") and "fitted" in commands.says("list")
    assert "state: fitted" in commands.says("show", "case-1")
    assert "requested" in commands.says("history", "case-1")
    assert "server" in commands.says("servers")


def test_the_stored_eraser_is_the_one_that_was_added(commands: Commands) -> None:
    with Ledger.open(commands.url) as book:
        entry = book.get("case-1")
        stored = book.artifact(str(entry.artifact_digest))
    assert stored == {file.name: file.read_bytes() for file in ERASER.iterdir()}
    eraser, original = eraser_of(stored), Eraser.from_pretrained(ERASER)
    assert eraser.config == original.config and eraser.digest() == original.digest() == entry.artifact_digest
    assert entry.fingerprint == original.config.fingerprint
    assert entry.request_digests["subjects"].split(",") == list(original.config.subjects)
    again = artifact_of(eraser)
    assert again.digest == entry.artifact_digest and eraser_of(again.files).digest() == original.digest()
    with pytest.raises(ArtifactError, match="missing"):
        eraser_of({"eraser_config.json": b"{}"})


def test_a_schedule(commands: Commands) -> None:
    times = ("--starts", "2090-01-31T12:00+02:00", "--expires", "2091-01-31T12:00:00Z")
    entry = commands.json("schedule", "case-1", *times)
    assert entry["starts_at"].startswith("2090-01-31T10:00:00") and entry["expires_at"].startswith("2091-01-31T12:00")
    waiting = commands.json("activate", "case-1", "--force", "why")
    assert waiting["state"] == "fitted" and waiting["pending"]
    assert commands.json("schedule", "case-1")["pending"] is False
    commands.refused("schedule", "case-1", "--expires", "2001-01-01T00:00Z", word="is over")
    for text in ("tomorrow", "2090-01-31", "2090-01-31T12:00"):
        commands.refused("schedule", "case-1", "--starts", text, word="--starts")


def test_verify(commands: Commands) -> None:
    report = commands.json("verify")
    assert report["ok"] and report["events"] == 2
    head = f"{report['head']['seq']}:{report['head']['hash']}"
    assert head in commands.says("verify", "--kept", head)
    commands.refused("verify", "--kept", "nonsense", word="SEQ:HASH")
    assert commands.run("verify", "--kept", "3:" + "0" * 64).exit_code == 1
    with raw(commands.url) as run:
        run("UPDATE ledger_entries SET is_default = 1")
    result = commands.run("verify")
    assert result.exit_code == 1 and "TAMPERED WITH: event 2" in result.stdout
    result = commands.run("verify", "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["bad"] == 2


def test_keys(commands: Commands) -> None:
    made = commands.json("keys", "add", "--label", "web shop", "--scope", "tenant-admin", "--tenant", "shop")
    with Ledger.open(commands.url) as book:
        principal = book.authenticate(made["secret"])
    assert principal is not None and (principal.scope, principal.tenant) == ("tenant-admin", "shop")
    shown = commands.says("keys", "list") + commands.says("keys", "list", "--json")
    assert made["id"] in shown and made["secret"] not in shown and "argon2" not in shown
    assert commands.json("keys", "revoke", made["id"])["revoked_at"]
    commands.refused("keys", "revoke", made["id"], word="revoked already")
    commands.refused("keys", "revoke", "nokey", word="no key")
    commands.refused("keys", "add", "--label", "x", "--scope", "root", word="scope")


def test_what_is_refused(commands: Commands, tmp_path: Path) -> None:
    commands.refused("show", "missing", word="missing")
    commands.refused("list", "--state", "gone", word="gone")
    commands.refused("add", "--eraser", ERASER, "--name", "case-1", word="another erasure is called case-1")
    commands.refused("add", "--eraser", ERASER, "--name", "Jane Doe", word="cannot be a name")
    commands.refused("add", "--eraser", tmp_path / "nothing", "--name", "b", word="no such folder")
    commands.refused("suspend", "case-1", "--reason", "r", word="fitted cannot become suspended")
    commands.refused("list", "--ledger", "mysql://host/db", word="mysql")
    assert commands.json("verify")["events"] == 2


@pytest.mark.parametrize("file", ["eraser_config.json", "eraser_model.safetensors"])
def test_an_eraser_that_is_broken(tmp_path: Path, file: str) -> None:
    """It is refused, and no ledger is made for it."""
    folder = Path(shutil.copytree(ERASER, tmp_path / "broken"))
    (folder / file).write_bytes((folder / file).read_bytes()[:-20])
    commands = Commands(f"sqlite:///{tmp_path / 'new.db'}")
    commands.refused("add", "--eraser", folder, "--name", "b", word=file)
    assert not (tmp_path / "new.db").exists()


def test_only_add_makes_a_ledger(tmp_path: Path) -> None:
    commands = Commands(f"sqlite:///{tmp_path / 'typo.db'}")
    for arguments in (["list"], ["verify"], ["servers"], ["keys", "list"], ["activate", "a"]):
        result = commands.run(*arguments)
        assert result.exit_code == 2 and "there is no ledger" in result.stderr and result.stdout == ""
    assert not (tmp_path / "typo.db").exists()


def test_every_command_has_an_example() -> None:
    for group in (ledger, keys):
        for command in group.registered_commands:
            assert command.callback is not None and "Examples:\n\n        mllmeraser ledger" in str(
                command.callback.__doc__
            )


def test_without_the_extra_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("mllmeraser.serving.ledger")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    result = CliRunner().invoke(app, ["ledger", "list"])
    assert result.exit_code == 2 and "pip install 'mllmeraser[serve]'" in result.stderr


def test_the_help_needs_neither_torch_nor_the_extra() -> None:
    code = "import sys; from mllmeraser.cli.app import app; print(sorted({'torch', 'sqlalchemy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_room_itself_does_not_need_torch() -> None:
    code = "import sys; import mllmeraser.serving.ledger; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


def test_with_postgresql(postgres_url: str) -> None:
    commands = Commands(postgres_url)
    commands.says("add", "--eraser", ERASER, "--name", "case-1")
    commands.says("activate", "case-1", "--force", "why")
    assert commands.json("verify")["ok"] and commands.json("list")[0]["state"] == "active"
    with pytest.raises(InputError), Ledger.open(postgres_url) as book:
        book.activate("case-1", by="x")


def test_a_backup_is_checked_and_restored(tmp_path: Path) -> None:
    book, copy, back = (tmp_path / name for name in ("l.db", "copy.db", "back.db"))
    with Ledger.open(str(book)) as ledger:
        ledger.request("case", by="ann")
        head = ledger.head()[0]
        made = CliRunner().invoke(app, ["ledger", "backup", "--out", str(copy), "--ledger", str(book)])
    assert made.exit_code == 0 and f"keep {head}:" in made.stdout, made.stderr
    restored = CliRunner().invoke(app, ["ledger", "restore", str(copy), "--out", str(back)])
    assert restored.exit_code == 0, restored.stderr
    with Ledger.open(str(back), create=False) as ledger:
        assert [entry.name for entry in ledger.list()] == ["case"] and ledger.head()[0] == head
    for arguments in (
        ["backup", "--out", str(copy), "--ledger", str(book)],
        ["restore", str(copy), "--out", str(book)],
    ):
        assert CliRunner().invoke(app, ["ledger", *arguments]).exit_code == 2, "no file is replaced"
    with sqlite3.connect(copy) as database:
        database.execute("UPDATE ledger_entries SET requested_by = 'bob'")
    changed = CliRunner().invoke(app, ["ledger", "restore", str(copy), "--out", str(tmp_path / "x.db")])
    assert changed.exit_code == 2 and "was changed outside mllmeraser" in changed.stderr
    assert not (tmp_path / "x.db").exists()
