from __future__ import annotations

import pytest

from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.samples import InputError


def test_hookpoints_are_values() -> None:
    assert HookPoint(2) == HookPoint(2)
    assert len({HookPoint(2), HookPoint(2), HookPoint(3)}) == 2
    assert sorted([HookPoint(3), HookPoint(1)]) == [HookPoint(1), HookPoint(3)]


@pytest.mark.parametrize("layer", [-1, 1.5, True, "2"])
def test_a_layer_is_a_whole_number(layer: object) -> None:
    with pytest.raises(InputError, match="whole number"):
        HookPoint(layer)  # type: ignore[arg-type]


def test_a_layer_beyond_the_last_is_refused() -> None:
    assert HookPoint(3).check(4) == HookPoint(3)
    with pytest.raises(InputError, match="layers 0 to 3"):
        HookPoint(4).check(4)
