from __future__ import annotations

import base64
import copy
import errno
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from verify_kit import NAME, one_person, verified

from mllmeraser.samples import InputError
from mllmeraser.serving.packing import request_digests
from mllmeraser.serving.verify import (
    certificate,
    check_certificate,
    key_id,
    load_public_key,
    load_signing_key,
    read_json,
    sign,
    signing,
    write_new_key,
)
from mllmeraser.serving.verify.signing import canonical_json, public_pem

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key()
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=timezone(timedelta(hours=2)))


def content(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "erasure_id": "a" * 32, "request_digests": request_digests(one_person(), "salt"), "requested_at": NOON,
        "issuer": "Example Ltd", "issued_at": NOON, **changes,
    }  # fmt: skip
    return certificate(values.pop("verification", verified()), **values)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values of a document, except containers."""
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in paths(v, (*here, k))]
    if isinstance(value, list):
        return [p for i, v in enumerate(value) for p in paths(v, (*here, i))]
    return [here]


def changed(document: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """A copy with one changed value."""
    other = copy.deepcopy(document)
    place = other
    for step in path[:-1]:
        place = place[step]
    value = place[path[-1]]
    place[path[-1]] = (not value) if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else "x"
    return other


def test_a_signed_certificate_is_found_good() -> None:
    signed = sign(content(), KEY)
    assert check_certificate(signed, PUBLIC)
    assert check_certificate(json.dumps(signed, indent=4), PUBLIC), "blanks and order do not count"
    assert check_certificate(canonical_json(signed), PUBLIC)
    assert signed["erasure"]["requested_at"] == "2026-03-01T10:00:00+00:00"
    assert signed["signed_with"] == {"algorithm": "Ed25519", "key_id": key_id(PUBLIC)}


def test_the_signature_is_over_all_but_itself() -> None:
    signed = sign(content(), KEY)
    rest = {k: v for k, v in signed.items() if k != "signature"}
    PUBLIC.verify(base64.b64decode(signed["signature"]), canonical_json(rest))


def test_any_change_is_found() -> None:
    signed = sign(content(), KEY)
    places = paths(signed)
    assert len(places) > 50
    for path in places:
        assert not check_certificate(changed(signed, path), PUBLIC), path


@pytest.mark.parametrize(
    "tamper",
    [
        lambda d: d.pop("signature"),
        lambda d: d.update(signature=None),
        lambda d: d.update(signature="!" + d["signature"]),
        lambda d: d.update(signature=d["signature"] + "\n"),
        lambda d: d.update(signature=base64.b64encode(bytes(64)).decode()),
        lambda d: d.update(extra="more"),
        lambda d: d.pop("not_promised"),
        lambda d: d["measured"]["checks"].pop(),
        lambda d: d["measured"]["checks"].reverse(),
        lambda d: d["signed_with"].update(algorithm="none"),
    ],
)
def test_what_is_added_or_taken_is_found(tamper: Callable[[dict[str, Any]], Any]) -> None:
    signed = sign(content(), KEY)
    tamper(signed)
    assert not check_certificate(signed, PUBLIC)


def test_another_key_and_another_document_are_refused() -> None:
    other = Ed25519PrivateKey.generate()
    assert not check_certificate(sign(content(), other), PUBLIC)
    renamed = sign(content(), other)
    renamed["signed_with"]["key_id"] = key_id(PUBLIC)
    assert not check_certificate(renamed, PUBLIC)
    assert not check_certificate(sign({"type": "something else", "format": 1}, KEY), PUBLIC)


def test_two_values_under_one_name_are_refused() -> None:
    text = json.dumps(sign(content(), KEY))
    with pytest.raises(InputError, match="twice"):
        check_certificate(text.replace('"format": 1', '"format": 2, "format": 1'), PUBLIC)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', '{"a": NaN}', b"\xff\xfe\x00", "[" * 100_000])
def test_what_is_no_json_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(InputError):
        read_json(text, "the certificate")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_canonical_json_is_one_way_to_write(document: dict[str, Any]) -> None:
    again = read_json(canonical_json(document), "it")
    assert again == document
    assert canonical_json(dict(reversed(again.items()))) == canonical_json(document)


def test_what_json_does_not_have_cannot_be_signed() -> None:
    for bad in ({"a": float("nan")}, {"a": {1, 2}}, {"a": object()}):
        with pytest.raises(InputError, match="signed"):
            sign(bad, KEY)
    with pytest.raises(InputError, match="already"):
        sign(sign(content(), KEY), KEY)


def test_it_holds_no_names() -> None:
    text = json.dumps(sign(content(), KEY))
    for word in (NAME, *NAME.split(), "Who is this"):
        assert word not in text
    for digests in ({"person": NAME}, {NAME: "0" * 64}, {"forget_digest": "Ottilie"}):
        with pytest.raises(InputError, match="digests and counts"):
            content(request_digests=digests)
    with pytest.raises(InputError, match="hex digits"):
        content(erasure_id=NAME)


def test_a_candidate_that_failed_is_promised_nothing() -> None:
    promised = content(verification=verified(passed=False))["promised"]
    assert promised != content()["promised"] and promised[0].startswith("Nothing")


def test_a_time_needs_its_zone() -> None:
    with pytest.raises(InputError, match="time zone"):
        content(requested_at=datetime(2026, 3, 1))


def test_a_key_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLLMERASER_SIGNING_KEY", base64.b64encode(bytes(range(32))).decode() + "\n")
    assert key_id(load_signing_key().public_key()) == key_id(PUBLIC)


@pytest.mark.parametrize("value", ["", "c2hvcnQ=", "nonsense!", base64.b64encode(bytes(33)).decode()])
def test_a_bad_key_in_the_environment_is_not_repeated(value: str) -> None:
    with pytest.raises(InputError) as caught:
        load_signing_key(environment={"MLLMERASER_SIGNING_KEY": value})
    assert "MLLMERASER_SIGNING_KEY" in str(caught.value) and (not value or value not in str(caught.value))


def test_a_new_key_is_secret_and_never_replaced(tmp_path: Path) -> None:
    private, public, name = write_new_key(tmp_path / "keys")
    assert private.stat().st_mode & 0o777 == 0o600
    assert key_id(load_public_key(public)) == name == key_id(load_signing_key(private).public_key())
    assert public.read_bytes() == public_pem(load_signing_key(private).public_key())
    before = private.read_bytes()
    with pytest.raises(InputError, match="never replaced"):
        write_new_key(tmp_path / "keys")
    assert private.read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError):
        write_new_key(tmp_path / "file")


def test_a_key_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(signing, "public_pem", full)  # the private key is written before
        with pytest.raises(InputError, match="No space left"):
            write_new_key(tmp_path)
    assert list(tmp_path.iterdir()) == []
    private, public, name = write_new_key(tmp_path)
    assert sorted(tmp_path.iterdir()) == [public, private] and key_id(load_public_key(public)) == name


@pytest.mark.parametrize("other", ["signing_key.pem", "public_key.pem"])
def test_a_key_that_another_process_makes_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    theirs, write = tmp_path / other, signing.public_pem

    def meanwhile(key: Ed25519PublicKey) -> bytes:
        theirs.write_text("theirs")
        return write(key)

    monkeypatch.setattr(signing, "public_pem", meanwhile)
    with pytest.raises(InputError, match="cannot be written"):
        write_new_key(tmp_path)
    assert list(tmp_path.iterdir()) == [theirs] and theirs.read_text() == "theirs"


def test_keys_of_other_kinds_are_refused(tmp_path: Path) -> None:
    other, file = generate_private_key(SECP256R1()), tmp_path / "key.pem"
    file.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(InputError, match="Ed25519"):
        load_signing_key(file)
    with pytest.raises(InputError, match="not a public key"):
        load_public_key(file)
    file.write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(InputError, match="Ed25519"):
        load_public_key(file)
    file.write_text("not a key")
    for load in (load_signing_key, load_public_key):
        with pytest.raises(InputError, match="PEM"):
            load(file)
        with pytest.raises(InputError, match="cannot be read"):
            load(tmp_path / "missing.pem")


def test_the_key_that_the_command_writes_signs_for_a_server(tmp_path: Path) -> None:
    private, public, _ = write_new_key(tmp_path / "keys")
    for value in (str(private), private.read_text()):
        key = load_signing_key(environment={"MLLMERASER_SIGNING_KEY": value})
        assert key_id(key.public_key()) == key_id(load_public_key(public))
    with pytest.raises(InputError, match="MLLMERASER_SIGNING_KEY: not an unencrypted private key"):
        load_signing_key(environment={"MLLMERASER_SIGNING_KEY": "-----BEGIN PRIVATE KEY-----\nAAAA\n"})
    with pytest.raises(InputError, match="not an unencrypted private key"):
        load_signing_key(environment={"MLLMERASER_SIGNING_KEY": str(public)})
