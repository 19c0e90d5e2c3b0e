"""Reading the settings that a search has found: what a recipe's `settings_from` names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mllmeraser.samples.errors import InputError

SETTINGS = "settings"
"""Key of the file: method and variant -> settings."""


def read_settings(file: Path, recipe: Path) -> dict[str, dict[str, Any]]:
    """The settings of a search's result, by method and variant.

    Args:
        file: What `mllmeraser search` wrote.
        recipe: Who asks, for messages.

    Raises:
        InputError: There is no such file, or it is no result of a search.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"{recipe}: settings_from: there is no {file}: make it with mllmeraser search") from None
    except ValueError:
        content = None
    found = content.get(SETTINGS) if isinstance(content, dict) else None
    if not isinstance(found, dict) or not all(isinstance(settings, dict) for settings in found.values()):
        raise InputError(f"{recipe}: settings_from: {file} is no result of mllmeraser search")
    return found
