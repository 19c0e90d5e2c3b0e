"""One process's share of the capture for a fit, in the batches of the fit."""

from __future__ import annotations

from collections.abc import Sequence

from mllmeraser.erasure.directions.contrast_states import ContrastSet
from mllmeraser.erasure.directions.pgd import perturb_job
from mllmeraser.erasure.fit.discriminants import basis_samples, request_prompts
from mllmeraser.erasure.fit.linear import samples_of
from mllmeraser.erasure.fit.split import split
from mllmeraser.erasure.fit.subject import form_samples, shifted_samples, subject_samples
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
    processes: ProcessGroup,
    checkpoint: CaptureCheckpoint,
    progress: Progress | None = None,
    *,
    basis: tuple[Sequence[Sample], Sequence[Sample]] | None = None,
    contrast: ContrastSet | None = None,
) -> None:
    """Capture this process's share of the batches of `fit` with the same arguments, into `checkpoint`.

    It returns when all processes are done. The first process then fits, and finds every batch. Perturbed pictures are
    shared too. The first process reads the few states of contrast samples and of answers as it fits. `basis` are the
    retain samples and strangers of the basis that `fit` will get; None: the fit makes its own.
    """
    request.validate()
    reads, shifts = settings.layers(model.num_layers)
    parts = split(request, settings, salt="")  # no prompt holds a key
    if settings.gate.kind == "subject":
        cache = PromptStateCache(model, reads, shifts[0], batch_size=settings.batch_size, checkpoint=checkpoint)
        if basis is not None:
            cache.share(basis_samples(*basis, settings.gate), processes, progress, shifted=basis[1])
        samples = subject_samples(request, parts, settings, with_basis=basis is None)
        cache.share(samples, processes, progress, shifted=shifted_samples(parts, settings))
        cache.share(request_prompts(), processes, progress)
        named, placeholders = form_samples(request, parts, settings)
        cache.share(placeholders, processes, progress)
        cache.share([s for own in named.values() for rows in own.values() for s in rows], processes, progress)
        return
    points = model.hookpoints({*reads, *(layer for shift in shifts for layer in shift)})
    checkpoint.share(last_job(model, samples_of(parts, settings), points, settings.batch_size), processes, progress)
    if contrast is not None and settings.direction.kind == "refusal":
        pictured = contrast.with_images()
        checkpoint.share(
            perturb_job(model, pictured.recall, pictured.targets, settings.direction.pgd), processes, progress
        )
