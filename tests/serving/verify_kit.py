"""Helpers for the tests of verification and certificates."""

from __future__ import annotations

from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import IDENTITY, Sample
from mllmeraser.samples.subject import Subject
from mllmeraser.serving.verify import Check, Sizes, Verification
from tiny import picture

FEW = Sizes(
    forget=18, least=6, views=4, people=4, prompts=2, neighbours=2, neighbour_prompts=2, general=8, perception=4
)
"""A few prompts of every kind, for tiny models."""
NAME = "Ottilie Brandvoll"


def one_person(*, name: str | None = NAME, pictures: int = 2, attributes: tuple[str, ...] = ()) -> Request:
    """One person, as in a user's request."""
    pictured = tuple(Sample("Who is this?", picture(40 + i), subject="p", attribute=IDENTITY) for i in range(pictures))
    named = () if pictured else (Sample(f"Who is {name}?", subject="p"),)
    return Request((Subject("p", () if name is None else (name,), pictured + named, attributes),))


def verified(*, passed: bool = True) -> Verification:
    """A verification as a ledger stores it."""
    share = 1.0 if passed else 0.25
    checks = (
        Check("forget_answers", share, 0.2, 1.0, 0.95, False, 56, passed, "14 of 56"),
        Check("false_alarms", 0.0, 0.0, 0.015, 0.02, True, 244, True, "0 of 244"),
        Check("detached_identical", 1.0, 1.0, 1.0, 1.0, False, 1, True, "the same bit for bit"),
    )
    return Verification(passed, checks, 21.9, "0.1.0", "embedded:llava", "f" * 64, "e" * 64, 0)


def check_of(verification: Verification, name: str) -> Check:
    return next(check for check in verification.checks if check.name == name)


def failed(verification: Verification) -> set[str]:
    """Names of the checks that did not pass."""
    return {check.name for check in verification.checks if not check.passed}
