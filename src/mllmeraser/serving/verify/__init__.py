"""Verification of an eraser on prompts it has not seen, and the certificate of what was found."""

from mllmeraser.serving.verify.certificate import certificate, check_certificate
from mllmeraser.serving.verify.checks import Check
from mllmeraser.serving.verify.held_back import Sizes
from mllmeraser.serving.verify.page import render_certificate
from mllmeraser.serving.verify.signing import (
    canonical_json,
    key_id,
    load_public_key,
    load_signing_key,
    public_pem,
    read_json,
    sign,
    write_new_key,
)
from mllmeraser.serving.verify.thresholds import Thresholds
from mllmeraser.serving.verify.verification import Verification, verify

__all__ = [
    "Check",
    "Sizes",
    "Thresholds",
    "Verification",
    "canonical_json",
    "certificate",
    "check_certificate",
    "key_id",
    "load_public_key",
    "load_signing_key",
    "public_pem",
    "read_json",
    "render_certificate",
    "sign",
    "verify",
    "write_new_key",
]
