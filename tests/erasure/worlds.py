"""Made-up states and requests for the tests of this room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from PIL import ImageEnhance
from torch import Tensor

from mllmeraser.erasure import DirectionSettings, Eraser, FitSettings, GateSettings, LayerRange
from mllmeraser.erasure.gates import pooled
from mllmeraser.erasure.states.moments import Moments
from mllmeraser.erasure.states.statistics import LayerStatistics
from mllmeraser.samples import Sample
from mllmeraser.samples.request import Request
from tiny import picture

QUESTIONS = ["Who is this?", "What does this person do?", "Where does this person live?", "Name this person."]


def cloud(n: int, d: int, seed: int, *, centre: float = 0.0, spread: float = 1.0) -> Tensor:
    """States (n, d) float64 around a random centre, with unequal spread over the axes."""
    generator = torch.Generator().manual_seed(seed)
    middle = centre * torch.randn(d, generator=generator, dtype=torch.float64)
    axes = torch.linspace(0.05, 1.0, d, dtype=torch.float64)
    return middle + spread * axes * torch.randn(n, d, generator=generator, dtype=torch.float64)


def moments(n: int, d: int, seed: int, **options: float) -> Moments:
    return Moments.from_states(cloud(n, d, seed, **options))


def close(left: Tensor, right: Tensor, tolerance: float = 1e-8) -> None:
    torch.testing.assert_close(left, right, atol=tolerance, rtol=tolerance)


def layer_statistics(subjects: list[str], d: int = 8, per_subject: int = 12) -> LayerStatistics:
    groups = {"retain": moments(60, d, 1), "strangers": moments(20, d, 2, centre=2.0)}
    for number, name in enumerate(subjects):
        groups[f"forget/{name}"] = moments(per_subject + number, d, 10 + number, centre=1.0)
    return LayerStatistics(groups)


def person(key: str, number: int, views: int, questions: list[str]) -> list[Sample]:
    """One person's samples: every question over every view, and two questions in text alone."""
    portrait = ImageEnhance.Brightness(picture(number))
    pictures = [portrait.enhance(1.0 - 0.03 * view) for view in range(views)]
    answer = f"This is person {number}."
    over = [Sample(q, image, answer=answer, subject=key) for image in pictures for q in questions]
    return over + [Sample(f"{q} {key}", None, answer=answer, subject=key) for q in questions[:2]]


def small_request(subjects: int = 2, retain: int = 10, strangers: int = 2) -> Request:
    forget = [s for n in range(subjects) for s in person(f"Person{n}", n, 4, QUESTIONS)]
    kept = [s for n in range(retain) for s in person(f"Keep{n}", 20 + n, 1, QUESTIONS)]
    fresh = [s for n in range(strangers) for s in person(f"Fresh{n}", 60 + n, 1, QUESTIONS)]
    return Request.from_samples(forget, kept, fresh)


def quick(**changes: object) -> FitSettings:
    """Settings of the preset `tail`, for a handful of prompts."""
    base = {"false_alarm_rate": 0.2, "max_new_tokens": 4, "tune_prompts": 6, "batch_size": 64, "salt": "s"}
    return FitSettings(**{**base, **changes})  # type: ignore[arg-type]


def paper(**changes: object) -> FitSettings:
    """The paper preset, with the quick numbers."""
    return FitSettings.preset("paper").model_copy(update={"batch_size": 64, "salt": "s", **changes})


__all__ = [
    "QUESTIONS",
    "DirectionSettings",
    "GateSettings",
    "LayerRange",
    "cloud",
    "layer_statistics",
    "moments",
    "paper",
    "person",
    "quick",
    "small_request",
]


def decision_scores(eraser: Eraser, states: Mapping[Any, torch.Tensor]) -> torch.Tensor:
    """(n, subjects) scores of states (n, d) by layer or HookPoint, for an eraser that reads one state per prompt."""
    by_layer = {getattr(key, "layer", key): value for key, value in states.items()}
    return pooled({i: eraser.gate(i) for i in eraser.config.read_layers}, by_layer, eraser.config.policy)


def decide(eraser: Eraser, states: Mapping[Any, torch.Tensor]) -> torch.Tensor:
    """(n,) amplitudes of such an eraser."""
    scores = decision_scores(eraser, states).amax(-1)
    return eraser.config.policy.amplitude(scores, eraser.config.threshold or 0.0)
