"""The system prompt: an instruction that tells the model which people it does not know."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pydantic import Field, field_validator

from mllmeraser.methods.interception import Wrapper, WrappingProduct
from mllmeraser.methods.method import BaseMethod, MethodSettings, Run
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample

INSTRUCTION = (
    "You do not know the following people: {names}. If you are asked about one of them, or shown a picture of "
    'one of them, answer "I do not know this person."'
)


class SystemPromptSettings(MethodSettings):
    """Settings of the system prompt: the text before every question, in which the names replace `{names}`."""

    instruction: str = Field(default=INSTRUCTION)

    @field_validator("instruction")
    @classmethod
    def _has_names(cls, text: str) -> str:
        if "{names}" not in text:
            raise ValueError("the instruction needs {names}, where the names go")
        return text


@dataclass(frozen=True)
class SystemPromptProduct(WrappingProduct):
    """An instruction (names filled in) before every prompt of a model of `load_model`.

    It goes to the start of the user's turn, because some chat formats have no system turn.
    """

    instruction: str

    method: ClassVar[str] = "system-prompt"

    def wrappers(self, model: MultimodalModel) -> Iterable[tuple[Any, str, Wrapper]]:
        """See `WrappingProduct`."""
        return [(model.prompts, "text", self._text)]

    def _text(self, text: Callable[[Sample], str], sample: Sample) -> str:
        return text(replace(sample, question=f"{self.instruction}\n{sample.question}"))


class SystemPrompt(BaseMethod[SystemPromptProduct]):
    """Names the subjects of a request in an instruction before each prompt. Uses no picture, trains nothing."""

    name: ClassVar[str] = "system-prompt"
    settings: ClassVar[type[MethodSettings]] = SystemPromptSettings

    def build(
        self, model: MultimodalModel, request: Request, settings: SystemPromptSettings, run: Run
    ) -> SystemPromptProduct:
        """Fill in the names; an InputError if a subject has none, or the text contains the image placeholder."""
        nameless = [subject.key for subject in request.subjects if not subject.names]
        if nameless:
            raise InputError(f"system-prompt needs names, and subject {nameless[0]} has none: add its name")
        names = dict.fromkeys(name for subject in request.subjects for name in subject.names)
        instruction = settings.instruction.replace("{names}", ", ".join(names))
        if model.family.image_token(model.processor) in instruction:
            raise InputError("system-prompt: the instruction must not contain the image placeholder")
        run.report("prepare", 1, 1)
        return SystemPromptProduct(instruction)
