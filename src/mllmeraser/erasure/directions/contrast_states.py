"""Contrast samples: questions that a model normally refuses, and its states when it refuses or answers them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from mllmeraser.erasure.directions.pgd import perturb
from mllmeraser.erasure.settings import DirectionSettings
from mllmeraser.erasure.states.checkpoint import CaptureCheckpoint
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.sample import Sample


@dataclass(frozen=True)
class ContrastSet:
    """Prompts that the model refuses (`recall`), each with a text that complies (`targets`).

    `benign` are the same wordings over pictures that the model answers, for `clean-image` and `text-only`.
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
        """Make a set of samples; the complying text is the `answer` of each restricted sample."""
        recall = tuple(restricted)
        return cls(recall, tuple(sample.answer or "" for sample in recall), tuple(benign))

    def with_images(self) -> ContrastSet:
        """Keep the prompts with a picture."""
        kept = [i for i, sample in enumerate(self.recall) if sample.image is not None]
        benign = tuple(sample for sample in self.benign if sample.image is not None)
        return ContrastSet(tuple(self.recall[i] for i in kept), tuple(self.targets[i] for i in kept), benign)


@dataclass(frozen=True)
class ContrastStates:
    """States (n, d) float32 of both sides by layer, and the flip rate if images were perturbed."""

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
    """Return the states of the two sides of a direction that needs contrast samples.

    - `refusal` (arXiv 2510.04217): erase are the refused prompts over clean pictures. Recall are the same prompts over
      pictures perturbed until the model complies. Pairs that did not flip are left out.
    - `text-only`: refused prompts against benign twins, both without pictures.
    - all others (`clean-image`): refused prompts against benign twins, both over clean pictures.
    """
    pictured = contrast.with_images()
    if settings.kind == "refusal":
        if not pictured.recall:
            raise InputError("the refusal direction needs restricted prompts with pictures, and there are none")
        pairs = perturb(model, pictured.recall, pictured.targets, settings.pgd, progress, checkpoint=checkpoint)
        rows = pairs.flipped.nonzero().flatten().tolist()
        if not rows:
            raise InputError(
                f"no perturbed image made the model comply ({int((~pairs.complied).sum())} of {len(pairs.samples)} "
                "prompts are refused at all): raise epsilon or steps, shorten the complying texts, or choose the "
                "direction 'unknown'"
            )
        clean = model.states([pairs.samples[row] for row in rows], points, batch_size=batch_size)
        return ContrastStates(clean, pairs.states(model, points, rows, batch_size=batch_size), pairs.flip_rate)
    erase, recall = pictured.recall, pictured.benign
    if settings.kind == "text-only":
        erase, recall = _texts(contrast.recall), _texts(contrast.benign)
    if not erase or not recall:
        raise InputError(
            f"the {settings.kind} direction needs restricted prompts and benign twins, and there are "
            f"{len(erase)} and {len(recall)}"
        )
    both = model.states([*erase, *recall], points, batch_size=batch_size)
    n = len(erase)
    return ContrastStates({p: rows[:n] for p, rows in both.items()}, {p: rows[n:] for p, rows in both.items()})


def _texts(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Return the prompts without a picture; if all have one, the same prompts with their pictures removed."""
    bare = tuple(sample for sample in samples if sample.image is None)
    return bare or tuple(replace(sample, image=None) for sample in samples)
