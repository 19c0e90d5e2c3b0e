"""Requests in, erasers out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mllmeraser.benchmarks.defaults import complete
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.erasure.anchors import Anchors
from mllmeraser.erasure.contrast import ContrastSet
from mllmeraser.erasure.direction import CONTRAST_KINDS
from mllmeraser.erasure.eraser import Eraser
from mllmeraser.erasure.fit import FitSettings, fit
from mllmeraser.erasure.lens import Lens, fit_lens
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.people import World
from mllmeraser.portraits.prompts import contrast_prompts, default_retain, default_strangers
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.files import whole_folder
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request

Say = Callable[[str], None]


def read_request(
    forget: Path, *, retain: Path | None = None, strangers: Path | None = None, name: str | None = None
) -> Request:
    """Read a request; ``name`` names its only subject.

    Raises:
        InputError: The request cannot be read, or a name is given for several subjects.
    """
    request = Request.from_folder(forget, retain=retain, strangers=strangers)
    if name is None:
        return request
    if len(request.subjects) > 1:
        raise InputError("--name suits one subject; give several their names in request.yaml")
    subject = request.subjects[0]
    return replace(request, subjects=(replace(subject, names=(name, *subject.names)),))


def erase(
    model: str | MultimodalModel,
    request: Request,
    preset: str | FitSettings = "default",
    *,
    contrast: ContrastSet | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    say: Say | None = None,
    shared: tuple[Anchors, Lens] | None = None,
) -> Eraser:
    """Make an eraser for a request: complete it with views, wordings and default sets, then fit.

    Args:
        model: Name or loaded model.
        request: What to forget, as written: views, wordings and missing sets are added here.
        preset: ``"default"``, ``"paper"``, or settings of one's own.
        contrast: Refused prompts, for the directions that need them; None: the shipped set.
        seed: Of everything random.
        progress: Told how far the work is.
        say: Called with one line for everything that was added without being asked for.
        shared: What `shipped_lens` gave for this model and these settings, to make many erasers; used where the request
            brings no retain set and no strangers.

    Raises:
        InputError: The request or the settings cannot be used.
    """
    loaded = load_model(model) if isinstance(model, str) else model
    settings = FitSettings.preset(preset) if isinstance(preset, str) else preset
    settings = settings.model_copy(update={"seed": seed})
    completed = complete(request, loaded, seed=seed)
    for line in completed.notes if say is not None else ():
        say(line)  # type: ignore[misc]
    if contrast is None and settings.direction.kind in CONTRAST_KINDS:
        contrast = ContrastSet.from_samples(*contrast_prompts(seed))
    anchors = lens = None
    if completed.shipped and settings.gate.kind == "identity":
        anchors, lens = shared or shipped_lens(loaded, settings, seed, progress)
    made = fit(loaded, completed.request, settings, progress, contrast=contrast, anchors=anchors, lens=lens)
    return made.eraser


def shipped_lens(
    model: MultimodalModel, settings: FitSettings, seed: int = 0, progress: Progress | None = None
) -> tuple[Anchors, Lens]:
    """The lens of a model made from the shipped sets, whoever is to be forgotten: so that erasers can be put together.

    Returns:
        The states behind it, which a fit on this model need not capture again, and the lens.

    Raises:
        InputError: The settings do not suit the model, or are not of the gate `identity`.
    """
    world = World("dev", seed)
    reads, (shifts, *_) = settings.layers(model.num_layers)
    anchors = Anchors(model, reads, shifts, batch_size=settings.batch_size)
    return anchors, fit_lens(anchors, default_retain(world), default_strangers(world), settings.gate, progress)


def forget_split(benchmark: str, split: str = "forget_5", fold: int = 0) -> Request:
    """The request to forget the people of a benchmark's split: their pictures and names, no private fact."""
    from mllmeraser.embedded.demo import forget_request

    return forget_request(load_benchmark(benchmark), split, fold)


def save_eraser(eraser: Eraser, out: Path, *, force: bool = False) -> Path:
    """Write an eraser to a folder, whole or not at all."""
    with whole_folder(out, force=force) as folder:
        eraser.save_pretrained(folder)
    return out


def describe_eraser(eraser: Eraser, path: Path) -> dict[str, Any]:
    """What an eraser is, for a person or a program; names nobody."""
    config = eraser.config
    calibration = config.calibration.model_dump(exclude={"curve"}, exclude_none=True)
    return {
        "path": str(path),
        "subjects": len(config.subjects),
        "bytes": sum(file.stat().st_size for file in Path(path).iterdir()),
        "base_model": config.base_model,
        "policy": config.policy.name,
        "gate": config.gate.kind,
        "direction": config.direction.kind,
        "read_layers": list(config.read_layers),
        "shift_layers": list(config.shift_layers),
        "strength": config.strength,
        "threshold": config.threshold,
        "calibration": calibration,
        "digest": eraser.digest(),
    }
