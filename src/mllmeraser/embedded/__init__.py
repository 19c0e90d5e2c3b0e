"""The small trained models that ship with the package, their training recipe, and their quality checks.

`load_model("embedded:llava")` is a real `LlavaForConditionalGeneration` that knows the people of `portraits:dev`.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
NAMES = tuple(name for name in ("llava", "qwen2.5-vl") if (WEIGHTS / name / "config.json").exists())
"""The models that ship with weights."""
BENCHMARK = "portraits:dev"


def checkpoint_path(name: str) -> Path:
    """Folder of a shipped checkpoint, in the usual layout of transformers.

    Raises:
        ValueError: No model of this name ships.
    """
    if name not in NAMES:
        raise ValueError(f"unknown embedded model {name!r}: known are {', '.join(NAMES)}")
    return WEIGHTS / name
