"""Directions: mean of erasure states minus mean of recall states, and each subject's share in them."""

from __future__ import annotations

import pytest
import torch
from worlds import cloud, layer_statistics, moments

from mllmeraser.erasure.directions.direction import erasure_direction
from mllmeraser.erasure.states.statistics import LayerStatistics, Moments
from mllmeraser.samples import InputError, NumericalError


@pytest.mark.parametrize("kind", ["refusal", "text-only", "clean-image"])
def test_contrast_directions_point_from_recall_to_erase(kind: str) -> None:
    erase, recall = cloud(7, 5, 0, centre=1.0), cloud(9, 5, 1)
    sides = LayerStatistics({"erase": Moments.from_states(erase), "recall": Moments.from_states(recall)})
    assert torch.allclose(erasure_direction(kind, sides).vector, erase.mean(0) - recall.mean(0), atol=1e-12)


def test_unknown_points_from_the_forgotten_to_strangers() -> None:
    layer = layer_statistics(["a", "b"])
    pooled = layer["forget/a"] + layer["forget/b"]
    found = erasure_direction("unknown", layer)
    assert torch.allclose(found.vector, layer.strangers.mean - pooled.mean, atol=1e-12)
    left = erasure_direction("unknown", layer.without("a"))
    assert torch.allclose(left.vector, layer.strangers.mean - layer["forget/b"].mean, atol=1e-12)


def test_idk_compares_the_same_questions() -> None:
    groups = {}
    for number, key in enumerate("ab"):
        groups[f"erase/{key}"] = moments(4 + number, 5, number, centre=1.0)
        groups[f"recall/{key}"] = moments(4 + number, 5, 10 + number)
    found = erasure_direction("idk", LayerStatistics(groups)).vector
    erase, recall = groups["erase/a"] + groups["erase/b"], groups["recall/a"] + groups["recall/b"]
    assert torch.allclose(found, erase.mean - recall.mean, atol=1e-12)
    with pytest.raises(InputError):
        erasure_direction("idk", LayerStatistics({**groups, "erase/a": moments(5, 5, 0)}))


def test_missing_or_equal_sides_are_refused() -> None:
    same = moments(3, 4, 0)
    with pytest.raises(NumericalError):
        erasure_direction("refusal", LayerStatistics({"erase": same, "recall": same}))
    with pytest.raises(InputError, match="strangers"):
        erasure_direction("unknown", LayerStatistics({"forget/a": same}))
    with pytest.raises(InputError, match="forget"):
        erasure_direction("unknown", LayerStatistics({"strangers": same}))
    with pytest.raises(InputError, match="unknown direction"):
        erasure_direction("sideways", LayerStatistics())
