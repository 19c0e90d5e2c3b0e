"""A frozen multimodal model of any family: loading, chat prompt, batching, states at HookPoints."""

from mllmeraser.models.families import Family, PixelSpace, family_for, register
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.intervention import Attachment, Intervention
from mllmeraser.models.loading import load_model, register_resolver
from mllmeraser.models.model import MultimodalModel

__all__ = [
    "Attachment",
    "Family",
    "HookPoint",
    "Intervention",
    "MultimodalModel",
    "PixelSpace",
    "family_for",
    "load_model",
    "register",
    "register_resolver",
]
