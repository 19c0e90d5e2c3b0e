"""Processors assembled from their parts, because `AutoProcessor` needs torchvision for unused video support."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, ProcessorMixin

MISSING_PARTS = (ImportError, AttributeError, TypeError, ValueError, OSError)
"""Errors of `AutoProcessor` without torchvision, by version of transformers. A broken checkpoint fails again when its
parts are loaded, with its own message."""


class AssembledProcessor:
    """Image processor, tokenizer and chat template of a checkpoint, without the video processor.

    `AutoProcessor` needs a video processor for some families, which needs torchvision. Still pictures need neither.
    """

    def __init__(
        self,
        image_processor: Any,
        tokenizer: Any,
        chat_template: str | None = None,
        image_token: str = "<|image_pad|>",
        **settings: Any,
    ) -> None:
        """Assemble the parts of a checkpoint.

        The tokenizer's own chat template is the default; its own image token, if any, comes before `image_token`.
        `settings` are values of `processor_config.json` that become attributes.
        """
        self.image_processor, self.tokenizer = image_processor, tokenizer
        self.chat_template = chat_template or tokenizer.chat_template
        self.image_token: str = getattr(tokenizer, "image_token", None) or image_token
        for name, value in settings.items():
            setattr(self, name, value)

    def apply_chat_template(self, messages: list[dict[str, Any]], **options: Any) -> Any:
        """Render messages with the checkpoint's template (options as in transformers)."""
        return self.tokenizer.apply_chat_template(messages, chat_template=self.chat_template, **options)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the parts in the ordinary checkpoint layout, readable by `AutoProcessor` as well."""
        self.tokenizer.chat_template = self.chat_template
        self.image_processor.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def load_or_assemble(source: str, revision: str | None, image_token: str, settings: tuple[str, ...] = ()) -> Any:
    """The checkpoint's own processor, or without torchvision its parts and `settings` of `processor_config.json`.

    Raises:
        OSError: If one of the parts is missing.
    """
    try:
        return load_processor(source, revision)
    except MISSING_PARTS:
        pass
    image_processor, tokenizer, stated = _parts(source, revision)
    kept = {name: stated[name] for name in settings if name in stated}
    return AssembledProcessor(image_processor, tokenizer, stated.get("chat_template"), image_token, **kept)


def load_processor(source: str, revision: str | None, still: str | None = None) -> Any:
    """The checkpoint's own processor.

    `still` names a processor class of transformers to load without its video processor, if torchvision is missing.

    Raises:
        OSError: If the checkpoint has no processor files.
    """
    try:
        return AutoProcessor.from_pretrained(source, revision=revision, trust_remote_code=False)
    except MISSING_PARTS:
        if still is None:
            raise
    image_processor, tokenizer, stated = _parts(source, revision)
    kind, parts = still_processor(still), {"image_processor": image_processor, "tokenizer": tokenizer}
    return kind.from_args_and_dict([parts.get(name) for name in kind.get_attributes()], stated)


def still_processor(name: str) -> Any:
    """The processor class `name` of transformers with an optional video processor."""
    own = getattr(transformers, name)

    def check(self: Any, argument_name: str, argument: Any) -> Any:
        return None if argument is None else own.check_argument_for_proper_class(self, argument_name, argument)

    return type(f"Still{name}", (own,), {"check_argument_for_proper_class": check})


def _parts(source: str, revision: str | None) -> tuple[Any, Any, dict[str, Any]]:
    image_processor = AutoImageProcessor.from_pretrained(source, revision=revision, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    stated, _ = ProcessorMixin.get_processor_dict(source, revision=revision)
    return image_processor, tokenizer, stated
