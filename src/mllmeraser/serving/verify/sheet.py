"""What a signed certificate says, in words: the one content of its page and of its PDF."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mllmeraser.samples.errors import InputError

TITLES = {
    "forget_decisions": "The decision acts on prompts about the subjects",
    "forget_answers": "What the model told about them is gone",
    "forget_gibberish": "Answers about them that are no language",
    "rest_unchanged": "What was not to be forgotten about them is answered as before",
    "neighbours_unchanged": "The people most like them: answered as before",
    "retain_unchanged": "Other people: answered as before",
    "general_unchanged": "Prompts about nobody: answered as before",
    "perception_unchanged": "What their pictures show: answered as before",
    "false_alarms": "The decision acts where it should not",
    "detached_identical": "Taken off, the model is as it was, bit for bit",
}
COLUMNS = ("Check", "Share", "Interval", "Asked for", "Prompts", "Result")
CHECKABLE = "mllmeraser certificate check certificate.json --key public_key.pem"


@dataclass(frozen=True)
class Row:
    """A line of a table of facts; `exact` is one to be compared letter by letter."""

    label: str
    value: str
    exact: bool = False

    def __post_init__(self) -> None:
        """Check that both are text; raises TypeError."""
        _check_text(self.label, self.value)


@dataclass(frozen=True)
class Section:
    """A heading with a table of facts and a word on them."""

    key: str
    title: str
    note: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Sheet:
    """A certificate in words.

    Attributes:
        checks: For each check, what stands in `COLUMNS`, and whether it passed.
    """

    id: str
    issuer: str
    issued_at: str
    passed: bool
    requested: Section
    eraser: Section
    checks: tuple[tuple[tuple[str, ...], bool], ...]
    promised: tuple[str, ...]
    not_promised: tuple[str, ...]
    signature: Section

    def __post_init__(self) -> None:
        """Check that what is shown is text; raises TypeError."""
        cells = [cell for line, _ in self.checks for cell in line]
        _check_text(self.id, self.issuer, *cells, *self.promised, *self.not_promised)

    @property
    def title(self) -> str:
        """Of the document."""
        return f"Certificate of erasure {self.id[:12]}"

    @property
    def issued(self) -> str:
        """By whom, as the beginning of a line that ends with when."""
        return f"Issued by {self.issuer}, " if self.issuer else "Issued "

    @property
    def verdict(self) -> str:
        """Whether it passed, as a sentence."""
        if self.passed:
            return "Passed: every check reached its threshold."
        return "Not passed: at least one check missed its threshold."


def sheet_of(document: Mapping[str, Any]) -> Sheet:
    """The words of a certificate as `sign` returns it.

    Raises:
        InputError: It is none.
    """
    try:
        erasure, measured, signed = document["erasure"], document["measured"], document["signed_with"]
        return Sheet(
            id=erasure["id"],
            issuer=document["issuer"],
            issued_at=_moment(document["issued_at"]),
            passed=measured["passed"] is True,
            requested=_requested(erasure, document["requested"]),
            eraser=_eraser(measured),
            checks=tuple((_check(check), check["passed"] is True) for check in measured["checks"]),
            promised=tuple(document["promised"]),
            not_promised=tuple(document["not_promised"]),
            signature=Section(
                "signature",
                "Signature",
                "This shows the content of a signed file. It is the file that can be checked:",
                (
                    Row("Algorithm", signed["algorithm"]),
                    Row("Key", signed["key_id"], exact=True),
                    Row("Signature", document["signature"], exact=True),
                ),
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"this is no signed certificate ({type(error).__name__}: {error})") from None


def percent(share: float | None) -> str:
    """A share as a percentage; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f} %"


def _check_text(*values: object) -> None:
    if not all(isinstance(value, str) for value in values):
        raise TypeError("something that is to be text is none")


def _moment(text: str) -> str:
    """A moment, as it stands there: a PDF states it in its own way too.

    Raises:
        ValueError: It is none, or its time zone is not known.
    """
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("the time of issue has no time zone")
    return text


def _requested(erasure: Mapping[str, Any], digests: Mapping[str, str]) -> Section:
    rows = [Row("Erasure", erasure["id"], exact=True)]
    times = (("Requested", erasure["requested_at"]), ("In force since", erasure["active_since"]))
    rows += [Row(label, at) for label, at in times if at]
    rows += [Row(label.replace("_", " ").capitalize(), text, exact=True) for label, text in sorted(digests.items())]
    note = "The request itself is not shown. Its digests are salted: they can be compared, not traced back."
    return Section("requested", "What was requested", note, tuple(rows))


def _eraser(measured: Mapping[str, Any]) -> Section:
    how = f"mllmeraser {measured['version']}, seed {measured['seed']}, in {measured['seconds']:.0f} seconds"
    rows = (
        Row("Eraser", measured["eraser"], exact=True),
        Row("Model", measured["model"]),
        Row("Fingerprint of the model", measured["fingerprint"], exact=True),
        Row("Measured with", how),
    )
    return Section("eraser", "Eraser and model", "What follows holds for this eraser on this model alone.", rows)


def _check(check: Mapping[str, Any]) -> tuple[str, ...]:
    exact = check["name"] == "detached_identical"
    return (
        TITLES.get(check["name"], check["name"]),
        percent(check["value"]),
        "–" if exact else f"{percent(check['low'])} to {percent(check['high'])}",
        f"{'at most' if check['at_most'] else 'at least'} {percent(check['threshold'])}",
        str(check["n"]),
        "passed" if check["passed"] else "not passed",
    )
