from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result
from verify_kit import verified

from mllmeraser.cli.app import app
from mllmeraser.serving.verify import certificate, load_signing_key, sign


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["certificate", *(str(a) for a in arguments)])


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    made = run("key", "--out", tmp_path / "keys", "--json")
    assert made.exit_code == 0, made.output
    assert set(json.loads(made.stdout)) == {"key_id", "signing_key", "public_key"}
    return tmp_path / "keys"


@pytest.fixture
def file(keys: Path, tmp_path: Path) -> Path:
    content = certificate(verified(), erasure_id="b" * 32, request_digests={"subjects": "1"})
    target = tmp_path / "certificate.json"
    target.write_text(json.dumps(sign(content, load_signing_key(keys / "signing_key.pem")), indent=2))
    return target


def test_a_good_certificate(keys: Path, file: Path) -> None:
    result = run("check", file, "--key", keys / "public_key.pem")
    assert result.exit_code == 0 and result.stdout.startswith("valid: signed with key ")
    shown = json.loads(run("check", file, "--key", keys / "public_key.pem", "--json").stdout)
    assert shown["valid"] is True and shown["passed"] is True


def test_a_changed_certificate(keys: Path, file: Path) -> None:
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
    result = run("check", file, "--key", keys / "public_key.pem")
    assert result.exit_code == 1 and result.stdout.startswith("not valid")
    shown = json.loads(run("check", file, "--key", keys / "public_key.pem", "--json").stdout)
    assert shown["valid"] is False and shown["passed"] is None, "an invalid certificate proves nothing"


def test_bad_input_is_one_line(keys: Path, file: Path, tmp_path: Path) -> None:
    public = keys / "public_key.pem"
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    for arguments in (
        ("check", tmp_path / "missing.json", "--key", public),
        ("check", bad, "--key", public),
        ("check", file, "--key", bad),
        ("check", file, "--key", keys / "signing_key.pem"),
        ("check", file),
        ("key", "--out", keys),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, (arguments, result.output)
        assert len(result.stderr.strip().splitlines()) == 1 and result.stdout == ""


def test_it_is_printed(keys: Path, file: Path, tmp_path: Path) -> None:
    public = keys / "public_key.pem"
    for name, begin in (("c.pdf", b"%PDF-"), ("c.html", b"<!doctype html>")):
        made = run("print", file, "--key", public, "--out", tmp_path / name)
        assert made.exit_code == 0, made.output
        assert (tmp_path / name).read_bytes().startswith(begin)
        again = run("print", file, "--out", tmp_path / name)
        assert again.exit_code == 2 and "--force" in again.stderr
        assert "was not checked" in run("print", file, "--out", tmp_path / name, "--force").stderr
        written = run("print", file, "--key", public, "--out", tmp_path / name, "--force", "--json")
        assert json.loads(written.stdout) == {"path": str(tmp_path / name), "signature_checked": True}
    refused = run("print", file, "--out", tmp_path / "c.docx")
    assert refused.exit_code == 2 and ".pdf or .html" in refused.stderr
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
    refused = run("print", file, "--key", public, "--out", tmp_path / "changed.pdf")
    assert refused.exit_code == 2 and "changed since" in refused.stderr and not (tmp_path / "changed.pdf").exists()


@pytest.mark.parametrize(
    "change",
    [{"issued_at": "yesterday"}, {"issued_at": 5}, {"issued_at": "2026-01-01T00:00:00"}, {"erasure": {"id": 5}},
     {"promised": [5]}, {"signature": ["s"]}],
    ids=["no time", "number", "no zone", "id", "promise", "signature"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["c.pdf", "c.html"])
def test_what_is_no_certificate_is_not_printed(file: Path, tmp_path: Path, change: dict[str, Any], name: str) -> None:
    document = json.loads(file.read_text())
    erasure = document["erasure"] | change.get("erasure", {})
    file.write_text(json.dumps(document | change | {"erasure": erasure}))
    result = run("print", file, "--out", tmp_path / name)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "no signed certificate" in result.stderr
    assert not (tmp_path / name).exists()
