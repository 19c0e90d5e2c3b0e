"""The block list: a guard in front of the model that knows names and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mllmeraser.erasure.gates.conformal import conformal_threshold
from mllmeraser.methods.interception import intercept
from mllmeraser.methods.method import MethodSettings, checked
from mllmeraser.methods.pictures import distinct_pictures, nearest, picture_features
from mllmeraser.models.intervention import Attachment
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.prompts import IGNORED
from mllmeraser.samples.errors import AttachError, InputError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.text import contains

UNLIKELY = -100.0
"""Log-probability (nats) of a token that the guard would never say."""


class BlockListSettings(MethodSettings):
    """Settings of the block list.

    Attributes:
        answer: What is answered instead.
        false_alarm_rate: Share of pictures of others that may be taken for one of the request.
        centred: Take the mean of the retain pictures off before the cosine: features of all pictures share a
            large common part, beside which people hardly differ.
        batch_size: Pictures looked at together.
    """

    answer: str = Field(default="I do not know this person.", min_length=1)
    false_alarm_rate: float = Field(default=0.05, gt=0, lt=1)
    centred: bool = True
    batch_size: int = Field(default=16, ge=1)


@dataclass(frozen=True, eq=False)
class BlockListProduct:
    """Answers with one sentence where a prompt names a subject or shows a picture near one of the request's.

    It holds the names and the features of the pictures themselves. It guards `generate`, `generate_batch`,
    `next_token_logits` and `answer_logprobs` of a model of `load_model`; who calls the transformers model
    inside passes by it, and what the model holds within (`states`) is not changed.

    Attributes:
        names: Matched as whole words, whatever their case and accents.
        features: (m, d) of the request's pictures.
        centre: (d,) taken off before the cosine.
        threshold: A larger cosine is near; None where the request has no picture.
        fingerprint: Of the model whose features these are.
        settings: What it was made with.
    """

    names: tuple[str, ...]
    features: Tensor
    centre: Tensor
    threshold: float | None
    fingerprint: str
    settings: BlockListSettings

    def attach(self, model: Any) -> Attachment:
        """Attach until detached.

        Raises:
            AttachError: If `model` is a plain transformers model, or has other weights than the one whose
                features were kept.
        """
        if not isinstance(model, MultimodalModel):
            raise AttachError(
                "a block list reads questions and pictures, so it needs a model of load_model(), not a plain "
                "transformers model"
            )
        if self.threshold is not None and model.fingerprint() != self.fingerprint:
            raise AttachError("this block list knows pictures as another model sees them: make it anew for this one")
        guard = _Guard(self, model)
        with ExitStack() as undo:
            for method in ("generate_batch", "next_token_logits", "answer_logprobs"):
                undo.callback(intercept(model, method, getattr(guard, method)))
            return Attachment(undo.pop_all().close, ["block-list"])

    def attached(self, model: Any) -> Attachment:
        """Attach for the length of a `with` block."""
        return self.attach(model)

    def blocked(self, model: MultimodalModel, samples: Sequence[Sample]) -> list[bool]:
        """Which of the samples are answered by the guard."""
        found = [any(contains(sample.prompt, name) for name in self.names) for sample in samples]
        shown = [row for row, sample in enumerate(samples) if sample.image is not None and not found[row]]
        if self.threshold is None or not shown:
            return found
        images = [samples[row].image for row in shown]
        features = picture_features(model, [one for one in images if one is not None], self.settings.batch_size)
        for row, cosine in zip(shown, nearest(features, self.features, self.centre).tolist(), strict=True):
            found[row] = cosine > self.threshold
        return found


class BlockList:
    """Names and pictures of a request as a guard in front of the model. Trains nothing.

    The threshold is the conformal one: a fresh picture, exchangeable with the retain pictures, is taken for
    one of the request with at most the stated probability (but for the centre, a mean over those pictures).
    """

    name: ClassVar[str] = "block-list"
    variants: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[type[MethodSettings]] = BlockListSettings
    trained: ClassVar[bool] = False

    def make(
        self,
        model: MultimodalModel,
        request: Request,
        *,
        settings: MethodSettings | Mapping[str, Any] | None = None,
        folder: Path | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> BlockListProduct:
        """See `Method.make`; nothing is random, and nothing is kept in `folder`.

        Raises:
            InputError: If the request has neither names nor pictures, or too few different retain pictures
                for the false-alarm rate.
        """
        chosen = checked(BlockListSettings, settings)
        request.validate()
        names = tuple(dict.fromkeys(name for subject in request.subjects for name in subject.names))
        forget, others = distinct_pictures(request.forget), distinct_pictures(request.retain)
        if not names and not forget:
            raise InputError("block-list needs names or pictures of the subjects, and the request has neither")
        known = picture_features(model, list(forget.values()), chosen.batch_size)
        centre, threshold = torch.zeros(known.shape[1]), None
        if forget:
            retained = [image for digest, image in others.items() if digest not in forget]
            features = picture_features(model, retained, chosen.batch_size)
            if chosen.centred and len(retained):
                centre = features.mean(0)
            threshold = conformal_threshold(nearest(features, known, centre), chosen.false_alarm_rate)
        if progress is not None:
            progress("prepare", 1, 1)
        return BlockListProduct(names, known, centre, threshold, model.fingerprint(), chosen)


class _Guard:
    """The wrappers of one attached block list; each takes the method it stands around first."""

    def __init__(self, product: BlockListProduct, model: MultimodalModel) -> None:
        self.product, self.model, self.answer = product, model, product.settings.answer

    def generate_batch(self, inner: Callable[..., list[str]], samples: Sequence[Sample], **options: Any) -> list[str]:
        blocked = self.product.blocked(self.model, samples)
        passed = [sample for sample, no in zip(samples, blocked, strict=True) if not no]
        rest = iter(inner(passed, **options) if passed else ())
        return [self.answer if no else next(rest) for no in blocked]

    def next_token_logits(self, inner: Callable[..., Tensor], samples: Sequence[Sample], **options: Any) -> Tensor:
        logits = inner(samples, **options)
        for row in self._rows(samples):
            labels = self.model.prompts.encode_answers([samples[row]], [self.answer], end=False)["labels"]
            logits[row] = UNLIKELY
            logits[row, labels[labels != IGNORED][0]] = 0.0
        return logits

    def answer_logprobs(
        self,
        inner: Callable[..., tuple[Tensor, Tensor]],
        samples: Sequence[Sample],
        answers: Sequence[str],
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        sums, counts = inner(samples, answers, **options)
        for row in self._rows(samples):
            sums[row] = 0.0 if answers[row] == self.answer else UNLIKELY * counts[row]
        return sums, counts

    def _rows(self, samples: Sequence[Sample]) -> list[int]:
        return [row for row, no in enumerate(self.product.blocked(self.model, samples)) if no]
