"""Requests in, erasers out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mllmeraser.benchmarks.defaults import Completed, complete
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.directions.contrast_states import ContrastSet
from mllmeraser.erasure.directions.kinds import direction_kind
from mllmeraser.erasure.fit.discriminants import SharedBasis, fit_shared_basis
from mllmeraser.erasure.fit.distributed import share_capture
from mllmeraser.erasure.fit.linear import FitSettings, fit
from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint
from mllmeraser.erasure.states.processes import ProcessGroup
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.models.fingerprint import is_spread
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.people import World
from mllmeraser.portraits.prompts import contrast_prompts, default_retain, default_strangers
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.files import whole_folder
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample

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
    shared: tuple[PromptStateCache, SharedBasis] | None = None,
    work: CaptureCheckpoint | None = None,
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
        shared: What `shipped_basis` gave for this model and these settings, to make many erasers; used where the request
            brings no retain set and no strangers.
        work: Where captured batches are kept, to go on after a kill (see `work_folder`); None: in memory alone.

    Raises:
        InputError: The request or the settings cannot be used.
    """
    return _fitted(_prepared(model, request, preset, contrast, seed, say), seed, progress, shared, work)


def erase_together(
    model: str | MultimodalModel,
    request: Request,
    preset: str | FitSettings = "default",
    *,
    team: ProcessGroup,
    work: CaptureCheckpoint | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Eraser | None:
    """As `erase`, with several processes that call this alike: each captures its share, the first fits.

    Batches are those of one process, dealt out: where arithmetic is the same, so is the eraser, to the bit. Each
    process holds the whole model, on the GPU of its own number if there are any.

    Returns:
        The eraser in the first process, None in the others.

    Raises:
        InputError: The request or the settings cannot be used, or several processes have no work folder.
        TeamError: Another process has failed.
    """
    if team.size > 1 and work is None:
        raise InputError(f"{team.size} processes need --work DIR, a folder that all of them see, to put states into")
    speak = say if team.first else None
    loaded = load_model(model, device=team.device()) if isinstance(model, str) else model
    made = _prepared(loaded, request, preset, None, seed, speak)
    if team.size > 1 and is_spread(loaded.hf):
        raise InputError("a model that is spread over processes (tp_plan) cannot be fitted by several: load it whole")
    if team.size > 1:
        assert work is not None
        if speak is not None:
            speak(f"{team.size} processes capture states")
        basis = _shipped_sets(seed) if made.completed.shipped else None
        share_capture(
            loaded, made.completed.request, made.settings, team, work, progress, basis=basis, contrast=made.contrast
        )
    return _fitted(made, seed, progress, None, work) if team.first else None


@dataclass(frozen=True)
class _Prepared:
    """All that a fit is given."""

    model: MultimodalModel
    completed: Completed
    settings: FitSettings
    contrast: ContrastSet | None


def _prepared(
    model: str | MultimodalModel,
    request: Request,
    preset: str | FitSettings,
    contrast: ContrastSet | None,
    seed: int,
    say: Say | None,
) -> _Prepared:
    loaded = load_model(model) if isinstance(model, str) else model
    settings = FitSettings.preset(preset) if isinstance(preset, str) else preset
    settings = settings.model_copy(update={"seed": seed})
    completed = complete(request, loaded, seed=seed)
    for line in completed.notes if say is not None else ():
        say(line)  # type: ignore[misc]
    if contrast is None and "contrast" in direction_kind(settings.direction.kind).needs:
        contrast = ContrastSet.from_samples(*contrast_prompts(seed))
    return _Prepared(loaded, completed, settings, contrast)


def _fitted(
    made: _Prepared,
    seed: int,
    progress: Progress | None,
    shared: tuple[PromptStateCache, SharedBasis] | None,
    work: CaptureCheckpoint | None,
) -> Eraser:
    cache = basis = None
    if made.completed.shipped and made.settings.gate.kind == "subject":
        cache, basis = shared or shipped_basis(made.model, made.settings, seed, progress, work=work)
    found = fit(
        made.model, made.completed.request, made.settings, progress,
        contrast=made.contrast, cache=cache, basis=basis, checkpoint=work,
    )  # fmt: skip
    return found.eraser


def shipped_basis(
    model: MultimodalModel,
    settings: FitSettings,
    seed: int = 0,
    progress: Progress | None = None,
    *,
    work: CaptureCheckpoint | None = None,
) -> tuple[PromptStateCache, SharedBasis]:
    """The basis of a model made from the shipped sets, whoever is to be forgotten: so that erasers can be put together.

    Returns:
        The states behind it, which a fit on this model need not capture again, and the basis.

    Raises:
        InputError: The settings do not suit the model, or are not of the gate `subject`.
    """
    reads, (shifts, *_) = settings.layers(model.num_layers)
    cache = PromptStateCache(model, reads, shifts, batch_size=settings.batch_size, checkpoint=work)
    return cache, fit_shared_basis(cache, *_shipped_sets(seed), settings.gate, progress)


def _shipped_sets(seed: int) -> tuple[list[Sample], list[Sample]]:
    """Retain samples and strangers behind the basis that many erasers share."""
    world = World("dev", seed)
    return default_retain(world), default_strangers(world)


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
