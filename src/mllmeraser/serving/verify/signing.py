"""Ed25519 signatures over canonical JSON, and the keys for them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from mllmeraser.samples.errors import InputError

KEY_VARIABLE = "MLLMERASER_SIGNING_KEY"
PRIVATE_FILE, PUBLIC_FILE = "signing_key.pem", "public_key.pem"
ALGORITHM = "Ed25519"
SIGNED_WITH, SIGNATURE = "signed_with", "signature"


def canonical_json(content: Mapping[str, Any]) -> bytes:
    """The one way to write `content`: keys sorted, no blanks, UTF-8.

    Raises:
        InputError: It holds something that JSON does not have, such as NaN.
    """
    try:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"this cannot be written as JSON and signed ({error})") from None


def sign(content: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """`content` with `signed_with` (algorithm and id of the public key) and the `signature` over both.

    Raises:
        InputError: It is signed already, or is no JSON.
    """
    if SIGNATURE in content or SIGNED_WITH in content:
        raise InputError("the content is signed already")
    signed = {**content, SIGNED_WITH: {"algorithm": ALGORITHM, "key_id": key_id(key.public_key())}}
    return {**signed, SIGNATURE: base64.b64encode(key.sign(canonical_json(signed))).decode()}


def is_signed_by(document: Mapping[str, Any], public_key: Ed25519PublicKey) -> bool:
    """Whether the signature of a document is that of the key over all else that stands in it.

    Raises:
        InputError: The document is no JSON.
    """
    content = {name: value for name, value in document.items() if name != SIGNATURE}
    if content.get(SIGNED_WITH) != {"algorithm": ALGORITHM, "key_id": key_id(public_key)}:
        return False
    signature = _from_base64(document.get(SIGNATURE))
    if signature is None:
        return False
    try:
        public_key.verify(signature, canonical_json(content))
    except InvalidSignature:
        return False
    return True


def read_json(text: str | bytes, what: str) -> dict[str, Any]:
    """A JSON object; `what` names it in errors.

    Raises:
        InputError: It is none, a name stands in it twice (two programs could then read two things), or it holds NaN.
    """
    try:
        found = json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} is no JSON ({error})") from None
    if not isinstance(found, dict):
        raise InputError(f"{what} is no JSON object")
    return found


# -- keys ------------------------------------------------------------------------------------------------


def key_id(key: Ed25519PublicKey) -> str:
    """Short name of a public key: 16 hex digits of SHA-256 over its raw bytes."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def load_signing_key(pem: Path | None = None, environment: Mapping[str, str] | None = None) -> Ed25519PrivateKey:
    """The private key of a PEM file, or of the variable `MLLMERASER_SIGNING_KEY` (base64 of the 32 raw bytes).

    Raises:
        InputError: There is neither, or it is no such key. The message never holds any of it.
    """
    if pem is not None:
        try:
            key = load_pem_private_key(_read(pem), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise InputError(f"{pem}: not an unencrypted private key in PEM form") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise InputError(f"{pem}: not an Ed25519 key: make one with mllmeraser certificate key")
        return key
    text = (os.environ if environment is None else environment).get(KEY_VARIABLE, "")
    if not text.strip():
        raise InputError(f"no signing key: set {KEY_VARIABLE}, or make a key with mllmeraser certificate key")
    raw = _from_base64(text.strip())
    if raw is None or len(raw) != 32:
        raise InputError(f"{KEY_VARIABLE} has to be base64 of the 32 bytes of an Ed25519 key")
    return Ed25519PrivateKey.from_private_bytes(raw)


def load_public_key(pem: Path) -> Ed25519PublicKey:
    """The public key of a PEM file.

    Raises:
        InputError: It is none, or of another kind.
    """
    try:
        key = load_pem_public_key(_read(pem))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError(f"{pem}: not a public key in PEM form") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{pem}: not an Ed25519 key")
    return key


def public_pem(key: Ed25519PublicKey) -> bytes:
    """A public key in PEM form."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def write_new_key(folder: Path) -> tuple[Path, Path, str]:
    """Make a key; write `signing_key.pem`, for its owner's eyes alone, and `public_key.pem`.

    Returns:
        Both files, and the id of the key.

    Raises:
        InputError: One of the files exists (a key is never replaced), or cannot be written.
    """
    key, private, public = Ed25519PrivateKey.generate(), folder / PRIVATE_FILE, folder / PUBLIC_FILE
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for file in (private, public):
        if os.path.lexists(file):
            raise InputError(f"{file} exists, and a key is never replaced: choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".key-", dir=folder) as beside:
            made = Path(beside)
            _write_once(made / PRIVATE_FILE, secret, 0o600)
            _write_once(made / PUBLIC_FILE, public_pem(key.public_key()), 0o644)
            _put_both(made, folder)
    except OSError as error:
        raise InputError(f"{folder}: the key cannot be written ({error.strerror or error})") from None
    return private, public, key_id(key.public_key())


def _write_once(file: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as target:
        target.write(data)
        target.flush()
        os.fsync(target.fileno())  # some disks say only here that they are full


def _put_both(made: Path, folder: Path) -> None:
    """Give whole files their names in `folder`, both or neither; a link, unlike a move, replaces nothing.

    The public one is first: should all end in between, what is left there was never used.
    """
    os.link(made / PUBLIC_FILE, folder / PUBLIC_FILE)
    try:
        os.link(made / PRIVATE_FILE, folder / PRIVATE_FILE)
    except BaseException:
        (folder / PUBLIC_FILE).unlink()
        raise


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from None


def _from_base64(text: object) -> bytes | None:
    """The bytes, if the text is base64 written in the one usual way."""
    if not isinstance(text, str):
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode() == text else None


def _without_doubles(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} stands in it twice")
        found[name] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
