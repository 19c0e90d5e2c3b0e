"""`mllmeraser certificate`: check one, print one, make a key to sign them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from mllmeraser.cli.options import Force, Json

certificate = typer.Typer(
    no_args_is_help=True, help="Certificates of erasure: check one, print one, or make a key to sign them."
)


@certificate.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The certificate, as JSON.", show_default=False)],
    key: Annotated[Path, typer.Option("--key", metavar="PUB", help="Public key of the issuer, a PEM file.")],
    as_json: Json = False,
) -> None:
    """Whether a certificate was signed with a key and is unchanged since. Exit code 1 if not.

    Examples:

        mllmeraser certificate check certificate.json --key public_key.pem
    """
    from mllmeraser.cli.runtime import print_json

    verify = _package()
    public = verify.load_public_key(key)
    document = verify.read_json(_read(file), str(file))
    valid = verify.check_certificate(document, public)
    measured = document.get("measured")
    passed = bool(measured.get("passed")) if valid and isinstance(measured, dict) else None
    if as_json:
        print_json({"valid": valid, "key_id": verify.key_id(public), "passed": passed})
    elif valid:
        print(f"valid: signed with key {verify.key_id(public)}; the eraser {'passed' if passed else 'did not pass'}")
    else:
        print(f"not valid: not signed with key {verify.key_id(public)}, or changed since")
    if not valid:
        raise typer.Exit(1)


@certificate.command("print")
def to_print(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The certificate, as JSON.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to: a name that ends in .pdf or .html.")],
    key: Annotated[Path | None, typer.Option("--key", metavar="PUB", help="Check it first: the issuer's key.")] = None,
    force: Force = False,
) -> None:
    """Write a certificate as a PDF, with the signed file attached, or as a page.

    Examples:

        mllmeraser certificate print certificate.json --key public_key.pem --out certificate.pdf
    """
    from mllmeraser.cli.runtime import note
    from mllmeraser.samples.errors import InputError
    from mllmeraser.samples.files import write_whole

    verify = _package()
    document = verify.read_json(_read(file), str(file))
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
    note(f"{out} written" + ("" if key else "; the signature was not checked: --key does"))


@certificate.command("key")
def key(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the two files.")],
    as_json: Json = False,
) -> None:
    """Make an Ed25519 key: signing_key.pem, to be kept secret, and public_key.pem, to be handed out.

    A key that exists is never replaced.

    Examples:

        mllmeraser certificate key --out keys
    """
    from mllmeraser.cli.runtime import note, print_json

    private, public, name = _package().write_new_key(out)
    if as_json:
        print_json({"key_id": name, "signing_key": str(private), "public_key": str(public)})
        return
    print(name)
    note(f"{private} signs certificates: keep it secret. {public} checks them: hand it out.")


def _read(file: Path) -> bytes:
    from mllmeraser.samples.errors import InputError

    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from None


def _package() -> ModuleType:
    """The room that signs, which needs a package of the extra `serve`."""
    from mllmeraser.samples.errors import InputError

    try:
        from mllmeraser.serving import verify
    except ImportError as error:
        raise InputError(f"certificates need {error.name}, which is missing: pip install 'mllmeraser[serve]'") from None
    return verify
