"""One world for every test of the room: the smallest preset, each config drawn once."""

from __future__ import annotations

import pytest

from mllmeraser.portraits import Configs, World


@pytest.fixture(scope="session")
def world() -> World:
    """Two dozen people; do not change it."""
    return World("unit", 0)


@pytest.fixture(scope="session")
def configs(world: World) -> Configs:
    """Its rows; do not change them."""
    return Configs(world)
