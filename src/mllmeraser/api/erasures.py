"""From requests to erasers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mllmeraser.benchmarks.defaults import Completed, complete
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.calibration import verdict
from mllmeraser.erasure.calibration.traffic import with_traffic
from mllmeraser.erasure.calibration.verdict import Verdict
from mllmeraser.erasure.directions.contrast_states import ContrastSet
from mllmeraser.erasure.directions.kinds import direction_kind
from mllmeraser.erasure.fit import check_request, fit
from mllmeraser.erasure.fit.discriminants import SharedBasis, fit_shared_basis
from mllmeraser.erasure.fit.distributed import share_capture
from mllmeraser.erasure.policy import Action
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint
from mllmeraser.erasure.states.processes import ProcessGroup
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.models.fingerprint import is_spread
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.prompts import contrast_prompts, default_retain, default_strangers
from mllmeraser.portraits.taught import world_taught
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.expansion import ExpansionSettings
from mllmeraser.samples.files import whole_folder
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.readers import read_samples
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.subject import Kind

Say = Callable[[str], None]
EMBEDDED = "embedded:"
"""Names of the shipped models begin so; they alone know the shipped drawn people."""


def read_request(
    forget: Path,
    *,
    retain: Path | None = None,
    strangers: Path | None = None,
    name: str | None = None,
    exact_names: bool = False,
    reply: str | None = None,
    kind: Kind | None = None,
) -> Request:
    """Read a request; `name` names its only subject, `exact_names` and `kind` hold for all (see `Subject`).

    Raises:
        InputError: The request cannot be read, or has several subjects and `name` is set.
    """
    request = Request.from_folder(forget, retain=retain, strangers=strangers, kind=kind)
    subjects = request.subjects
    if name is not None and len(subjects) > 1:
        raise InputError("--name is for one subject: name several in request.yaml")
    if name is not None:
        subjects = (replace(subjects[0], names=(name, *subjects[0].names)),)
    if exact_names:
        subjects = tuple(replace(subject, exact_names=True) for subject in subjects)
    request = replace(request, subjects=subjects, reply=reply if reply is not None else request.reply)
    request.validate()
    return request


def erase(
    model: str | MultimodalModel,
    request: Request | str | Path,
    preset: str | FitSettings = "default",
    *,
    contrast: ContrastSet | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    say: Say | None = None,
    shared: tuple[PromptStateCache, SharedBasis] | None = None,
    work: CaptureCheckpoint | None = None,
    action: Action | None = None,
    false_alarm_rate: float | None = None,
    shipped_retain: bool = False,
) -> Eraser:
    """Make an eraser for a request: add views, wordings and default sets, then fit.

    Args:
        model: Name or loaded model.
        request: What to forget, or the folder or file to read it from (see `Request.from_folder`).
        preset: `"default"` (for what is no person: `"knowledge"`), `"tail"`, `"paper"`, or your own settings.
        contrast: Refused prompts, for directions that need them; None: the shipped set.
        say: Called with one line for each default that was added to the request.
        shared: Result of `shipped_basis` for this model and these settings, to make many erasers. It is used if the
            request has no retain set and no strangers.
        work: Folder for captured batches, to resume a killed run (see `work_folder`); None: memory only.
        action: What happens when the eraser fires (see `Policy`). None: that of the preset, and a sentence of the
            request is enforced too.
        false_alarm_rate: Share of other prompts that the thresholds may let fire. None: that of the preset.
        shipped_retain: Calibrate on the shipped drawn people although the model is not an embedded one.

    Raises:
        InputError: The request or the settings cannot be used.
    """
    wanted = request if isinstance(request, Request) else Request.from_folder(request)
    loaded = load_model(model) if isinstance(model, str) else model
    settings = _settings(preset, wanted, action, false_alarm_rate, seed)
    made = _prepared(loaded, wanted, settings, contrast, say, shipped_retain)
    return _fitted(made, seed, progress, shared, work, say)


def erase_together(
    model: str | MultimodalModel,
    request: Request,
    preset: str | FitSettings = "default",
    *,
    group: ProcessGroup,
    work: CaptureCheckpoint | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    say: Say | None = None,
    action: Action | None = None,
    false_alarm_rate: float | None = None,
    shipped_retain: bool = False,
) -> Eraser | None:
    """As `erase`, in several processes that make the same call: each captures a share, the first one fits.

    The batches are those of a single process, so equal arithmetic gives the same eraser to the bit. Each process
    loads the whole model, on the GPU of its own number if there are any.

    The first process returns the eraser, the others None.

    Raises:
        InputError: The request or the settings cannot be used, or several processes have no work folder.
        TeamError: Another process has failed.
    """
    if group.size > 1 and work is None:
        raise InputError(f"{group.size} processes need --work DIR, a folder for captured states that all of them see")
    speak = say if group.first else None
    loaded = load_model(model, device=group.device()) if isinstance(model, str) else model
    settings = _settings(preset, request, action, false_alarm_rate, seed)
    made = _prepared(loaded, request, settings, None, speak, shipped_retain)
    if group.size > 1 and is_spread(loaded.hf):
        raise InputError("several processes cannot fit a model that is split over processes (tp_plan): load it whole")
    if group.size > 1:
        assert work is not None
        if speak is not None:
            speak(f"{group.size} processes capture states")
        basis = _shipped_sets(loaded, seed) if made.completed.shipped else None
        share_capture(
            loaded, made.completed.request, made.settings, group, work, progress, basis=basis, contrast=made.contrast
        )
    return _fitted(made, seed, progress, None, work, speak) if group.first else None


@dataclass(frozen=True)
class _Prepared:
    """The inputs of a fit."""

    model: MultimodalModel
    completed: Completed
    settings: FitSettings
    contrast: ContrastSet | None


def _settings(
    preset: str | FitSettings, request: Request, action: Action | None, rate: float | None, seed: int
) -> FitSettings:
    preset = "knowledge" if preset == "default" and not request.about_people else preset
    settings = FitSettings.preset(preset) if isinstance(preset, str) else preset
    changes = {"seed": seed} if rate is None else {"seed": seed, "false_alarm_rate": rate}
    return settings.with_action(action, request.reply).model_copy(update=changes)


def _prepared(
    model: MultimodalModel,
    request: Request,
    settings: FitSettings,
    contrast: ContrastSet | None,
    say: Say | None,
    shipped_retain: bool,
) -> _Prepared:
    if request.about_people and not (request.retain or shipped_retain or model.name.startswith(EMBEDDED)):
        raise InputError(
            "a model of one's own needs prompts about people that it knows, else its false alarms are unknown: give "
            "--retain, or --shipped-retain to use the drawn people of the embedded models"
        )
    expansion = ExpansionSettings(views=3, view_settings=settings.views)
    completed = complete(request, model, settings=expansion, seed=settings.seed)
    for line in completed.notes if say is not None else ():
        say(line)  # type: ignore[misc]
    if contrast is None and "contrast" in direction_kind(settings.direction.kind).needs:
        contrast = ContrastSet.from_samples(*contrast_prompts(settings.seed))
    check_request(completed.request, settings, contrast)
    return _Prepared(model, completed, settings, contrast)


def _fitted(
    made: _Prepared,
    seed: int,
    progress: Progress | None,
    shared: tuple[PromptStateCache, SharedBasis] | None,
    work: CaptureCheckpoint | None,
    say: Say | None,
) -> Eraser:
    cache = basis = None
    if made.completed.shipped and made.settings.gate.kind == "subject":
        cache, basis = shared or shipped_basis(made.model, made.settings, seed, progress, work=work)
    result = fit(
        made.model, made.completed.request, made.settings, progress,
        contrast=made.contrast, cache=cache, basis=basis, checkpoint=work,
    )  # fmt: skip
    for line in result.notes if say is not None else ():
        say(line)  # type: ignore[misc]
    return result.eraser


def shipped_basis(
    model: MultimodalModel,
    settings: FitSettings,
    seed: int = 0,
    progress: Progress | None = None,
    *,
    work: CaptureCheckpoint | None = None,
) -> tuple[PromptStateCache, SharedBasis]:
    """Fit the shared basis of a model on the shipped sets. Erasers fitted with it can be consolidated.

    Returns:
        The captured states, which later fits on this model reuse, and the basis.

    Raises:
        InputError: The settings do not fit the model, or are not for the gate `subject`.
    """
    reads, (shifts, *_) = settings.layers(model.num_layers)
    cache = PromptStateCache(model, reads, shifts, batch_size=settings.batch_size, checkpoint=work)
    return cache, fit_shared_basis(cache, *_shipped_sets(model, seed), settings.gate, progress)


def _shipped_sets(model: MultimodalModel, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Retain samples and strangers of the shared basis."""
    world = world_taught(model.name, seed)
    return default_retain(world), default_strangers(world)


