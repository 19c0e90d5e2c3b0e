"""Seeded hashes: equal on every machine and in every process, unlike `hash`."""

from __future__ import annotations

import hashlib


def hash64(*parts: object, separator: str = "/") -> int:
    """Return the first 64 bits of the SHA-256 digest of `parts`, written as text and joined by `separator`."""
    text = separator.join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
