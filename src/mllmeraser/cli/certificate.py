"""`mllmeraser certificate check` and `mllmeraser certificate key`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from mllmeraser.cli.options import Json

certificate = typer.Typer(no_args_is_help=True, help="Certificates of erasure: check one, or make a key to sign them.")


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
    from mllmeraser.samples.errors import InputError

    verify = _package()
    try:
        text = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from None
    public = verify.load_public_key(key)
    document = verify.read_json(text, str(file))
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


def _package() -> ModuleType:
    """The room that signs, which needs a package of the extra `serve`."""
    from mllmeraser.samples.errors import InputError

    try:
        from mllmeraser.serving import verify
    except ImportError as error:
        raise InputError(f"certificates need {error.name}, which is missing: pip install 'mllmeraser[serve]'") from None
    return verify
