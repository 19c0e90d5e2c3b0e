"""The page of the service: static files, without a build step and without anything from elsewhere.

``index.html`` is served at ``/``, everything else of the folder at ``/page/``. The page calls the routes of the service
by paths beside its own, so it also works below a prefix. It needs no more than this Content-Security-Policy:
``default-src 'self'; img-src 'self' data: blob:``.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["files"]


def files() -> Path:
    """Folder of the static files."""
    return Path(__file__).parent / "static"
