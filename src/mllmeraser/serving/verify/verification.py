"""verify(model, eraser, request) -> Verification: is it forgotten, and is everything else as it was?"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mllmeraser.benchmarks.defaults import complete
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.steering.score_prompts import read_gate
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.people import Person, World
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample
from mllmeraser.serving.spans import span
from mllmeraser.serving.verify import held_back
from mllmeraser.serving.verify.checks import Check, all_checks
from mllmeraser.serving.verify.facts import Asked
from mllmeraser.serving.verify.general import general_prompts, perception_prompts
from mllmeraser.serving.verify.held_back import Sizes
from mllmeraser.serving.verify.neighbours import nearest
from mllmeraser.serving.verify.steps import Steps
from mllmeraser.serving.verify.thresholds import Thresholds
from mllmeraser.version import __version__

BATCH = 32
LONGEST = 24
PROBES = 16
_STAND_IN = Sample("Nothing is asked here.", id="stand-in")


@dataclass(frozen=True)
class Verification:
    """The result of a verification. It names nobody and quotes nothing.

    Attributes:
        passed: Whether every check did.
        checks: What was measured.
        seconds: How long it took.
        version: Of the package.
        model: Name of the model.
        fingerprint: Of the model.
        eraser: Digest of the eraser.
        seed: Of the prompts.
    """

    passed: bool
    checks: tuple[Check, ...]
    seconds: float
    version: str
    model: str
    fingerprint: str
    eraser: str
    seed: int

    @property
    def failures(self) -> list[str]:
        """One line for every check that did not pass."""
        return [f"{check.name}: {check.reason}" for check in self.checks if not check.passed]

    def check(self, name: str) -> Check:
        """The check of a name.

        Raises:
            KeyError: There is none.
        """
        return {check.name: check for check in self.checks}[name]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Verification:
        """A verification from what `as_dict` or `to_json` gave, as a ledger keeps it.

        Raises:
            InputError: It is none.
        """
        try:
            return cls(**{**values, "checks": tuple(Check(**check) for check in values["checks"])})
        except (KeyError, TypeError) as error:
            raise InputError(f"this is no verification ({error})") from None

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "checks": [asdict(check) for check in self.checks]}

    def to_json(self) -> str:
        """As JSON, indented."""
        return json.dumps(self.as_dict(), indent=2, sort_keys=True, allow_nan=False) + "\n"


@span("verify")
def verify(
    model: MultimodalModel,
    eraser: Eraser,
    request: Request,
    *,
    thresholds: Thresholds | None = None,
    retain: Sequence[Sample] | None = None,
    seed: int = 0,
    sizes: Sizes | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Measure an eraser on prompts that it was not fitted on, against what the bare model says.

    The request is the one the user wrote, as it was given to `erase`: not expanded. Why none of the prompts was used
    for the fit is told at the head of `held_back`: wordings of the pool `test` where the fit has those of `train`,
    fresh views and newly drawn pictures, and whatever the completed request holds is dropped. Nothing true about the
    subjects is known, so what counts as forgotten is an answer that differs from the bare model's and repeats none of
    the facts that the bare model gave (`facts`).

    Args:
        model: The model, with nothing attached.
        eraser: The candidate.
        request: What it is to forget.
        thresholds: What is asked for; None: the defaults.
        retain: More prompts whose answers must not change, asked as they are: the fit must not have seen them. Beside
            them fresh views of the request's own retain pictures, and the shipped people, are always asked.
        seed: Of the prompts; another seed asks other ones.
        sizes: How much is asked; None: some 450 prompts.
        progress: Told how far the work is: `read the gate` and `answers`.

    The model must answer nobody else meanwhile: a model does one forward pass at a time.

    Raises:
        ArtifactError: The eraser was made for another model.
        InputError: The request gives nothing fresh to ask: it has neither a picture nor a name.
    """
    began = time.perf_counter()
    bounds, chosen = thresholds or Thresholds(), sizes or Sizes()
    eraser.check_model(model)
    request.validate()
    groups = _prompts(model, eraser, request, retain or (), seed, chosen, progress)
    asked, identical = _ask(model, eraser, groups, progress)
    checks = all_checks(asked, decides=_decides(eraser), identical=identical, bounds=bounds)
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


