"""The block list: a filter in front of the model that knows names and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field
from torch import Tensor

from mllmeraser.erasure.gates.conformal import conformal_threshold
from mllmeraser.methods.interception import Wrapper, WrappingProduct
from mllmeraser.methods.method import BaseMethod, MethodSettings, Run
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.prompts import IGNORED
from mllmeraser.samples.errors import AttachError, InputError
from mllmeraser.samples.images import pixel_digest
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.text import contains

UNLIKELY = -100.0
"""Log-probability (nats) of every token that the block list never says."""


class BlockListSettings(MethodSettings):
    """Settings of the block list.

    Attributes:
        false_alarm_rate: Share of pictures of other people that may be blocked.
        centred: Subtract the mean of the retain pictures before the cosine. The features of all pictures share a
            large common part, which hides the differences between people.
    """

    answer: str = Field(default="I do not know this person.", min_length=1)
    false_alarm_rate: float = Field(default=0.05, gt=0, lt=1)
    centred: bool = True
    batch_size: int = Field(default=16, ge=1)


@dataclass(frozen=True, eq=False)
class BlockListProduct(WrappingProduct):
    """Answers with one sentence if a prompt names a subject or shows a picture near one of the request's.

    It holds the names and the features of the pictures. It wraps `generate`, `generate_batch`, `next_token_logits` and
    `answer_logprobs` of a model of `load_model`. Calls of the transformers model inside bypass it.

    Attributes:
        names: Matched as whole words, without regard to case and accents.
        features: (m, d) of the request's pictures.
        centre: (d,) subtracted before the cosine.
        threshold: Pictures with a larger cosine are blocked; None if the request has no picture.
        fingerprint: Fingerprint of the model that computed the features.
    """

    names: tuple[str, ...]
    features: Tensor
    centre: Tensor
    threshold: float | None
    fingerprint: str
    settings: BlockListSettings

    method: ClassVar[str] = "block-list"

    def wrappers(self, model: MultimodalModel) -> Iterable[tuple[Any, str, Wrapper]]:
        """See `WrappingProduct`."""
        if self.threshold is not None and model.fingerprint() != self.fingerprint:
            raise AttachError("another model computed the picture features of this block list: make one for this model")
        names = ("generate_batch", "next_token_logits", "answer_logprobs")
        return [(model, name, partial(getattr(self, f"_{name}"), model)) for name in names]

    def blocked(self, model: MultimodalModel, samples: Sequence[Sample]) -> list[bool]:
        """Whether each sample is blocked."""
        blocked = [any(contains(sample.prompt, name) for name in self.names) for sample in samples]
        images = {row: s.image for row, s in enumerate(samples) if s.image is not None and not blocked[row]}
        if self.threshold is None or not images:
            return blocked
        features = picture_features(model, list(images.values()), self.settings.batch_size)
        for row, cosine in zip(images, nearest(features, self.features, self.centre).tolist(), strict=True):
            blocked[row] = cosine > self.threshold
        return blocked

    def _generate_batch(
        self, model: MultimodalModel, inner: Callable[..., list[str]], samples: Sequence[Sample], **options: Any
    ) -> list[str]:
        blocked = self.blocked(model, samples)
        passed = [sample for sample, no in zip(samples, blocked, strict=True) if not no]
        rest = iter(inner(passed, **options) if passed else ())
        return [self.settings.answer if no else next(rest) for no in blocked]

    def _next_token_logits(
        self, model: MultimodalModel, inner: Callable[..., Tensor], samples: Sequence[Sample], **options: Any
    ) -> Tensor:
        logits = inner(samples, **options)
        for row in self._rows(model, samples):
            labels = model.prompts.encode_answers([samples[row]], [self.settings.answer], end=False)["labels"]
            logits[row] = UNLIKELY
            logits[row, labels[labels != IGNORED][0]] = 0.0
        return logits

    def _answer_logprobs(
        self,
        model: MultimodalModel,
        inner: Callable[..., tuple[Tensor, Tensor]],
        samples: Sequence[Sample],
        answers: Sequence[str],
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        sums, counts = inner(samples, answers, **options)
        for row in self._rows(model, samples):
            sums[row] = 0.0 if answers[row] == self.settings.answer else UNLIKELY * counts[row]
        return sums, counts

    def _rows(self, model: MultimodalModel, samples: Sequence[Sample]) -> list[int]:
        return [row for row, no in enumerate(self.blocked(model, samples)) if no]


class BlockList(BaseMethod[BlockListProduct]):
    """Blocks questions with the names or pictures of a request. Trains nothing.

    The threshold is conformal: a new picture, exchangeable with the retain pictures, is blocked with at most the stated
    probability. (The centre is an exception: it is a mean over those pictures.)
    """

    name: ClassVar[str] = "block-list"
    settings: ClassVar[type[MethodSettings]] = BlockListSettings

    def build(
        self, model: MultimodalModel, request: Request, settings: BlockListSettings, run: Run
    ) -> BlockListProduct:
        """Collect the names, the features and the threshold.

        An InputError if the request has neither names nor pictures, or too few retain pictures for the rate.
        """
        names = tuple(dict.fromkeys(name for subject in request.subjects for name in subject.names))
        forget, others = distinct_pictures(request.forget), distinct_pictures(request.retain)
        if not names and not forget:
            raise InputError("block-list needs names or pictures of the subjects, and the request has neither")
        features = picture_features(model, list(forget.values()), settings.batch_size)
        centre, threshold = torch.zeros(features.shape[1]), None
        if forget:
            retained = [image for digest, image in others.items() if digest not in forget]
            retain_features = picture_features(model, retained, settings.batch_size)
            if settings.centred and len(retained):
                centre = retain_features.mean(0)
            threshold = conformal_threshold(nearest(retain_features, features, centre), settings.false_alarm_rate)
        run.report("prepare", 1, 1)
        return BlockListProduct(names, features, centre, threshold, model.fingerprint(), settings)


@torch.no_grad()
def picture_features(model: MultimodalModel, images: Sequence[Image.Image], batch_size: int = 16) -> Tensor:
    """(n, width of the language model) float32 on the CPU: the projected patches of each picture, averaged."""
    features = []
    for start in range(0, len(images), batch_size):
        pixels = [model.prompts.pixels(image) for image in images[start : start + batch_size]]
        batch = {key: value.to(model.device) for key, value in model.family.join(pixels).items()}
        batch["pixel_values"] = batch["pixel_values"].to(model.dtype)
        output: Any = model.hf.get_image_features(**batch)
        patches = getattr(output, "pooler_output", output)
        features += [one.float().mean(0).cpu() for one in patches]
    return torch.stack(features) if features else torch.zeros(0, model.hidden_size)


def nearest(features: Tensor, known: Tensor, centre: Tensor) -> Tensor:
    """(n,) the largest cosine of each of `features` (n, d) with one of `known` (m, d), both minus `centre` (d,)."""
    ours, theirs = (F.normalize((one - centre).double(), dim=-1) for one in (features, known))
    return (ours @ theirs.T).amax(-1)


def distinct_pictures(samples: Iterable[Sample]) -> dict[str, Image.Image]:
    """The different pictures of samples, by the digest of their pixels."""
    objects = {id(sample.image): sample.image for sample in samples if sample.image is not None}
    pictures: dict[str, Image.Image] = {}
    for image in objects.values():
        pictures.setdefault(pixel_digest(image), image)
    return pictures
