"""The text of a signed certificate, shared by its HTML page and its PDF."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.subject import KIND_COUNT

TITLES = {
    "forget_decisions": "The decision acts on prompts about the subjects",
    "forget_answers": "The model's answers about them are gone",
    "forget_gibberish": "Answers about them that are not language",
    "rest_unchanged": "Their other facts: answered as before",
    "neighbours_unchanged": "Those most like them: answered as before",
    "retain_unchanged": "Other people and things: answered as before",
    "general_unchanged": "Everything else: answered as before",
    "perception_unchanged": "What their pictures show: answered as before",
    "conversation_answers": "In conversations: answers about them are gone",
    "conversation_unchanged": "In conversations: all else answered as before",
    "false_alarms": "The decision acts where it should not",
    "detached_identical": "After removal the model is unchanged, bit for bit",
}
KINDS = {
    "person": ("person", "people"),
    "entity": ("thing", "things"),
    "fact": ("single fact", "single facts"),
    "concept": ("concept", "concepts"),
    "topic": ("topic", "topics"),
}
"""One and several subjects of a kind, in words."""
COLUMNS = ("Check", "Share", "Interval", "Required", "Prompts", "Result")
CHECKABLE = "mllmeraser certificate check certificate.json --key public_key.pem"


@dataclass(frozen=True)
class Row:
    """A line of a table of facts; `exact` marks a value to be compared letter by letter."""

    label: str
    value: str
    exact: bool = False


@dataclass(frozen=True)
class Section:
    """A heading, a note and a table of facts."""

    key: str
    title: str
    note: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Sheet:
    """The text of a certificate. `checks` holds the cells under `COLUMNS` of each check, and whether it passed."""

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
        cells = [cell for line, _ in self.checks for cell in line]
        rows = [*self.requested.rows, *self.eraser.rows, *self.signature.rows]
        texts = [*cells, *(row.label for row in rows), *(row.value for row in rows), *self.promised, *self.not_promised]
        if not all(isinstance(text, str) for text in (self.id, self.issuer, *texts)):
            raise TypeError("a value that has to be text is not")

    @property
    def title(self) -> str:
        """Title of the document."""
        return f"Certificate of erasure {self.id[:12]}"

    @property
    def issued(self) -> str:
        """Start of the line that ends with the time of issue."""
        return f"Issued by {self.issuer}, " if self.issuer else "Issued "

    @property
    def verdict(self) -> str:
        """Whether it passed, as a sentence."""
        if self.passed:
            return "Passed: every check reached its threshold."
        return "Not passed: at least one check missed its threshold."


def sheet_of(document: Mapping[str, Any]) -> Sheet:
    """The text of a certificate.

    Raises:
        InputError: If the document is not a certificate as `sign` returns it.
    """
    try:
        measured = document["measured"]
        return Sheet(
            id=document["erasure"]["id"],
            issuer=document["issuer"],
            issued_at=_with_zone(document["issued_at"]),
            passed=measured["passed"] is True,
            requested=_requested(document["erasure"], document["requested"]),
            eraser=_eraser(measured),
            checks=tuple((_check(check), check["passed"] is True) for check in measured["checks"]),
            promised=tuple(document["promised"]),
            not_promised=tuple(document["not_promised"]),
            signature=_signature(document),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"this is no signed certificate ({type(error).__name__}: {error})") from None


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _with_zone(text: str) -> str:
    """Return a time unchanged; raises ValueError without a time zone, which the PDF needs."""
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("the time of issue has no time zone")
    return text


def _requested(erasure: Mapping[str, Any], digests: Mapping[str, str]) -> Section:
    rows = [Row("Erasure", erasure["id"], exact=True)]
    counts = {kind: digests[f"{KIND_COUNT}{kind}"] for kind in KINDS if f"{KIND_COUNT}{kind}" in digests}
    if counts:
        rows.append(Row("About", ", ".join(f"{n} {KINDS[kind][n != '1']}" for kind, n in counts.items())))
    times = (("Requested", erasure["requested_at"]), ("In force since", erasure["active_since"]))
    rows += [Row(label, at) for label, at in times if at]
    named = {f"{KIND_COUNT}{kind}" for kind in counts}
    rest = sorted((label, text) for label, text in digests.items() if label not in named)
    rows += [Row(label.replace("_", " ").capitalize(), text, exact=True) for label, text in rest]
    note = "The request itself is not shown. Its digests are salted: they can be compared, but not reversed."
    return Section("requested", "What was requested", note, tuple(rows))


def _eraser(measured: Mapping[str, Any]) -> Section:
    how = f"mllmeraser {measured['version']}, seed {measured['seed']}, in {measured['seconds']:.0f} seconds"
    rows = (
        Row("Eraser", measured["eraser"], exact=True),
        Row("Model", measured["model"]),
        Row("Fingerprint of the model", measured["fingerprint"], exact=True),
        Row("Measured with", how),
    )
    return Section("eraser", "Eraser and model", "The results hold only for this eraser on this model.", rows)


def _signature(document: Mapping[str, Any]) -> Section:
    rows = (
        Row("Algorithm", document["signed_with"]["algorithm"]),
        Row("Key", document["signed_with"]["key_id"], exact=True),
        Row("Signature", document["signature"], exact=True),
    )
    note = "This shows the content of a signed file. To check that file:"
    return Section("signature", "Signature", note, rows)


def _check(check: Mapping[str, Any]) -> tuple[str, ...]:
    exact = check["name"] == "detached_identical"
    return (
        TITLES.get(check["name"], check["name"]),
        _percent(check["value"]),
        "–" if exact else f"{_percent(check['low'])} to {_percent(check['high'])}",
        f"{'at most' if check['at_most'] else 'at least'} {_percent(check['threshold'])}",
        str(check["n"]),
        "passed" if check["passed"] else "not passed",
    )
