"""The erasers of the studies: any preset on one split, and the same eraser with another direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mllmeraser.benchmarks import Benchmark
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.embedded.demo import forget_request
from mllmeraser.erasure import PERSISTENT, ContrastSet, DirectionSettings, Eraser, FitSettings, Moments
from mllmeraser.erasure.directions.contrast_states import contrast_states
from mllmeraser.erasure.directions.kinds import direction_kind, erasure_direction
from mllmeraser.erasure.directions.pgd import perturb
from mllmeraser.erasure.fit import fit
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.erasure.states.statistics import ERASE, RECALL, LayerStatistics
from mllmeraser.models import HookPoint, MultimodalModel
from mllmeraser.portraits import World
from mllmeraser.portraits.prompts import contrast_prompts, person_prompts
from mllmeraser.portraits.taught import world_taught
from mllmeraser.samples import InputError, Sample

PICTURED = 12
"""Pictures per person for the direction `idk`."""
IN_SIGHT = "default, in sight"
"""The preset `default` without prompt masking."""


def preset_settings(preset: str, seed: int, salt: str = "study") -> FitSettings:
    """A preset with the seed and salt of a study."""
    return FitSettings.preset(preset).model_copy(update={"seed": seed, "salt": salt})


def settings_of(preset: str, seed: int) -> FitSettings:
    """As `preset_settings`, also for ``persistent`` (`tail` that decides at every decoded token) and `IN_SIGHT`."""
    settings = preset_settings({"persistent": "tail", IN_SIGHT: "default"}.get(preset, preset), seed)
    policy = PERSISTENT if preset == "persistent" else settings.policy
    if preset == IN_SIGHT:
        policy = replace(policy, masks_prompt=False)
    return settings.model_copy(update={"policy": policy})


def state_cache(model: MultimodalModel, settings: FitSettings) -> PromptStateCache:
    """A cache of prompt states, shared by fits that read and shift at the layers of ``settings``."""
    reads, (shifts, *_) = settings.layers(model.num_layers)
    return PromptStateCache(model, reads, shifts, batch_size=settings.batch_size)


def eraser_of(model: MultimodalModel, benchmark: Benchmark, preset: str, *, split: str, fold: int, seed: int) -> Eraser:
    """An eraser of the people of a split, fitted on pictures and names alone."""
    settings = settings_of(preset, seed)
    request = complete(forget_request(benchmark, split, fold), seed=seed, benchmark=benchmark.name).request
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
    """The eraser with another direction, from ``model`` with its attachments; gates, layers and strength (None) stay.

    `refusal` and `idk` are made as in the paper, from pictures perturbed until the model's answer changes. The kinds:

    - `refusal`: restricted prompts as they are, minus the same made harmless.
    - `idk`: prompts about ``people`` with pictures perturbed until the model says that it does not know, minus the same
      with clean pictures. It needs neither strangers nor true answers.
    - `clean-image`: restricted prompts minus their benign twins.

    It is an InputError if the direction cannot be made, for instance because no answer changed.
    """
    points = [HookPoint(layer) for layer in eraser.config.shift_layers]
    directions = {}
    if kind == "idk":
        world = world_taught(model.name)
        groups = _perturbed_sides(model, [s for key in people for s in pictured_prompts(world, key)], points)
    else:
        contrast = ContrastSet.from_samples(*contrast_prompts(seed))
        sides = contrast_states(model, contrast, DirectionSettings(kind=kind), points)
        groups = {ERASE: sides.erase, RECALL: sides.recall}
    for point in points:
        moments = {name: Moments.from_states(states[point], gram=False) for name, states in groups.items()}
        # like `refusal`, `idk` is here the difference of two groups of states
        built = erasure_direction("refusal", LayerStatistics(moments))
        directions[f"direction.{point.layer}"] = built.vector.float()
    kept = {name: t for name, t in eraser.tensors.items() if not name.startswith(("direction.", "share."))}
    config = eraser.config.model_copy(update={"direction": DirectionSettings(kind=kind)})
    made = Eraser(config, {**kept, **directions})
    return made if strength is None else made.replace_config(strength=strength)


def _perturbed_sides(
    model: MultimodalModel, samples: Sequence[Sample], points: Sequence[HookPoint]
) -> dict[str, dict[HookPoint, Tensor]]:
    """States with pictures perturbed until the model does not know, and with the same pictures clean."""
    batch = perturb(model, samples, [DirectionSettings().idk_answer] * len(samples))
    rows = batch.flipped.nonzero().flatten().tolist()
    if not rows:
        raise InputError("no perturbed picture made the model say that it does not know")
    clean = model.states([samples[row] for row in rows], points)
    return {ERASE: batch.states(model, points, rows), RECALL: clean}


def pictured_prompts(world: World, key: str, n: int = PICTURED) -> list[Sample]:
    """Questions about ``n`` pictures of a person of the world; no scored set has these pictures or wordings."""
    person = next(p for p in world.people if p.key == key)
    samples = person_prompts(person, world.stream.child("pictured", key), 2 * n, answered=True)
    return [sample for sample in samples if sample.image is not None]


def norms(eraser: Eraser, digits: int = 3) -> dict[str, float]:
    """Length of the direction at each shift layer."""
    return {str(layer): round(float(torch.linalg.vector_norm(eraser.direction(layer))), digits)
            for layer in eraser.config.shift_layers}  # fmt: skip
