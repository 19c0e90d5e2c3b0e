"""The optional packages that training needs, with one clear line where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from mllmeraser.samples.errors import InputError


def training_package(name: str) -> Any:
    """Import `peft` or `accelerate`.

    Raises:
        InputError: If it is not installed; says how to.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"training needs {name}, which is missing: pip install 'mllmeraser[train]'") from error
