"""Distances between clouds, the plane of the figure, and what an eraser does to states."""

from __future__ import annotations

import numpy as np
import pytest
from worlds import quick, small_request

from mllmeraser.comparison.activations import energy_distance, measure, principal_plane, summarise, wasserstein
from mllmeraser.erasure import fit
from mllmeraser.models.model import MultimodalModel


def test_energy_distance_by_hand() -> None:
    x, y = np.array([[0.0, 0.0], [0.0, 2.0]]), np.array([[3.0, 0.0]])
    between = (3 + 13**0.5) / 2
    assert energy_distance(x, y) == pytest.approx((2 * between - 1, (2 * between - 1) / (2 * between)))
    assert energy_distance(x, x) == (0.0, 0.0)
    assert energy_distance(y, y + 4) == pytest.approx((2 * 32**0.5, 1.0)), "two points are as far apart as can be"


def test_wasserstein_by_hand() -> None:
    assert wasserstein(np.array([0.0, 1.0]), np.array([2.0, 5.0])) == pytest.approx(3.0)
    assert wasserstein(np.array([0.0, 0.0, 1.0]), np.array([0.0])) == pytest.approx(1 / 3)
    assert wasserstein(np.array([1.0]), np.array([1.0, 1.0])) == 0.0


def test_the_plane_holds_what_spreads_most() -> None:
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(400, 5)) * np.array([0.1, 5.0, 0.1, 2.0, 0.1])
    plane, (one, two) = principal_plane([wide, wide[:200]])
    assert one == pytest.approx(25 / 29, abs=0.05) and one + two > 0.99
    assert np.abs(plane.axes[0]).argmax() == 1 and np.abs(plane.axes[1]).argmax() == 3
    assert plane.axes[0].max() > 0.9 and plane(wide).shape == (400, 2)
    assert principal_plane([np.ones((3, 4))])[1] == (0.0, 0.0)


def test_what_moved_and_what_did_not() -> None:
    rng = np.random.default_rng(1)
    forget, retain = rng.normal(size=(30, 8)), rng.normal(size=(40, 8))
    found = summarise(3, {"forget": ("test", forget, forget + 10), "retain": ("retain", retain, retain)})
    assert found.distances["retain, before / retain, after"]["energy"] == 0.0
    assert found.distances["forget, before / forget, after"]["energy_share"] > 0.7
    assert found.groups["retain"].before == found.groups["retain"].after and len(found.groups["forget"].after) == 30
    assert len(found.distances) == 6


def test_an_eraser_on_a_model(tiny_model: MultimodalModel) -> None:
    request = small_request()
    eraser = fit(tiny_model, request, quick()).eraser
    sets = {"test": list(request.forget), "retain": list(request.retain)}
    found = measure(tiny_model, eraser, sets, per_cell=4)
    assert found is not None and found.layer == min(eraser.config.shift_layers)
    assert found.groups["forget"].set == "test" and found.groups["retain"].set == "retain"
    again = measure(tiny_model, eraser, sets, per_cell=4)
    assert again == found, "the model was left as it was"
    still = measure(tiny_model, eraser.replace_config(strength=0.0), sets, per_cell=4)
    assert still is not None and all(cloud.before == cloud.after for cloud in still.groups.values())
    assert measure(tiny_model, eraser, {"test": sets["test"]}, per_cell=4) is None
