"""Samples and requests: questions for a model, and the data to forget."""

from mllmeraser.samples.conversation import Conversation, Turn
from mllmeraser.samples.errors import (
    ArtifactError,
    AttachError,
    InputError,
    MLLMEraserError,
    NumericalError,
    UnknownFamilyError,
)
from mllmeraser.samples.expansion import ExpansionSettings, ViewSettings, expand_subject
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.subject import Subject

__all__ = [
    "ArtifactError",
    "AttachError",
    "Conversation",
    "ExpansionSettings",
    "InputError",
    "MLLMEraserError",
    "NumericalError",
    "Request",
    "Sample",
    "Subject",
    "Turn",
    "UnknownFamilyError",
    "ViewSettings",
    "expand_subject",
]
