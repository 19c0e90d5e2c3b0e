"""Decisions on those who look like the forgotten are counted apart."""

from __future__ import annotations

from mllmeraser.samples import Sample
from mllmeraser.studies.look_alikes import counted
from tiny import picture


def test_pictures_of_look_alikes_are_counted_apart() -> None:
    samples = [Sample("Who?", picture(n), subject=key) for n, key in enumerate("aabb")] + [
        Sample("Who is A?", subject="a")
    ]
    found = counted(samples, [True, False, False, False, True], [True, True, False, True, False], {"a"}, seed=0)
    assert found["everybody"]["share"] == 2 / 5 and found["everybody"]["n"] == 5
    near = found["pictures of look-alikes"]
    assert near["share"] == 1 / 2 and near["n"] == 2 and found["by_person"] == {"a": 2}
    assert found["lost"]["share"] == 1 / 5 and found["known"]["share"] == 1
    assert counted(samples[2:4], [False] * 2, [True] * 2, {"a"}, seed=0)["pictures of look-alikes"] is None
