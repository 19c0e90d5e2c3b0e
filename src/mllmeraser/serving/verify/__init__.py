"""Verification of an eraser on prompts that its fit has not seen, and the certificate of the result."""

from mllmeraser.serving.verify.certificate import certificate, check_certificate
from mllmeraser.serving.verify.checks import Check
from mllmeraser.serving.verify.fresh_prompts import Sizes
from mllmeraser.serving.verify.page import render_certificate
from mllmeraser.serving.verify.signing import key_id, load_public_key, load_signing_key, read_json, sign, write_new_key
from mllmeraser.serving.verify.thresholds import Thresholds
from mllmeraser.serving.verify.verification import Verification, verify

__all__ = [
    "Check",
    "Sizes",
    "Thresholds",
    "Verification",
    "certificate",
    "check_certificate",
    "key_id",
    "load_public_key",
    "load_signing_key",
    "read_json",
    "render_certificate",
    "sign",
    "verify",
    "write_new_key",
]
