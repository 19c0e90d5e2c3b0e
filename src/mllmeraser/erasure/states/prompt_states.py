"""States of prompts that the gate `subject` reads, and a cache that reads each prompt once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mllmeraser.erasure.states.capture_job import Job
from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint, captured
from mllmeraser.erasure.states.image_spans import run_means
from mllmeraser.erasure.states.processes import ProcessGroup
from mllmeraser.models.capture import at_last_token, run_batch
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.sample import Sample


@dataclass(frozen=True)
class PromptStates:
    """States of one prompt on the CPU, stored in the model's dtype and returned in float32.

    Attributes:
        kept: The stored tensors by the names of the properties.
    """

    kept: Mapping[str, Tensor]

    @property
    def ids(self) -> tuple[int, ...]:
        """Token ids of the text, without image placeholders."""
        return tuple(self.kept["ids"].tolist())

    @property
    def text(self) -> Tensor:
        """(tokens, d) at each of them, after the name layer."""
        return self.kept["text"].float()

    @property
    def last(self) -> Tensor:
        """(d,) at the last prompt token, after the topic layer."""
        return self.kept["last"].float()

    @property
    def image(self) -> Tensor:
        """(pictures, d) mean over the tokens of each picture, after the face layer."""
        return self.kept["image"]

    @property
    def shifts(self) -> Tensor:
        """(layers, d) at the last prompt token, after every shifted layer; (0, d) if they were not captured."""
        return self.kept["shifts"].float()


@torch.no_grad()
def read_batch(
    model: MultimodalModel, samples: Sequence[Sample], reads: Sequence[int], shifts: Sequence[int]
) -> dict[str, Tensor]:
    """Return the states of one batch on the CPU, at the name, topic and face layer `reads` and the layers `shifts`.

    Returns:
        Tensors for b prompts with t text tokens and p pictures in all. Token ids and counts: `ids` (t,), `tokens` (b,)
        and `pictures` (b,). States in the model's dtype: `text` (t, d), `last` (b, d), `shifts` (b, layers, d), and in
        float32 `image` (p, d).
    """
    batch = model.encode(samples, padding_side="right")
    ids, mask = batch["input_ids"], batch["attention_mask"].bool()
    image = (ids == model.family.image_token_id(model.hf)) & mask
    text = mask & ~image
    most = int((image[:, :1].sum(1) + (image[:, 1:] & ~image[:, :-1]).sum(1)).max())
    there = torch.zeros(len(samples), 0, dtype=torch.bool)

    def pictures(states: Tensor) -> Tensor:
        nonlocal there
        if not most:
            return torch.empty(0, states.shape[-1])
        means, there = run_means(states, image.to(states.device), most)
        return means[there]

    last = at_last_token(batch)
    name, topic, face = reads
    words, ends, faces, *at_shifts = run_batch(
        model.hf,
        model.layers,
        batch,
        [
            (name, lambda states: states[text.to(states.device)]),
            (topic, last),
            (face, pictures),
            *((layer, last) for layer in shifts),
        ],
    )
    return {
        "text": words,
        "last": ends,
        "image": faces,
        "ids": ids[text].int().cpu(),
        "tokens": text.sum(1).int().cpu(),
        "pictures": there.sum(1).int().cpu(),
        "shifts": torch.stack(at_shifts, 1) if at_shifts else ends.new_empty(len(ends), 0, ends.shape[1]),
    }


def unpacked(tensors: Mapping[str, Tensor]) -> list[PromptStates]:
    """Split the tensors of `read_batch` into prompts, as views."""
    tokens, pictures = (tensors[name].tolist() for name in ("tokens", "pictures"))
    columns = {
        "ids": tensors["ids"].split(tokens),
        "text": tensors["text"].split(tokens),
        "last": tensors["last"].unbind(),
        "image": tensors["image"].split(pictures),
        "shifts": tensors["shifts"].unbind(),
    }
    return [PromptStates({name: parts[i] for name, parts in columns.items()}) for i in range(len(tokens))]


class PromptStateCache:
    """States of prompts of one model; each prompt passes through the model once, for all fits that use the cache.

    `prompt_state_bytes` states the size. With `checkpoint` the states are in mapped files, which the system loads when
    they are read and drops when it needs the memory.
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
        """Start empty, for the name, topic and face layer `reads` and the shifted layers `shifts`.

        `checkpoint` keeps captured batches, so that an interrupted run can continue; None: memory alone.
        """
        self.model, self.reads, self.shifts = model, tuple(reads), tuple(shifts)
        self._batch_size, self._checkpoint = batch_size, checkpoint
        self._kept: dict[str, PromptStates] = {}
        self._shared: dict[str, bool] = {}
        self._digests: dict[int, tuple[Sample, str]] = {}

    def of(
        self, samples: Sequence[Sample], progress: Progress | None = None, *, shifted: Sequence[Sample] = ()
    ) -> list[PromptStates]:
        """Return the states of `samples`, in their order; missing ones are captured.

        Those in `shifted` also get states at the shifted layers. For the others the pass ends at the last read layer.
        """
        jobs = self._jobs(samples, shifted, self._is_shifted)
        total, before = sum(len(job.samples) for job in jobs), 0
        for job in jobs:
            names = [self._digest(sample) for sample in job.samples]
            for rows, tensors in captured(job, self._checkpoint, _part(progress, before, total)):
                for row, prompt in zip(rows, unpacked(tensors), strict=True):
                    self._keep(names[row], prompt)
            before += len(names)
        return [self._kept[self._digest(sample)] for sample in samples]

    def share(
        self,
        samples: Sequence[Sample],
        processes: ProcessGroup,
        progress: Progress | None = None,
        *,
        shifted: Sequence[Sample] = (),
    ) -> None:
        """Capture this process's share of the batches of `of` into the checkpoint; keep nothing in memory."""
        assert self._checkpoint is not None
        for job in self._jobs(samples, shifted, self._shared.get):
            self._checkpoint.share(job, processes, progress)
        moved = {self._digest(sample) for sample in shifted}
        for sample in samples:
            digest = self._digest(sample)
            self._shared[digest] = digest in moved or self._shared.get(digest, not self.shifts)

    def _keep(self, digest: str, prompt: PromptStates) -> None:
        """Keep a prompt; states that are kept already do not change when another batch reads them again."""
        old = self._kept.get(digest)
        self._kept[digest] = prompt if old is None else PromptStates({**old.kept, "shifts": prompt.kept["shifts"]})

    def _is_shifted(self, digest: str) -> bool | None:
        """Whether the states of a prompt include the shifted layers; None if the prompt is not kept."""
        prompt = self._kept.get(digest)
        return None if prompt is None else len(prompt.kept["shifts"]) == len(self.shifts)

    def _jobs(
        self, samples: Sequence[Sample], shifted: Sequence[Sample], known: Callable[[str], bool | None]
    ) -> list[Job]:
        """Describe the captures that are missing; for `known` see `_is_shifted`."""
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
        known = self._digests.get(id(sample))  # the sample is kept too: no other object can then have its id
        if known is None:
            known = self._digests[id(sample)] = (sample, sample.digest())
        return known[1]


def _part(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Return the progress of one job of several."""
    return progress and (lambda stage, done, _total: progress(stage, before + done, total))


def name_ends(model: MultimodalModel, ids: Sequence[int], name: str) -> list[int]:
    """Return the positions of the last token of every occurrence of a name, with or without a space before it."""
    ends = set()
    for spelling in (f" {name}", name):
        part = model.processor.tokenizer(spelling, add_special_tokens=False)["input_ids"]
        n = len(part)
        ends |= {i + n - 1 for i in range(len(ids) - n + 1) if n and list(ids[i : i + n]) == list(part)}
    return sorted(ends)
