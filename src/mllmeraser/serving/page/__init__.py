"""The web page: static files without a build step or external resources.

``index.html`` is served at ``/``, all other files at ``/page/``. The page calls relative paths, so it also works below
a prefix. Its Content-Security-Policy is ``default-src 'self'; img-src 'self' data: blob:``.
"""

from pathlib import Path


def files() -> Path:
    """Folder of the static files."""
    return Path(__file__).parent / "static"
