"""Samples and requests: questions for a model, and the data to forget."""

from mllmeraser.samples.errors import (
    ArtifactError,
    AttachError,
    InputError,
    MLLMEraserError,
    NumericalError,
    UnknownFamilyError,
)
from mllmeraser.samples.expansion import ExpansionSettings, ViewSettings, expand_subject, views
from mllmeraser.samples.images import decode_image, open_image
from mllmeraser.samples.questions import QuestionLibrary, Wording, default_library, read_library
from mllmeraser.samples.readers import read_samples
from mllmeraser.samples.request import Request, require_answers
from mllmeraser.samples.sample import Modality, Sample, Task
from mllmeraser.samples.subject import Subject

__all__ = [
    "ArtifactError",
    "AttachError",
    "ExpansionSettings",
    "InputError",
    "MLLMEraserError",
    "Modality",
    "NumericalError",
    "QuestionLibrary",
    "Request",
    "Sample",
    "Subject",
    "Task",
    "UnknownFamilyError",
    "ViewSettings",
    "Wording",
    "decode_image",
    "default_library",
    "expand_subject",
    "open_image",
    "read_library",
    "read_samples",
    "require_answers",
    "views",
]
