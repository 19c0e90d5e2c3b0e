"""`mllmeraser certificate`: check one, print one, make a key to sign them."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from mllmeraser.cli.errors import needs_extra
from mllmeraser.cli.ledger import DEFAULT_URL, Name, Url, login, opened
from mllmeraser.cli.options import Force, Json
from mllmeraser.cli.runtime import note, show_result
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.files import write_whole

certificate = typer.Typer(
    no_args_is_help=True, help="Certificates of erasure: check one, print one, or make a key that signs them."
)
File = Annotated[Path, typer.Argument(metavar="FILE", help="The certificate, as JSON.", show_default=False)]


@certificate.command("check")
def check(
    file: File,
    key: Annotated[Path, typer.Option("--key", metavar="PUB", help="Public key of the issuer, a PEM file.")],
    as_json: Json = False,
) -> None:
    """Check that a certificate was signed with a key and has not changed since. Exit code 1 if not.

    Examples:

        mllmeraser certificate check certificate.json --key public_key.pem
    """
    verify = _package()
    public = verify.load_public_key(key)
    document = _read(verify, file)
    valid = verify.check_certificate(document, public)
    measured = document.get("measured")
    passed = bool(measured.get("passed")) if valid and isinstance(measured, dict) else None
    name = verify.key_id(public)
    good = f"valid: signed with key {name}; the eraser {'passed' if passed else 'did not pass'}"
    text = good if valid else f"not valid: not signed with key {name}, or changed since"
    show_result({"valid": valid, "key_id": name, "passed": passed}, as_json, text)
    if not valid:
        raise typer.Exit(1)


@certificate.command("print")
def to_print(
    file: File,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write, .pdf or .html.")],
    key: Annotated[
        Path | None, typer.Option("--key", metavar="PUB", help="Check the certificate first, with the issuer's key.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a certificate as a page, or as a PDF with the signed file attached.

    Examples:

        mllmeraser certificate print certificate.json --key public_key.pem --out certificate.pdf
    """
    verify = _package()
    document = _read(verify, file)
    if key is not None and not verify.check_certificate(document, verify.load_public_key(key)):
        raise InputError(f"{file}: not signed with this key, or changed since; nothing was written")
    if out.suffix == ".pdf":
        from mllmeraser.serving.verify.pdf import certificate_pdf

        data: str | bytes = certificate_pdf(document)
    elif out.suffix == ".html":
        data = verify.render_certificate(document)
    else:
        raise InputError(f"{out}: the name has to end in .pdf or .html")
    write_whole(out, data, force=force)
    show_result({"path": str(out), "signature_checked": key is not None}, as_json, str(out))
    if key is None and not as_json:
        note("the signature was not checked: give --key to check it")


@certificate.command("issue")
def issue(
    name: Name,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write, .json, .html or .pdf.")],
    issuer: Annotated[str, typer.Option("--issuer", help="Organisation named on the certificate.")] = "",
    by: Annotated[str | None, typer.Option("--by", help="Who issues it. Default: your login.")] = None,
    ledger: Url = DEFAULT_URL,
    force: Force = False,
) -> None:
    """Sign the certificate of a verified erasure with the key in MLLMERASER_SIGNING_KEY, base64 or a PEM file.

    Examples:

        MLLMERASER_SIGNING_KEY=keys/signing_key.pem mllmeraser certificate issue case-17 --out case-17.json
    """
    with needs_extra("serve"):
        from mllmeraser.api.requests import issue_certificate
        from mllmeraser.serving.verify.signing import KEY_VARIABLE

    key = os.environ.get(KEY_VARIABLE, "")
    with opened(ledger) as book:
        content = issue_certificate(book, name, out, key=key, issuer=issuer, by=by or login())
    write_whole(out, content, force=force)
    show_result({"path": str(out)}, False, str(out))


@certificate.command("key")
def key(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the two files.")],
    as_json: Json = False,
) -> None:
    """Make an Ed25519 key pair. Keep signing_key.pem secret; give public_key.pem to those who check certificates.

    An existing key is never replaced.

    Examples:

        mllmeraser certificate key --out keys
    """
    private, public, name = _package().write_new_key(out)
    show_result({"key_id": name, "signing_key": str(private), "public_key": str(public)}, as_json, name)
    if not as_json:
        note(f"{private} signs certificates: keep it secret. {public} checks them: hand it out.")


def _read(verify: ModuleType, file: Path) -> dict[str, Any]:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from None
    document: dict[str, Any] = verify.read_json(data, str(file))
    return document


def _package() -> ModuleType:
    with needs_extra("serve"):
        from mllmeraser.serving import verify
    return verify