def forget_split(benchmark: str, split: str = "forget_5", fold: int = 0) -> Request:
    """A request to forget the people of a benchmark's split: pictures and names, no private facts."""
    from mllmeraser.embedded.demo import forget_request

    return forget_request(load_benchmark(benchmark), split, fold)


def save_eraser(eraser: Eraser, out: Path, *, force: bool = False) -> Path:
    """Write an eraser to a folder, whole or not at all."""
    with whole_folder(out, force=force) as folder:
        eraser.save_pretrained(folder)
    return out


def measure_traffic(
    model: str | MultimodalModel, eraser: Eraser, traffic: Path, request: Request, *, progress: Progress | None = None
) -> Eraser:
    """The eraser with its false alarms on prompts of a real log; see `calibration.traffic`.

    Raises:
        InputError: The log cannot be read, holds no prompts, or one that names somebody of the request.
    """
    names = [name for subject in request.subjects if subject.kind != "fact" for name in subject.names]
    samples, loaded = read_samples(traffic), load_model(model) if isinstance(model, str) else model
    return with_traffic(loaded, eraser, samples, names, progress)


def verdict_of(eraser: Eraser) -> Verdict:
    """Whether an eraser passed its own calibration, and what that measured."""
    return verdict.verdict_of(eraser.config)


def describe_eraser(eraser: Eraser, path: Path) -> dict[str, Any]:
    """Properties of an eraser, as plain data without personal data."""
    config = eraser.config
    return {
        "path": str(path),
        "subjects": len(config.subjects),
        "bytes": sum(file.stat().st_size for file in Path(path).iterdir()),
        "base_model": config.base_model,
        "policy": config.policy.name,
        "action": config.policy.action,
        "gate": config.gate.kind,
        "direction": config.direction.kind,
        "read_layers": list(config.read_layers),
        "shift_layers": list(config.shift_layers),
        "strength": config.strength,
        "threshold": config.threshold,
        "calibration": config.calibration.model_dump(exclude={"curve"}, exclude_none=True),
        "digest": eraser.digest(),
    }
