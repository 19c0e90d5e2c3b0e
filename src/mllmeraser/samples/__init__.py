"""Samples and requests: what is put to a model, and what somebody wants forgotten."""

from mllmeraser.samples.errors import (
    ArtifactError,
    AttachError,
    InputError,
    MLLMEraserError,
    NumericalError,
    UnknownFamilyError,
)
from mllmeraser.samples.expansion import ExpansionSettings, expand_subject, views
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