def _label(name: str) -> str:
    """The name of a model without the folders above it: they are nobody else's business."""
    return name if name.count("/") <= 1 and not name.startswith(("/", ".", "~")) else Path(name).name


def _decides(eraser: Eraser) -> bool:
    return eraser.config.policy.phi == "threshold"


# -- what is asked ---------------------------------------------------------------------------------------


def _prompts(
    model: MultimodalModel,
    eraser: Eraser,
    request: Request,
    retain: Sequence[Sample],
    seed: int,
    sizes: Sizes,
    progress: Progress | None,
) -> dict[str, list[Sample]]:
    """Prompts by group, without any that the fit starts from."""
    completed = _completed(request, model)
    subjects = [replace(own, names=full.names) for own, full in zip(request.subjects, completed.subjects, strict=True)]
    known = held_back.known_people(World("dev"), [name for subject in subjects for name in subject.names])
    near = nearest(model, eraser, known, seed, sizes.neighbours, by_name=_faceless(request), progress=progress)
    groups = {
        "forget": held_back.forget_prompts(subjects, seed, sizes),
        "rest": held_back.kept_prompts(subjects, seed, sizes),
        "neighbours": _people(near, Stream("verification", seed, "near"), sizes.neighbour_prompts),
        "retain": [
            *retain,
            *held_back.given_prompts(request.retain, seed, sizes.people),
            *_people(_some(known, seed, sizes.people), Stream("verification", seed, "retain"), sizes.prompts),
        ],
        "general": general_prompts(known, seed, sizes.general),
        "perception": perception_prompts(held_back.subject_views(subjects, seed, sizes.views), seed, sizes.perception),
    }
    seen = {s.digest() for s in (*completed.forget, *completed.retain, *completed.strangers)}
    groups = {name: held_back.unseen(samples, seen) for name, samples in groups.items()}
    if not groups["forget"]:
        raise InputError("nothing can be asked that the fit has not seen: give a picture or a name of each subject")
    return groups


def _completed(request: Request, model: MultimodalModel) -> Request:
    """The request as `erase` completes it, names that the model tells included, without the shipped sets.

    Those are long to draw and need no comparison: their wordings are all of the pool `train`.
    """
    there = replace(request, retain=request.retain or (_STAND_IN,), strangers=request.strangers or (_STAND_IN,))
    return complete(there, model).request


def _faceless(request: Request) -> bool:
    """Whether a request shows nobody, so that its subjects have names and no faces."""
    return all(sample.image is None for sample in request.forget)


def _some(known: Sequence[Person], seed: int, n: int) -> list[Person]:
    return Stream("verification", seed, "people").shuffle(list(known))[:n]


def _people(people: Sequence[Person], stream: Stream, n: int) -> list[Sample]:
    return [sample for person in people for sample in held_back.person_prompts(person, stream.child(person.key), n)]


# -- asking ----------------------------------------------------------------------------------------------


def _ask(
    model: MultimodalModel, eraser: Eraser, groups: dict[str, list[Sample]], progress: Progress | None
) -> tuple[dict[str, list[Asked]], bool]:
    """Answers without and with the eraser and its decisions; whether detaching left the logits as they were."""
    samples = [sample for group in groups.values() for sample in group]
    probes = samples[:: max(1, len(samples) // PROBES)][:PROBES]
    steps = Steps(progress, "answers", 2 * len(samples))
    logits = model.next_token_logits(probes, batch_size=BATCH)
    before = model.generate(samples, max_new_tokens=LONGEST, batch_size=BATCH, progress=steps.add)
    with eraser.attached(model):
        after = model.generate(samples, max_new_tokens=LONGEST, batch_size=BATCH, progress=steps.add)
    fired = _fired(model, eraser, samples, progress)
    identical = torch.equal(logits, model.next_token_logits(probes, batch_size=BATCH))
    rows = iter(zip(samples, before, after, fired, strict=True))
    return {name: [Asked(*next(rows)) for _ in group] for name, group in groups.items()}, identical


def _fired(model: MultimodalModel, eraser: Eraser, samples: Sequence[Sample], progress: Progress | None) -> list[bool]:
    if not _decides(eraser):
        return [False] * len(samples)
    pooled = read_gate(model, eraser, samples, batch_size=BATCH, progress=progress).pooled
    return [bool(one) for one in pooled > (eraser.config.threshold or 0.0)]
