"""Kinds of direction: what each computes, each subject's share in it, and when a fit refuses it."""

from __future__ import annotations

import pytest
import torch
from worlds import cloud, layer_statistics, moments

from mllmeraser.erasure.directions import kinds
from mllmeraser.erasure.directions.kinds import (
    DirectionKind,
    check_direction,
    direction_kind,
    erasure_direction,
    register_direction,
)
from mllmeraser.erasure.states.moments import Moments
from mllmeraser.erasure.states.statistics import LayerStatistics
from mllmeraser.samples import InputError, NumericalError, Sample


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


SAMPLE = Sample("Who is this?", answer="Jane Doe")
WHOLE = {"strangers": [SAMPLE], "contrast": object(), "forget": {"a": [SAMPLE], "b": [Sample("And this?"), SAMPLE]}}


@pytest.mark.parametrize("kind", ["refusal", "text-only", "clean-image", "idk"])
def test_some_directions_do_not_work_with_gates_of_whole_prompts(kind: str) -> None:
    assert check_direction(kind, on_prompts=False, **WHOLE).name == kind
    assert check_direction("unknown", on_prompts=False, **WHOLE) is check_direction("unknown", on_prompts=True, **WHOLE)
    with pytest.raises(InputError, match="does not work with the gate 'subject': choose a gate such as 'soft'"):
        check_direction(kind, on_prompts=True, **WHOLE)


@pytest.mark.parametrize(
    ("kind", "missing", "message"),
    [
        ("unknown", {"strangers": []}, "needs strangers"),
        ("text-only", {"contrast": None}, "needs contrast samples"),
        ("idk", {"forget": {"a": [SAMPLE], "b": [Sample("And this?")]}}, "needs answers"),
        ("sideways", {}, "unknown direction"),
    ],
)
def test_missing_samples_are_refused_early(kind: str, missing: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_direction(kind, on_prompts=False, **{**WHOLE, **missing})


def test_kinds_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "_KINDS", dict(kinds._KINDS))
    register_direction("mine", lambda layer: kinds.Direction(layer.retain.mean, {}))
    assert direction_kind("mine").retain and not direction_kind("mine").needs
    register_direction(DirectionKind("mine", direction_kind("mine").build, frozenset({"contrast"})))
    assert not direction_kind("mine").retain
    assert torch.equal(erasure_direction("mine", layer_statistics(["a"])).vector, layer_statistics(["a"]).retain.mean)
    with pytest.raises(InputError, match="needs contrast samples"):
        check_direction("mine", on_prompts=True, **{**WHOLE, "contrast": None})
    with pytest.raises(InputError, match="no function"):
        register_direction("mine")
