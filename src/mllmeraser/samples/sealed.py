"""A manifest that states its own digest: a change by hand is noticed, whatever it changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mllmeraser.samples.errors import ArtifactError

SEAL = "manifest_sha256"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a manifest with the digest of all its fields."""
    return {**content, SEAL: _digest(content)}


def unsealed(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The content without its digest; `source` names the manifest in errors.

    Raises:
        ArtifactError: It has no digest, or another one: somebody has changed it.
    """
    rest = {key: value for key, value in content.items() if key != SEAL}
    if content.get(SEAL) != _digest(rest):
        raise ArtifactError(f"{source}: was changed after it was written, its digest is another one: fit it again")
    return rest


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
