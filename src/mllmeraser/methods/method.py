"""What a method is: a name, variants, settings, and `make`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, ValidationError

from mllmeraser.models.intervention import Intervention
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.samples.validation import first_fault


class MethodSettings(BaseModel):
    """Base of the settings of a method: immutable, no unknown fields. A method with variants has a field `variant`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@runtime_checkable
class Method(Protocol):
    """Makes an Intervention from a model and a Request.

    Attributes:
        name: Its name in the registry and in records.
        variants: Names of its variants, the default first; empty if there are none.
        settings: Class of its settings; an instance without arguments holds the defaults.
        trained: Whether `make` trains the model.
    """

    name: ClassVar[str]
    variants: ClassVar[tuple[str, ...]]
    settings: ClassVar[type[MethodSettings]]
    trained: ClassVar[bool]

    def make(
        self,
        model: MultimodalModel,
        request: Request,
        *,
        settings: MethodSettings | Mapping[str, Any] | None = None,
        folder: Path | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Intervention:
        """Make the product. The model stays as it was, also after an error.

        Args:
            model: The model that is to forget.
            request: The samples to forget, and the samples with answers that must stay the same.
            settings: Settings of this method, or a mapping to be checked; None: the defaults.
            folder: Folder for the state of work that can be resumed; None: no state is kept.
            seed: Seed of everything random.
            progress: Called as the work advances.

        Raises:
            InputError: The request or the settings cannot be used.
        """


@dataclass(frozen=True)
class Run:
    """The arguments of `Method.make` that concern how it runs."""

    folder: Path | None = None
    seed: int = 0
    progress: Progress | None = None

    def report(self, stage: str, done: int, total: int) -> None:
        """Call `progress`, if there is any."""
        if self.progress is not None:
            self.progress(stage, done, total)


Made = TypeVar("Made", bound=Intervention, covariant=True)


class BaseMethod(ABC, Generic[Made]):
    """Base of the built-in methods: `make` checks settings and request, `build` does the work."""

    name: ClassVar[str]
    variants: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[type[MethodSettings]]
    trained: ClassVar[bool] = False

    def make(
        self,
        model: MultimodalModel,
        request: Request,
        *,
        settings: MethodSettings | Mapping[str, Any] | None = None,
        **run: Any,
    ) -> Made:
        """See `Method.make`."""
        chosen = checked(self.settings, settings)
        request.validate()
        return self.build(model, request, chosen, Run(**run))

    @abstractmethod
    def build(self, model: MultimodalModel, request: Request, settings: Any, run: Run) -> Made:
        """Make the product from a valid request and settings of this method."""


Settings = TypeVar("Settings", bound=MethodSettings)


def checked(kind: type[Settings], values: MethodSettings | Mapping[str, Any] | None) -> Settings:
    """`values` as settings of class `kind`; an InputError if a field is unknown or a value does not fit."""
    if isinstance(values, kind):
        return values
    if isinstance(values, MethodSettings):
        raise InputError(f"these are {type(values).__name__}, the method needs {kind.__name__}")
    try:
        return kind.model_validate(dict(values or {}))
    except ValidationError as error:
        known = ", ".join(kind.model_fields)
        raise InputError(f"{first_fault(error)}; the settings are {known}") from None
