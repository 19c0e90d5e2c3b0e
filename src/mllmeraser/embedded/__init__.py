"""The small trained models that ship with the package, the recipe that trained them, and their gates.

``load_model("embedded:llava")`` is a real ``LlavaForConditionalGeneration`` that knows the people of ``portraits:dev``.
"""

from __future__ import annotations

from pathlib import Path

NAMES = ("llava",)
BENCHMARK = "portraits:dev"


def checkpoint_path(name: str) -> Path:
    """Folder of a shipped checkpoint, in the ordinary layout of transformers.

    Raises:
        ValueError: No model of this name ships.
    """
    folder = Path(__file__).parent / "weights" / name
    if name not in NAMES or not (folder / "config.json").exists():
        raise ValueError(f"no embedded model is called {name!r}; there are: {', '.join(NAMES)}")
    return folder
