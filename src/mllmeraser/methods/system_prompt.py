"""The system prompt: tell the model in words whom it is not to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from mllmeraser.methods.interception import intercept
from mllmeraser.methods.method import MethodSettings, checked
from mllmeraser.models.intervention import Attachment
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import AttachError, InputError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample

INSTRUCTION = (
    "You do not know the following people: {names}. If you are asked about one of them, or shown a picture of "
    'one of them, answer "I do not know this person."'
)


class SystemPromptSettings(MethodSettings):
    """Settings of the system prompt.

    Attributes:
        instruction: Put before every question; `{names}` stands for the names.
    """

    instruction: str = Field(default=INSTRUCTION)

    @field_validator("instruction")
    @classmethod
    def _has_names(cls, text: str) -> str:
        if "{names}" not in text:
            raise ValueError("the instruction needs {names}, where the names go")
        return text


@dataclass(frozen=True)
class SystemPromptProduct:
    """An instruction before every prompt of a model of `load_model`.

    It stands at the start of the user's turn: not every chat format has a system turn.

    Attributes:
        instruction: With the names filled in.
    """

    instruction: str

    def attach(self, model: Any) -> Attachment:
        """Attach until detached.

        Raises:
            AttachError: If `model` is a plain transformers model: it is asked in tokens, not in words.
        """
        if not isinstance(model, MultimodalModel):
            raise AttachError(
                "a system prompt changes what is asked, so it needs a model of load_model(), not a plain "
                "transformers model"
            )
        return Attachment(intercept(model.prompts, "text", self._text), ["system-prompt"])

    def attached(self, model: Any) -> Attachment:
        """Attach for the length of a `with` block."""
        return self.attach(model)

    def _text(self, text: Callable[[Sample], str], sample: Sample) -> str:
        return text(replace(sample, question=f"{self.instruction}\n{sample.question}"))


class SystemPrompt:
    """Names the subjects of a request in an instruction before each prompt. Uses no picture, trains nothing."""

    name: ClassVar[str] = "system-prompt"
    variants: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[type[MethodSettings]] = SystemPromptSettings
    trained: ClassVar[bool] = False

    def make(
        self,
        model: MultimodalModel,
        request: Request,
        *,
        settings: MethodSettings | Mapping[str, Any] | None = None,
        folder: Path | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> SystemPromptProduct:
        """See `Method.make`; nothing is random, and nothing is kept in `folder`.

        Raises:
            InputError: If a subject has no name, or the instruction spells out the image placeholder.
        """
        chosen = checked(SystemPromptSettings, settings)
        request.validate()
        nameless = [subject.key for subject in request.subjects if not subject.names]
        if nameless:
            raise InputError(f"system-prompt tells the model names, and subject {nameless[0]} has none: give it one")
        names = dict.fromkeys(name for subject in request.subjects for name in subject.names)
        instruction = chosen.instruction.replace("{names}", ", ".join(names))
        if model.family.image_token(model.processor) in instruction:
            raise InputError("system-prompt: the instruction must not contain the image placeholder")
        if progress is not None:
            progress("prepare", 1, 1)
        return SystemPromptProduct(instruction)
