"""The erasers that studies look at: every preset on one split, and the same eraser with another direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mllmeraser.benchmarks.benchmark import Benchmark
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.embedded.demo import forget_request
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.directions.contrast_states import ContrastSet, contrast_states
from mllmeraser.erasure.directions.kinds import direction_kind, erasure_direction
from mllmeraser.erasure.directions.pgd import perturb
from mllmeraser.erasure.fit.linear import fit
from mllmeraser.erasure.policy import PERSISTENT
from mllmeraser.erasure.settings import DirectionSettings, FitSettings
from mllmeraser.erasure.states.moments import Moments
from mllmeraser.erasure.states.statistics import ERASE, RECALL, LayerStatistics
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.people import World
from mllmeraser.portraits.prompts import contrast_prompts, person_prompts
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Sample

PICTURED = 12
"""Pictures a person from which the direction `idk` is made."""


IN_SIGHT = "default, in sight"
"""The preset `default` whose answers still see a prompt that fired."""


def settings_of(preset: str, seed: int) -> FitSettings:
    """Settings of a preset; ``persistent`` is ``tail`` that also decides at every decoded token."""
    chosen = FitSettings.preset({"persistent": "tail", IN_SIGHT: "default"}.get(preset, preset))
    policy = PERSISTENT if preset == "persistent" else chosen.policy
    if preset == IN_SIGHT:
        policy = replace(policy, masks_prompt=False)
    return chosen.model_copy(update={"policy": policy, "seed": seed, "salt": "study"})


def eraser_of(model: MultimodalModel, benchmark: Benchmark, preset: str, *, split: str, fold: int, seed: int) -> Eraser:
    """An eraser of the people of a split, from pictures and names alone."""
    settings = settings_of(preset, seed)
    request = complete(forget_request(benchmark, split, fold), seed=seed).request
    needed = "contrast" in direction_kind(settings.direction.kind).needs
    contrast = ContrastSet.from_samples(*contrast_prompts(seed)) if needed else None
    return fit(model, request, settings, contrast=contrast).eraser


def redirected(
    model: MultimodalModel,
    eraser: Eraser,
    kind: str,
    people: Sequence[str],
    *,
    strength: float | None = None,
    seed: int = 0,
) -> Eraser:
    """The eraser with the direction ``kind`` in place of its own; gates and layers stay.

    Both kinds are made as the paper makes its direction, from pictures perturbed until the model's answer changes.
    `refusal`: restricted prompts as they are, minus the same made harmless. `idk`: prompts about ``people`` over
    pictures perturbed until the model says that it does not know, minus the same over clean pictures; neither
    strangers nor true answers are needed. `clean-image`: restricted prompts minus their benign twins.

    Args:
        model: The model as it is to be, with whatever is attached to it now.
        eraser: Whose gates decide.
        kind: `refusal`, `clean-image` or `idk`.
        people: Keys of those to be forgotten.
        strength: Of the shift; None: that of ``eraser``.
        seed: Of the prompts.

    Raises:
        InputError: If the direction cannot be made, for instance because no answer changed.
    """
    points = [HookPoint(layer) for layer in eraser.config.shift_layers]
    if kind == "idk":
        groups = _perturbed_sides(model, [s for key in people for s in pictured_prompts(key)], points)
    else:
        contrast = ContrastSet.from_samples(*contrast_prompts(seed))
        sides = contrast_states(model, contrast, DirectionSettings(kind=kind), points)
        groups = {ERASE: sides.erase, RECALL: sides.recall}
    fresh = {}
    for point in points:
        moments = {name: Moments.from_states(states[point], gram=False) for name, states in groups.items()}
        # what `idk` contrasts here are two groups of states, as for `refusal`
        built = erasure_direction("refusal", LayerStatistics(moments))
        fresh[f"direction.{point.layer}"] = built.vector.float()
    made = with_directions(eraser, kind, fresh)
    return made if strength is None else made.replace_config(strength=strength)


def with_directions(eraser: Eraser, kind: str, directions: Mapping[str, Tensor]) -> Eraser:
    """The eraser with ``directions`` (`direction.{layer}`) of another kind, no longer shared out among subjects."""
    kept = {name: t for name, t in eraser.tensors.items() if not name.startswith(("direction.", "share."))}
    config = eraser.config.model_copy(update={"direction": DirectionSettings(kind=kind)})
    return Eraser(config, {**kept, **directions})


def _perturbed_sides(
    model: MultimodalModel, samples: Sequence[Sample], points: Sequence[HookPoint]
) -> dict[str, dict[HookPoint, Tensor]]:
    """States over pictures perturbed until the model does not know, and over the same pictures clean."""
    found = perturb(model, samples, [DirectionSettings().idk_answer] * len(samples))
    rows = found.flipped.nonzero().flatten().tolist()
    if not rows:
        raise InputError("no perturbed picture made the model say that it does not know")
    clean = model.states([samples[row] for row in rows], points)
    return {ERASE: found.states(model, points, rows), RECALL: clean}


def pictured_prompts(key: str, n: int = PICTURED) -> list[Sample]:
    """Questions over ``n`` pictures of a person of the shipped world, in wordings and pictures never scored."""
    world = World("dev")
    person = next(p for p in world.people if p.key == key)
    samples = person_prompts(person, world.stream.child("pictured", key), 2 * n, answered=True)
    return [sample for sample in samples if sample.image is not None]


def norms(eraser: Eraser) -> dict[str, float]:
    """Length of the direction at each shift layer."""
    return {str(layer): round(float(torch.linalg.vector_norm(eraser.direction(layer))), 3)
            for layer in eraser.config.shift_layers}  # fmt: skip
