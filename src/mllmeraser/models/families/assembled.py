"""Processors put together from their parts, where `AutoProcessor` wants torchvision for videos nobody sends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, ProcessorMixin

MISSING_PARTS = (ImportError, AttributeError, TypeError, ValueError, OSError)
"""What `AutoProcessor` raises without torchvision, depending on the version of transformers; a checkpoint that is
really broken fails again when its parts are loaded, with its own message."""


class AssembledProcessor:
    """Image processor, tokenizer and chat template of a checkpoint, without the video processor.

    `AutoProcessor` insists on a video processor for some families, and that one on torchvision. Still pictures
    need neither. Everything this package does with a processor goes through these three parts.
    """

    def __init__(
        self,
        image_processor: Any,
        tokenizer: Any,
        chat_template: str | None = None,
        image_token: str = "<|image_pad|>",
        **settings: Any,
    ) -> None:
        """Put the parts together.

        Args:
            image_processor: The checkpoint's.
            tokenizer: The checkpoint's; its own image token, if it names one, goes before `image_token`.
            chat_template: Without it the tokenizer's own is used.
            image_token: Placeholder of a picture.
            settings: Numbers of `processor_config.json`, kept as attributes.
        """
        self.image_processor = image_processor
        self.tokenizer = tokenizer
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


def load_parts(
    source: str, revision: str | None, image_token: str, settings: tuple[str, ...] = ()
) -> AssembledProcessor:
    """The parts of a checkpoint, with those `settings` of its `processor_config.json` that it states.

    Raises:
        OSError: If one of the parts is missing.
    """
    image_processor, tokenizer, stated = _parts(source, revision)
    kept = {name: stated[name] for name in settings if name in stated}
    return AssembledProcessor(image_processor, tokenizer, stated.get("chat_template"), image_token, **kept)


def load_processor(source: str, revision: str | None, still: str | None = None) -> Any:
    """The checkpoint's own processor.

    Args:
        source: Folder or hub id.
        revision: Branch, tag or commit of a hub checkpoint.
        still: Name of the processor class in transformers that also does without its video processor; None where
            the family has none.

    Raises:
        OSError: If the checkpoint holds no processor files.
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
    """The processor class `name` of transformers, for still pictures: its video processor may be None."""
    own = getattr(transformers, name)

    def check(self: Any, argument_name: str, argument: Any) -> Any:
        return None if argument is None else own.check_argument_for_proper_class(self, argument_name, argument)

    return type(f"Still{name}", (own,), {"check_argument_for_proper_class": check})


def _parts(source: str, revision: str | None) -> tuple[Any, Any, dict[str, Any]]:
    image_processor = AutoImageProcessor.from_pretrained(source, revision=revision, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    stated, _ = ProcessorMixin.get_processor_dict(source, revision=revision)
    return image_processor, tokenizer, stated
