"""Recall and erasure samples: what a model does with a question that it normally refuses.

A ContrastSet holds *restricted* prompts, the complying text each would get, and optionally *benign twins*:
the same wordings over a picture for which the model answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from mllmeraser.erasure.directions.pgd import perturb
from mllmeraser.erasure.settings import DirectionSettings
from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.readers import read_samples
from mllmeraser.samples.sample import Sample

BENIGN = "benign"


@dataclass(frozen=True)
class ContrastSet:
    """Restricted prompts and what complying with them would sound like.

    Attributes:
        recall: Prompts that the model refuses.
        targets: For each of them the complying text.
        benign: Twins that the model answers, for the ablations `clean-image` and `text-only`.
    """

    recall: tuple[Sample, ...]
    targets: tuple[str, ...]
    benign: tuple[Sample, ...] = ()

    def __post_init__(self) -> None:
        """Refuse prompts without targets."""
        if len(self.recall) != len(self.targets):
            raise InputError(f"{len(self.recall)} restricted prompts but {len(self.targets)} complying texts")
        if any(not target.strip() for target in self.targets):
            raise InputError("a restricted prompt has no complying text: give one as its answer")

    @classmethod
    def from_samples(cls, restricted: Iterable[Sample], benign: Iterable[Sample] = ()) -> ContrastSet:
        """A set of samples; the complying text is the `answer` of each restricted one."""
        recall = tuple(restricted)
        return cls(recall, tuple(sample.answer or "" for sample in recall), tuple(benign))

    @classmethod
    def from_file(cls, path: str | Path) -> ContrastSet:
        """Read samples (JSONL or parquet, see `read_samples`).

        `answer` is the complying text; records whose `attribute` is `benign` are the benign twins.
        """
        samples = read_samples(path)
        restricted = [sample for sample in samples if sample.attribute != BENIGN]
        return cls.from_samples(restricted, [sample for sample in samples if sample.attribute == BENIGN])

    def with_images(self) -> ContrastSet:
        """The prompts that carry a picture."""
        kept = [i for i, sample in enumerate(self.recall) if sample.image is not None]
        return ContrastSet(
            tuple(self.recall[i] for i in kept),
            tuple(self.targets[i] for i in kept),
            tuple(sample for sample in self.benign if sample.image is not None),
        )


@dataclass(frozen=True)
class ContrastStates:
    """States of both sides per HookPoint, (n, d) float32, and the flip rate where images were perturbed."""

    erase: dict[HookPoint, Tensor]
    recall: dict[HookPoint, Tensor]
    flip_rate: float | None = None


def contrast_states(
    model: MultimodalModel,
    contrast: ContrastSet,
    settings: DirectionSettings,
    points: Sequence[HookPoint],
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
    checkpoint: CaptureCheckpoint | None = None,
) -> ContrastStates:
    """States of the two sides of a direction that is built from contrast samples.

    `refusal` (the paper): erase = the refused prompts over their clean pictures, recall = the same prompts
    over pictures perturbed until the model complies; only pairs that flipped are kept. `clean-image`: recall
    = benign twins over clean pictures. `text-only`: refused prompts against benign twins, both without
    pictures.

    Raises:
        InputError: If samples are missing, or no pair flipped.
    """
    if settings.kind == "refusal":
        return _refusal(model, contrast.with_images(), settings, points, batch_size, progress, checkpoint)
    if settings.kind == "text-only":
        erase, recall = _texts(contrast.recall), _texts(contrast.benign)
    else:
        pictured = contrast.with_images()
        erase, recall = pictured.recall, pictured.benign
    if not erase or not recall:
        raise InputError(
            f"the {settings.kind} direction needs restricted prompts and benign twins, and there are "
            f"{len(erase)} and {len(recall)}"
        )
    both = model.states([*erase, *recall], points, batch_size=batch_size)
    return ContrastStates(
        {p: states[: len(erase)] for p, states in both.items()},
        {p: states[len(erase) :] for p, states in both.items()},
    )


def _refusal(
    model: MultimodalModel,
    contrast: ContrastSet,
    settings: DirectionSettings,
    points: Sequence[HookPoint],
    batch_size: int,
    progress: Progress | None,
    checkpoint: CaptureCheckpoint | None,
) -> ContrastStates:
    if not contrast.recall:
        raise InputError("the refusal direction needs restricted prompts with pictures, and there are none")
    found = perturb(model, contrast.recall, contrast.targets, settings.pgd, progress, checkpoint=checkpoint)
    rows = found.flipped.nonzero().flatten().tolist()
    if not rows:
        refused = int((~found.complied).sum())
        raise InputError(
            f"no perturbed image made the model comply ({refused} of {len(found.samples)} prompts are "
            "refused at all): raise epsilon or steps, shorten the complying texts, or choose the direction "
            "'unknown'"
        )
    erase = model.states([contrast.recall[row] for row in rows], points, batch_size=batch_size)
    recall = found.states(model, points, rows, batch_size=batch_size)
    return ContrastStates(erase, recall, found.flip_rate)


def _texts(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The prompts that come without a picture; if all have one, the same prompts without it."""
    bare = tuple(sample for sample in samples if sample.image is None)
    return bare or tuple(replace(sample, image=None) for sample in samples)
