"""What a method is: a name, variants, settings, and `make`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, ValidationError

from mllmeraser.models.intervention import Intervention
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request


class MethodSettings(BaseModel):
    """Base of the settings of a method: immutable, no unknown fields.

    A method with variants has a field `variant` whose values are its `variants`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


@runtime_checkable
class Method(Protocol):
    """Makes an Intervention from a model and a Request.

    Attributes:
        name: By which it is found in the registry and stated in records.
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
        """Make the product; the model is left as it was, also when this fails.

        Args:
            model: The model that is to forget.
            request: What is to be forgotten, and what must not move.
            settings: Of this method; a mapping is checked; None: the defaults.
            folder: Where work that can be resumed keeps its state; None: nowhere.
            seed: Of everything random.
            progress: Told how far the work is.

        Raises:
            InputError: If the request or the settings cannot be used.
        """


Settings = TypeVar("Settings", bound=MethodSettings)


def checked(kind: type[Settings], given: MethodSettings | Mapping[str, Any] | None) -> Settings:
    """`given` as settings of class `kind`.

    Raises:
        InputError: If a field is unknown or a value does not fit, or they are settings of another method.
    """
    if isinstance(given, kind):
        return given
    if isinstance(given, MethodSettings):
        raise InputError(f"these are {type(given).__name__}, the method needs {kind.__name__}")
    try:
        return kind.model_validate(dict(given or {}))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "settings"
        known = ", ".join(kind.model_fields)
        raise InputError(f"{place}: {first['msg']}; the settings are {known}") from None
