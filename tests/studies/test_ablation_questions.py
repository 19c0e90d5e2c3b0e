"""What is not asked would have been answered the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from ablation_kit import PAPER, TAIL, WORLD, SmallLab, scored

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.calibration.score_prompts import GateReadings
from mllmeraser.erasure.policy import PERSISTENT, Policy
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import Sample
from mllmeraser.studies.ablation import questions as module
from mllmeraser.studies.ablation.edits import Open, Strength
from mllmeraser.studies.ablation.questions import Questions, cells_of, silent


@pytest.fixture(scope="module")
def lab(tiny_llava: MultimodalModel) -> SmallLab:
    return SmallLab(tiny_llava)


@pytest.fixture(scope="module")
def strong(lab: SmallLab) -> Eraser:
    """An eraser that changes whatever it fires at, and fires in some cells alone."""
    eraser = Strength(8.0)(lab.fitted(TAIL), lab)
    ask = questions_of(lab)
    highest = {cell: float(ask.reading(eraser, cell, rows).pooled.max()) for cell, rows in cells_of(scored()).items()}
    ordered = sorted(highest.values())
    middle = len(ordered) // 2
    return eraser.replace_config(threshold=(ordered[middle - 1] + ordered[middle]) / 2)


def questions_of(lab: SmallLab, **options: Any) -> Questions:
    return Questions(lab.model, WORLD, split="forget_5", **options)


def test_asking_less_tells_the_same(lab: SmallLab, strong: Eraser, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    ask = module.ask

    def listening(model: Any, world: Any, sets: Mapping[str, Sequence[Sample]], eraser: Any, **options: Any) -> Any:
        asked.extend((eraser is not None, s.id) for rows in sets.values() for s in rows)
        return ask(model, world, sets, eraser, **options)

    monkeypatch.setattr(module, "ask", listening)
    sets = scored()
    less, everything = questions_of(lab), questions_of(lab, ask_all=True)
    few = less.answers(strong, sets)
    steered = {name for worn, name in asked if worn}
    assert 0 < len(steered) < sum(map(len, sets.values())), "some cells are asked, some are not"
    asked.clear()
    assert everything.answers(strong, sets) == few
    assert all(worn for worn, _ in asked) and len(asked) == sum(map(len, sets.values()))
    bare = {(item["set"], item["id"]): item["answer"] for item in less.bare(sets)}
    moved = {item["id"] for item in few if item["answer"] != bare[item["set"], item["id"]]}
    assert moved and moved <= steered


def test_nothing_is_asked_twice(lab: SmallLab, strong: Eraser, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, sets = questions_of(lab), scored()
    first, bare = ask.answers(strong, sets), ask.bare(sets)

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("asked again")

    monkeypatch.setattr(module, "ask", never)
    monkeypatch.setattr(module, "read_gate", never)
    assert ask.answers(strong, sets) == first and ask.bare(sets) == bare
    assert ask.answers(Strength(0.0)(strong, lab), sets) == bare, "nor what strength 0 cannot change"
    with pytest.raises(AssertionError, match="asked again"):
        ask.answers(Open()(strong, lab), sets)


@pytest.mark.parametrize(
    ("phi", "score", "expected"),
    [("threshold", 0.4, True), ("threshold", 0.6, False), ("clamp", -1.0, True), ("clamp", 0.1, False),
     ("linear", -1.0, False)],
)  # fmt: skip
@pytest.mark.parametrize("read", ["request", "per-layer"])
def test_silent_means_that_every_amplitude_is_zero(
    lab: SmallLab, phi: str, score: float, expected: bool, read: str
) -> None:
    settings = TAIL if read == "request" else PAPER.model_copy(update={"direction": TAIL.direction})
    eraser = lab.fitted(settings)
    policy = replace(eraser.config.policy, phi=phi)
    eraser = Eraser(eraser.config.model_copy(update={"policy": policy, "threshold": 0.5}), eraser.tensors)
    low = torch.full((3,), -2.0)
    pooled = low.clone()
    pooled[1] = score
    layers = {0: low[:, None].expand(3, 2), 1: pooled[:, None].expand(3, 2)}
    if phi == "linear":
        low.zero_()
    assert silent(eraser, GateReadings(pooled, layers)) is expected


def test_a_decision_that_is_read_while_decoding_is_never_silent(lab: SmallLab) -> None:
    eraser = lab.fitted(TAIL)
    deaf = Eraser(eraser.config.model_copy(update={"policy": PERSISTENT}), eraser.tensors)
    quiet = GateReadings(torch.full((2,), -1e6), {})
    assert silent(eraser, quiet) and not silent(deaf, quiet)
    assert silent(Strength(0.0)(deaf, lab), quiet)
    assert isinstance(deaf.config.policy, Policy)
