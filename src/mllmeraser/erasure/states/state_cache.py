"""PromptStateCache of samples: states where a decision looks and of the shifted layers; kept for later fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mllmeraser.erasure.states.capture_job import Job, captured
from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint
from mllmeraser.erasure.states.processes import ProcessGroup
from mllmeraser.erasure.states.prompt_states import PromptStates, read_batch, unpacked
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.sample import Sample

__all__ = ["PromptStates", "PromptStateCache", "name_ends"]


class PromptStateCache:
    """PromptStateCache of samples on one model; a prompt passes through the model once, however many fits ask for it.

    They take `prompt_state_bytes` (see `footprint`): in memory, or with `checkpoint` in files that are mapped into it, so that
    the system reads them when they are looked at and drops them when it needs the memory.
    """

    def __init__(
        self,
        model: MultimodalModel,
        reads: Sequence[int],
        shifts: Sequence[int],
        *,
        batch_size: int = 32,
        checkpoint: CaptureCheckpoint | None = None,
    ) -> None:
        """Nothing is captured yet.

        Args:
            model: The frozen model.
            reads: The three layers of an identity decision: name, topic, face.
            shifts: Layers whose direction is wanted.
            batch_size: Prompts in a batch.
            checkpoint: Where captured batches are kept, to go on after a kill; None: in memory alone.
        """
        self.model, self.reads, self.shifts = model, tuple(reads), tuple(shifts)
        self._batch_size, self._shards = batch_size, checkpoint
        self._kept: dict[str, PromptStates] = {}
        self._shared: dict[str, bool] = {}
        self._digests: dict[int, tuple[Sample, str]] = {}

    def of(
        self, samples: Sequence[Sample], progress: Progress | None = None, *, shifted: Sequence[Sample] = ()
    ) -> list[PromptStates]:
        """The cache of samples, in their order.

        Args:
            samples: Prompts.
            progress: Told how far the capture is.
            shifted: Those of them whose states at the shifted layers are wanted, too; the pass of all others ends
                where the last gate reads.

        Raises:
            NumericalError: A state is NaN or infinite.
        """
        jobs = self._jobs(samples, shifted, self._is_shifted)
        total, before = sum(len(job.samples) for job in jobs), 0
        for job in jobs:
            names = [self._digest(sample) for sample in job.samples]
            for rows, tensors in captured(job, self._shards, _part(progress, before, total)):
                for row, prompt in zip(rows, unpacked(tensors), strict=True):
                    self._keep(names[row], prompt)
            before += len(names)
        return [self._kept[self._digest(sample)] for sample in samples]

    def share(
        self,
        samples: Sequence[Sample],
        team: ProcessGroup,
        progress: Progress | None = None,
        *,
        shifted: Sequence[Sample] = (),
    ) -> None:
        """Capture this process's share of what `of` would, in the same batches, into the checkpoint; keep nothing.

        Raises:
            NumericalError: A state is NaN or infinite.
            TeamError: Another process has failed.
        """
        assert self._shards is not None
        for job in self._jobs(samples, shifted, self._shared.get):
            self._shards.share(job, team, progress)
        moved = {self._digest(sample) for sample in shifted}
        for sample in samples:
            digest = self._digest(sample)
            self._shared[digest] = digest in moved or self._shared.get(digest, not self.shifts)

    def _keep(self, digest: str, prompt: PromptStates) -> None:
        """What was read before stays to the bit, whatever batch it is read in again."""
        old = self._kept.get(digest)
        self._kept[digest] = prompt if old is None else PromptStates({**old.kept, "shifts": prompt.kept["shifts"]})

    def _is_shifted(self, digest: str) -> bool | None:
        """Whether an prompt has states at the shifted layers; None where there is none."""
        prompt = self._kept.get(digest)
        return None if prompt is None else len(prompt.kept["shifts"]) == len(self.shifts)

    def _jobs(
        self, samples: Sequence[Sample], shifted: Sequence[Sample], known: Callable[[str], bool | None]
    ) -> list[Job]:
        """What is still to be captured; `known` is whether a prompt was, at the shifted layers, too."""
        moved = {self._digest(sample) for sample in shifted} if self.shifts else set()
        missing: dict[bool, dict[str, Sample]] = {True: {}, False: {}}
        for sample in samples:
            digest = self._digest(sample)
            wanted, there = digest in moved, known(digest)
            if there is None or (wanted and not there):
                missing[wanted][digest] = sample
        return [self._job(list(some.values()), self.shifts if at else ()) for at, some in missing.items() if some]

    def _job(self, samples: Sequence[Sample], shifts: tuple[int, ...]) -> Job:
        model, reads = self.model, self.reads
        return Job(
            model,
            f"cache of layers {reads} and {shifts}",
            samples,
            model.prompts.plan(samples, self._batch_size),
            lambda some: read_batch(model, some, reads, shifts),
        )

    def _digest(self, sample: Sample) -> str:
        known = self._digests.get(id(sample))  # the sample is kept too, so that nothing else gets its place in memory
        if known is None:
            known = self._digests[id(sample)] = (sample, sample.digest())
        return known[1]


def _part(progress: Progress | None, before: int, total: int) -> Progress | None:
    """The progress of one job of several."""
    if progress is None:
        return None
    return lambda stage, done, _total: progress(stage, before + done, total)


def name_ends(model: MultimodalModel, ids: Sequence[int], name: str) -> list[int]:
    """Positions of the last token of every occurrence of a name, however the tokenizer joins it to a blank."""
    tokenizer = model.processor.tokenizer
    found = set()
    for spelling in (f" {name}", name):
        part = tokenizer(spelling, add_special_tokens=False)["input_ids"]
        n = len(part)
        found |= {i + n - 1 for i in range(len(ids) - n + 1) if n and list(ids[i : i + n]) == list(part)}
    return sorted(found)
