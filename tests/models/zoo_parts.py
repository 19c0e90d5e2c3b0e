"""Parts of the rows of the zoo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

WIDTH, DEPTH = 32, 4
SIGHTLESS = "its image processor needs torchvision"

Ids = Callable[[str], int]
Config = Callable[[Ids, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Kind:
    """The parts of one family.

    Attributes:
        model_type: As in its configuration.
        tokens: Special tokens of its prompts.
        config: Keyword arguments of the configuration, from the id of a token.
        processor: The processor around a tokenizer.
        named: Tokens that its tokenizer knows by name.
        placeholder: What the chat template writes for a picture.
        processor_class: As `processor_config.json` names it, for one that cannot be saved as a whole here.
        settings: What else stands there.
        opening: What the chat template writes before the first turn.
        stands_in: Why the image processor is a stand-in, where it is.
    """

    model_type: str
    tokens: tuple[str, ...]
    config: Config
    processor: Callable[[Any], Any]
    placeholder: str
    named: Mapping[str, str] = field(default_factory=dict)
    processor_class: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    opening: str = ""
    stands_in: str = ""


def pil(model: str, name: str, **settings: Any) -> Any:
    """The image processor of transformers that needs no torchvision."""
    module = __import__(f"transformers.models.{model}.image_processing_pil_{model}", fromlist=["_"])
    return getattr(module, f"{name}ImageProcessorPil")(**settings)


def square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def tower(**settings: Any) -> dict[str, Any]:
    """A vision tower of 16-pixel pictures in patches of 4, as deep as the decoder."""
    return {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
        **settings,
    }
