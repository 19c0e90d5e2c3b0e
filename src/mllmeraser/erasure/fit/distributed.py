"""One process's share of the capture for a fit: in the very batches that the fit will ask for."""

from __future__ import annotations

from collections.abc import Sequence

from mllmeraser.erasure.directions.contrast_states import ContrastSet
from mllmeraser.erasure.directions.pgd import perturb_job
from mllmeraser.erasure.fit.discriminants import basis_samples
from mllmeraser.erasure.fit.linear import samples_of
from mllmeraser.erasure.fit.split import split
from mllmeraser.erasure.fit.subject import shifted_samples, subject_samples
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint
from mllmeraser.erasure.states.collect import last_job
from mllmeraser.erasure.states.processes import ProcessGroup
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample


def share_capture(
    model: MultimodalModel,
    request: Request,
    settings: FitSettings,
    team: ProcessGroup,
    checkpoint: CaptureCheckpoint,
    progress: Progress | None = None,
    *,
    basis: tuple[Sequence[Sample], Sequence[Sample]] | None = None,
    contrast: ContrastSet | None = None,
) -> None:
    """Capture into `checkpoint` what `fit` with the same arguments will read, this process its share of the batches.

    Returns when all processes are done. The first then fits, and finds every batch; the others have no more to do.
    Pictures are perturbed by all, too. The states of contrast samples, and answers for the direction `idk`, are few:
    the first process reads them as it fits.

    Args:
        model: The frozen model.
        request: As for `fit`.
        settings: As for `fit`.
        team: The processes.
        checkpoint: In a folder that all of them see.
        progress: Told how far this process is.
        basis: Retain samples and strangers of the basis that the fit will be given; None: it makes its own.
        contrast: Refused prompts, as for `fit`.

    Raises:
        InputError: If the request cannot be used with these settings.
        NumericalError: If a state is not finite.
        TeamError: Another process has failed.
    """
    request.validate()
    reads, shifts = settings.layers(model.num_layers)
    parts = split(request, settings, salt="")  # keys show in no prompt
    if settings.gate.kind == "subject":
        cache = PromptStateCache(model, reads, shifts[0], batch_size=settings.batch_size, checkpoint=checkpoint)
        if basis is not None:
            cache.share(basis_samples(*basis), team, progress, shifted=basis[1])
        samples = subject_samples(request, parts, basis=basis is None)
        cache.share(samples, team, progress, shifted=shifted_samples(parts, settings))
        return
    points = model.hookpoints({*reads, *(layer for shift in shifts for layer in shift)})
    checkpoint.share(last_job(model, samples_of(parts, settings), points, settings.batch_size), team, progress)
    if contrast is not None and settings.direction.kind == "refusal":
        shown = contrast.with_images()
        checkpoint.share(perturb_job(model, shown.recall, shown.targets, settings.direction.pgd), team, progress)
