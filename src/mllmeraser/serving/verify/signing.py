"""Ed25519 signatures over canonical JSON, and the keys for them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as forms
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mllmeraser.samples.errors import InputError

KEY_VARIABLE = "MLLMERASER_SIGNING_KEY"
PRIVATE_FILE, PUBLIC_FILE = "signing_key.pem", "public_key.pem"
ALGORITHM = "Ed25519"
SIGNED_WITH, SIGNATURE = "signed_with", "signature"


def canonical_json(content: Mapping[str, Any]) -> bytes:
    """The canonical JSON of `content`: sorted keys, no blanks, UTF-8.

    Raises:
        InputError: If JSON cannot express a value, such as NaN.
    """
    try:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"this cannot be written as JSON and signed ({error})") from None


def sign(content: Mapping[str, Any], key: Ed25519PrivateKey) -> dict[str, Any]:
    """`content` with `signed_with` (algorithm and id of the public key) and the `signature` over both.

    Raises:
        InputError: If it is already signed, or cannot be written as JSON.
    """
    if SIGNATURE in content or SIGNED_WITH in content:
        raise InputError("the content is signed already")
    signed = {**content, SIGNED_WITH: {"algorithm": ALGORITHM, "key_id": key_id(key.public_key())}}
    return {**signed, SIGNATURE: base64.b64encode(key.sign(canonical_json(signed))).decode()}


def is_signed_by(document: Mapping[str, Any], public_key: Ed25519PublicKey) -> bool:
    """Whether the document has a valid signature of this key over everything else in it.

    Raises:
        InputError: If the document cannot be written as JSON.
    """
    content = {name: value for name, value in document.items() if name != SIGNATURE}
    signature = _from_base64(document.get(SIGNATURE))
    if content.get(SIGNED_WITH) != {"algorithm": ALGORITHM, "key_id": key_id(public_key)} or signature is None:
        return False
    try:
        public_key.verify(signature, canonical_json(content))
    except InvalidSignature:
        return False
    return True


def read_json(text: str | bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object. Errors call it `what`.

    Raises:
        InputError: If it is not a JSON object, holds NaN, or holds a name twice, which programs read differently.
    """
    try:
        content = json.loads(text, object_pairs_hook=_unique_names, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} is no JSON ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{what} is no JSON object")
    return content


def key_id(key: Ed25519PublicKey) -> str:
    """Short name of a public key: 16 hex digits of SHA-256 over its raw bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def load_signing_key(pem: Path | None = None, environment: Mapping[str, str] | None = None) -> Ed25519PrivateKey:
    """Load the private key from a PEM file, or from `MLLMERASER_SIGNING_KEY`.

    The variable holds the path of a PEM file, the text of one, or base64 of the 32 raw bytes.

    Raises:
        InputError: If there is no key, or it is not an Ed25519 key. The message never holds any part of it.
    """
    if pem is not None:
        return _private(_read(pem), str(pem))
    text = (os.environ if environment is None else environment).get(KEY_VARIABLE, "").strip()
    if not text:
        raise InputError(f"no signing key: set {KEY_VARIABLE}, or make a key with mllmeraser certificate key")
    if text.startswith("-----BEGIN"):
        return _private(text.encode(), KEY_VARIABLE)
    if os.path.isfile(text):
        return load_signing_key(Path(text))
    raw = _from_base64(text)
    if raw is None or len(raw) != 32:
        raise InputError(f"{KEY_VARIABLE} has to be a PEM file, or base64 of the 32 bytes of an Ed25519 key")
    return Ed25519PrivateKey.from_private_bytes(raw)


def load_public_key(pem: Path) -> Ed25519PublicKey:
    """Load the public key from a PEM file.

    Raises:
        InputError: If it is not a public Ed25519 key.
    """
    key = _load_pem(_read(pem), str(pem), forms.load_pem_public_key, "a public key")
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{pem}: not an Ed25519 key")
    return key


def public_pem(key: Ed25519PublicKey) -> bytes:
    """A public key in PEM form."""
    return key.public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo)


def write_new_key(folder: Path) -> tuple[Path, Path, str]:
    """Create a key. Write `signing_key.pem`, readable only by its owner, and `public_key.pem`.

    Returns:
        Both files, and the id of the key.

    Raises:
        InputError: If one of the files exists (keys are never replaced) or cannot be written.
    """
    key, private, public = Ed25519PrivateKey.generate(), folder / PRIVATE_FILE, folder / PUBLIC_FILE
    secret = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    for file in (private, public):
        if os.path.lexists(file):
            raise InputError(f"{file} exists, and a key is never replaced: choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".key-", dir=folder) as scratch:
            complete = Path(scratch)
            _write_once(complete / PRIVATE_FILE, secret, 0o600)
            _write_once(complete / PUBLIC_FILE, public_pem(key.public_key()), 0o644)
            _link_both(complete, folder)
    except OSError as error:
        raise InputError(f"{folder}: the key cannot be written ({error.strerror or error})") from None
    return private, public, key_id(key.public_key())


def _write_once(file: Path, data: bytes, mode: int) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as target:
        target.write(data)
        target.flush()
        os.fsync(target.fileno())  # some disks report only here that they are full


def _link_both(complete: Path, folder: Path) -> None:
    """Link both complete files into `folder`, or neither. Unlike a move, a link never replaces a file.

    The public key comes first. If the process dies in between, the key that remains was never used.
    """
    os.link(complete / PUBLIC_FILE, folder / PUBLIC_FILE)
    try:
        os.link(complete / PRIVATE_FILE, folder / PRIVATE_FILE)
    except BaseException:
        (folder / PUBLIC_FILE).unlink()
        raise


def _private(data: bytes, where: str) -> Ed25519PrivateKey:
    def load(pem: bytes) -> Any:
        return forms.load_pem_private_key(pem, password=None)

    key = _load_pem(data, where, load, "an unencrypted private key")
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{where}: not an Ed25519 key: make one with mllmeraser certificate key")
    return key


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from None


def _load_pem(data: bytes, where: str, load: Callable[[bytes], Any], what: str) -> Any:
    try:
        return load(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InputError(f"{where}: not {what} in PEM form") from None


def _from_base64(text: object) -> bytes | None:
    """The bytes of a text in canonical base64; None for anything else."""
    try:
        raw = base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError):
        return None
    return raw if raw is not None and base64.b64encode(raw).decode() == text else None


def _unique_names(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise ValueError(f"it holds {name!r} twice")
        content[name] = value
    return content


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
