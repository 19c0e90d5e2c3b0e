"""Anchors of samples: states where a decision looks and of the shifted layers; kept for later fits."""

from __future__ import annotations

from collections.abc import Sequence

from mllmeraser.erasure.anchor import Anchor, read_batch, unpacked
from mllmeraser.erasure.capturing import Job, captured
from mllmeraser.erasure.shards import Shards
from mllmeraser.erasure.team import Team
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.sample import Sample

__all__ = ["Anchor", "Anchors", "name_ends"]


class Anchors:
    """Anchors of samples on one model; a prompt passes through the model once, however many fits ask for it.

    They take `anchor_bytes` (see `footprint`): in memory, or with `shards` in files that are mapped into it, so that
    the system reads them when they are looked at and drops them when it needs the memory.
    """

    def __init__(
        self,
        model: MultimodalModel,
        reads: Sequence[int],
        shifts: Sequence[int],
        *,
        batch_size: int = 32,
        shards: Shards | None = None,
    ) -> None:
        """Nothing is captured yet.

        Args:
            model: The frozen model.
            reads: The three layers of an identity decision: name, topic, face.
            shifts: Layers whose direction is wanted.
            batch_size: Prompts in a batch.
            shards: Where captured batches are kept, to go on after a kill; None: in memory alone.
        """
        self.model, self.reads, self.shifts = model, tuple(reads), tuple(shifts)
        self._batch_size, self._shards = batch_size, shards
        self._kept: dict[str, Anchor] = {}
        self._shared: set[str] = set()
        self._digests: dict[int, tuple[Sample, str]] = {}

    def of(self, samples: Sequence[Sample], progress: Progress | None = None) -> list[Anchor]:
        """The anchors of samples, in their order.

        Raises:
            NumericalError: A state is NaN or infinite.
        """
        digests = [self._digest(sample) for sample in samples]
        missing = {d: s for d, s in zip(digests, samples, strict=True) if d not in self._kept}
        if missing:
            names = list(missing)
            for rows, tensors in captured(self._job(list(missing.values())), self._shards, progress):
                self._kept.update(zip((names[row] for row in rows), unpacked(tensors), strict=True))
        return [self._kept[digest] for digest in digests]

    def share(self, samples: Sequence[Sample], team: Team, progress: Progress | None = None) -> None:
        """Capture this process's share of what `of` would, in the same batches, into the shards; keep nothing.

        Raises:
            NumericalError: A state is NaN or infinite.
            TeamError: Another process has failed.
        """
        missing = {d: s for s in samples if (d := self._digest(s)) not in self._shared}
        self._shared |= missing.keys()
        assert self._shards is not None
        self._shards.share(self._job(list(missing.values())), team, progress)

    def _job(self, samples: Sequence[Sample]) -> Job:
        model, reads, shifts = self.model, self.reads, self.shifts
        return Job(
            model,
            f"anchors of layers {reads} and {shifts}",
            samples,
            model.prompts.plan(samples, self._batch_size),
            lambda some: read_batch(model, some, reads, shifts),
        )

    def _digest(self, sample: Sample) -> str:
        known = self._digests.get(id(sample))  # the sample is kept too, so that nothing else gets its place in memory
        if known is None:
            known = self._digests[id(sample)] = (sample, sample.digest())
        return known[1]


def name_ends(model: MultimodalModel, ids: Sequence[int], name: str) -> list[int]:
    """Positions of the last token of every occurrence of a name, however the tokenizer joins it to a blank."""
    tokenizer = model.processor.tokenizer
    found = set()
    for spelling in (f" {name}", name):
        part = tokenizer(spelling, add_special_tokens=False)["input_ids"]
        n = len(part)
        found |= {i + n - 1 for i in range(len(ids) - n + 1) if n and list(ids[i : i + n]) == list(part)}
    return sorted(found)
