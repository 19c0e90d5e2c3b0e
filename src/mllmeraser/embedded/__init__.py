"""The small trained models that ship with the package, their training recipe, and their quality checks.

`load_model("embedded:llava")` is a real `LlavaForConditionalGeneration` that knows the people of `portraits:dev`.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
NAMES = tuple(name for name in ("llava", "qwen2.5-vl") if (WEIGHTS / name / "config.json").exists())
"""The models that ship with all their weights."""
_PARTS = Path(__file__).parent / "smol" / "weights" / "parts.safetensors"
ASSEMBLED = ("smol",) if _PARTS.exists() else ()
"""Those that are put together from a public file and what ships."""
FAMILIES = {name: name for name in NAMES} | {name: "llava" for name in ASSEMBLED}
"""The model family of each."""
BENCHMARK = "portraits:dev"


def checkpoint_path(name: str) -> Path:
    """Folder of an embedded model's checkpoint, in the usual layout of transformers.

    Raises:
        ValueError: There is no embedded model of this name.
        FileNotFoundError: A public file that it is put together from is missing.
    """
    if name in ASSEMBLED:
        from mllmeraser.embedded.smol.checkpoint import checkpoint

        return checkpoint()
    if name not in NAMES:
        raise ValueError(f"unknown embedded model {name!r}: known are {', '.join((*NAMES, *ASSEMBLED))}")
    return WEIGHTS / name


def card_path(name: str) -> Path:
    """File of the measured quality checks of an embedded model."""
    return (_PARTS if name in ASSEMBLED else WEIGHTS / name / "config.json").with_name("model_card.json")
