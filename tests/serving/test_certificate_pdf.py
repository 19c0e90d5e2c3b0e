from __future__ import annotations

import json
import re
import zlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from verify_kit import NAME, one_person, verified

from mllmeraser.samples import InputError
from mllmeraser.serving.packing import request_digests
from mllmeraser.serving.verify import certificate, check_certificate, sign
from mllmeraser.serving.verify.pdf import ATTACHED, certificate_pdf

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def signed(issuer: str = "Čapek & Œuvre Ltd") -> dict[str, object]:
    digests = request_digests(one_person(), "salt")
    return sign(certificate(verified(), erasure_id="a" * 32, request_digests=digests, issuer=issuer), KEY)


def streams(pdf: bytes) -> list[bytes]:
    """The unpacked streams of a PDF."""
    unpacked = []
    for body in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        try:
            unpacked.append(zlib.decompress(body))
        except zlib.error:
            unpacked.append(body)
    return unpacked


def test_it_carries_what_was_signed() -> None:
    document = signed()
    pdf = certificate_pdf(document)
    assert pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF") and ATTACHED.encode() in pdf
    (attached,) = [text for text in streams(pdf) if text.lstrip().startswith(b"{")]
    assert json.loads(attached) == document and check_certificate(attached, KEY.public_key())


def test_its_letters_and_its_language_are_stated() -> None:
    """The file embeds its fonts with their letters, so it can be searched and read aloud."""
    pdf = certificate_pdf(signed())
    assert b"/Lang (en)" in pdf and b"/FontFile2" in pdf
    letters = b"\n".join(streams(pdf)).upper()
    assert all(f"<{ord(letter):04X}>".encode() in letters for letter in "ČŒ")


def test_the_same_certificate_gives_the_same_bytes() -> None:
    document = signed()
    assert certificate_pdf(document) == certificate_pdf(document)


def test_it_holds_no_names() -> None:
    held = b"\n".join(streams(certificate_pdf(signed())))
    assert all(word.encode() not in held for word in (NAME, *NAME.split()))


def test_something_else_is_refused() -> None:
    for other in ({}, {"measured": None}, {"type": "x", "erasure": {"id": "a"}}):
        with pytest.raises(InputError, match="no signed certificate"):
            certificate_pdf(other)
