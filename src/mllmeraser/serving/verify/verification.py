"""verify(model, eraser, request) -> Verification: are the subjects forgotten, and is everything else unchanged?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.evaluation.attacks.asked import Asked, answers
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.turns import reading_of
from mllmeraser.samples.conversation import Conversation
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Count, Progress, counting
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample
from mllmeraser.serving.spans import span
from mllmeraser.serving.verify import fresh_prompts as fresh
from mllmeraser.serving.verify.checks import Check, all_checks
from mllmeraser.serving.verify.conversations import in_conversations
from mllmeraser.serving.verify.facts import AnswerPair
from mllmeraser.serving.verify.groups import prompts_by_group
from mllmeraser.serving.verify.thresholds import Thresholds
from mllmeraser.version import __version__

BATCH = 32
LONGEST = 24
PROBES = 16
LEAST_OTHERS = 40
"""Fewer prompts about others would show nothing: all of 40 unchanged leaves room for 9 % changed."""


@dataclass(frozen=True)
class Verification:
    """The result of a verification, without personal data.

    Attributes:
        version: Version of this package.
        model: Name of the model, without folders.
        fingerprint: Fingerprint of the model.
        eraser: Digest of the eraser.
        seed: Seed of the prompts.
    """

    passed: bool
    checks: tuple[Check, ...]
    seconds: float
    version: str
    model: str
    fingerprint: str
    eraser: str
    seed: int

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Verification:
        """The inverse of `as_dict`, for the values in a ledger.

        Raises:
            InputError: If the values are not those of a verification.
        """
        try:
            return cls(**{**values, "checks": tuple(Check(**check) for check in values["checks"])})
        except (KeyError, TypeError) as error:
            raise InputError(f"this is not a verification ({error})") from None

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "checks": [asdict(check) for check in self.checks]}


@span("verify")
def verify(
    model: MultimodalModel,
    eraser: Eraser,
    request: Request,
    *,
    thresholds: Thresholds | None = None,
    retain: Sequence[Sample] | None = None,
    others: Sequence[Sample] | None = None,
    seed: int = 0,
    sizes: fresh.Sizes | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Measure an eraser against the bare model, on prompts that it was not fitted on.

    `fresh_prompts` explains why the fit has seen none of them. An answer counts as forgotten if it differs from the
    bare model's and repeats none of the facts that the bare model gave (`facts`).

    Args:
        model: The model, with nothing attached. It must serve no other requests during the verification.
        eraser: The eraser to measure.
        request: The user's request as passed to `erase`, not expanded.
        thresholds: The bounds; None means the defaults.
        retain: More prompts with answers that must not change, asked unchanged. The fit must not have seen them. Fresh
            views of the request's own retain pictures are always asked.
        others: Prompts about people and things that this model knows, asked unchanged, which no fit has seen. None:
            those of the shipped drawn world. It says something about the embedded models alone.
        seed: Seed of the prompts.
        sizes: How many prompts to ask; None means some 450.
        progress: Receives the stages `read the gate` and `answers`.

    Raises:
        ArtifactError: If the eraser was made for another model.
        InputError: If the request has neither a picture nor a name, so that no fresh prompt can be made; or there are
            fewer than `LEAST_OTHERS` others.
    """
    began = time.perf_counter()
    eraser.check_model(model)
    request.validate()
    if others is not None and len(others) < LEAST_OTHERS:
        raise InputError(f"a verification needs {LEAST_OTHERS} prompts about others, and there are {len(others)}")
    groups = prompts_by_group(model, eraser, request, retain or (), others, seed, sizes or fresh.Sizes(), progress)
    talks = _conversations(model, eraser, groups, seed, (sizes or fresh.Sizes()).conversations)
    pairs, identical = _ask(model, eraser, groups, talks, progress)
    checks = all_checks(pairs, decides=_decides(eraser), identical=identical, bounds=thresholds or Thresholds())
    return Verification(
        passed=all(check.passed for check in checks),
        checks=tuple(checks),
        seconds=round(time.perf_counter() - began, 3),
        version=__version__,
        model=_label(model.name),
        fingerprint=model.fingerprint(),
        eraser=eraser.digest(),
        seed=seed,
    )


def _conversations(
    model: MultimodalModel, eraser: Eraser, groups: dict[str, list[Sample]], seed: int, n: int
) -> dict[str, list[Asked]]:
    """Prompts in conversations; none where an eraser cannot read them, since then they are refused.

    An eraser that takes a conversation for one text fires after a question about a subject, as `docs/limits.md` says.
    """
    read = reading_of(model.hf, model.family)
    if read == "nothing" and eraser.config.policy.pooling == "subject":
        return {}
    others = [*groups["retain"], *groups["general"]]
    before = groups["forget"] if read == "each turn" and eraser.config.turns is not None else ()
    return {
        "told": in_conversations(model, groups["forget"], (), seed, n, forgotten=True),
        "talk": in_conversations(model, others, before, seed, n, forgotten=False),
    }


def _label(name: str) -> str:
    """The name of a model without the folders above it, which are private."""
    return name if name.count("/") <= 1 and not name.startswith(("/", ".", "~")) else Path(name).name


def _decides(eraser: Eraser) -> bool:
    return eraser.config.policy.phi == "threshold"


def _ask(
    model: MultimodalModel,
    eraser: Eraser,
    groups: dict[str, list[Sample]],
    talks: dict[str, list[Asked]],
    progress: Progress | None,
) -> tuple[dict[str, list[AnswerPair]], bool]:
    """Answers and decisions by group, and whether the logits after detaching equal those before."""
    samples = [sample for group in groups.values() for sample in group]
    probes = samples[:: max(1, len(samples) // PROBES)][:PROBES]
    spoken = [one for group in talks.values() for one in group]
    count = counting(progress, "answers", 2 * (len(samples) + len(spoken)))
    logits = model.next_token_logits(probes, batch_size=BATCH)
    before, before_spoken = _answers(model, samples, spoken, count)
    with eraser.attached(model):
        after, after_spoken = _answers(model, samples, spoken, count)
    fired = _fired(model, eraser, samples, progress)
    fired_spoken = _fired(model, eraser, [one.conversation for one in spoken], progress)
    identical = torch.equal(logits, model.next_token_logits(probes, batch_size=BATCH))
    rows = iter(zip(samples, before, after, fired, strict=True))
    pairs = {name: [AnswerPair(*next(rows)) for _ in group] for name, group in groups.items()}
    told = iter(zip([one.sample for one in spoken], before_spoken, after_spoken, fired_spoken, strict=True))
    pairs |= {name: [AnswerPair(*next(told)) for _ in group] for name, group in talks.items()}
    return pairs, identical


def _fired(
    model: MultimodalModel,
    eraser: Eraser,
    prompts: Sequence[Sample] | Sequence[Conversation],
    progress: Progress | None,
) -> list[bool]:
    """Whether the decision acts on each prompt; False without a decision."""
    if not _decides(eraser) or not prompts:
        return [False] * len(prompts)
    scores = read_gate(model, eraser, prompts, batch_size=BATCH, progress=progress).pooled
    return (scores > (eraser.config.threshold or 0.0)).tolist()


def _answers(
    model: MultimodalModel, samples: Sequence[Sample], spoken: Sequence[Asked], count: Count
) -> tuple[list[str], list[str]]:
    """Answers to the samples, and in the conversations."""
    plain = model.generate(samples, max_new_tokens=LONGEST, batch_size=BATCH, progress=count)
    return plain, answers(model, spoken, tokens=LONGEST, rows=BATCH, count=count)
