"""The states of an erasure, and the checks of everything that the ledger records."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, Literal, TypeVar, get_args

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger.errors import TransitionError

State = Literal["requested", "fitted", "verified", "checks_failed", "active", "suspended", "revoked"]
Scope = Literal["client", "tenant-admin", "admin"]
Clock = Callable[[], datetime]
Word = TypeVar("Word", bound=str)

STATES: tuple[State, ...] = get_args(State)
SCOPES: tuple[Scope, ...] = get_args(Scope)

# From fitted and checks_failed to active only by force: see `Ledger.activate`.
ALLOWED: Mapping[State, frozenset[State]] = {
    "requested": frozenset({"fitted", "revoked"}),
    "fitted": frozenset({"verified", "checks_failed", "active", "revoked"}),
    "verified": frozenset({"verified", "checks_failed", "active", "revoked"}),
    "checks_failed": frozenset({"verified", "checks_failed", "active", "revoked"}),
    "active": frozenset({"suspended", "revoked"}),
    "suspended": frozenset({"active", "revoked"}),
    "revoked": frozenset(),
}

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
ID = re.compile(r"[0-9a-f]{32}")
DIGEST = re.compile(r"[0-9a-f]{64}")
ACTION = re.compile(r"[a-z][a-z0-9._-]{0,62}")


def check_transition(name: str, old: State, new: State) -> None:
    """Raise a TransitionError if the entry `name` cannot change from the state `old` to `new`."""
    if new not in ALLOWED[old]:
        hint = "" if old != "revoked" else ", which is final: request it again"
        raise TransitionError(f"{name}: {old} cannot become {new}{hint}")


def check_name(name: str) -> str:
    """Return a valid name. Ids are not valid, so that `get` can tell both apart."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or ID.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be a name: lower-case letters, digits, '.', '_' and '-', at most 63, "
            "the first a letter or a digit, and not 32 hex digits"
        )
    return name


def check_tenant(tenant: str | None) -> str | None:
    """Return a valid tenant, or None."""
    if tenant is not None and (not isinstance(tenant, str) or not TENANT.fullmatch(tenant)):
        raise InputError(f"{tenant!r} cannot be a tenant: letters, digits, '.', '_' and '-', at most 63")
    return tenant


def check_text(what: str, text: str, limit: int = 500) -> str:
    """Return one printable line that is not empty. Errors call it `what`."""
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{what} is missing")
    if len(text) > limit or not text.isprintable():
        raise InputError(f"{what} has to be one line of at most {limit} characters")
    return text.strip()


def check_times(now: datetime, starts_at: datetime | None, expires_at: datetime | None) -> None:
    """Check a schedule.

    Raises:
        InputError: If a time has no zone, or the end is not after the start and after `now`.
    """
    for what, time in (("starts_at", starts_at), ("expires_at", expires_at)):
        if time is not None and (not isinstance(time, datetime) or time.tzinfo is None):
            raise InputError(f"{what} has to be a time with its zone, such as 2030-01-31T12:00:00+00:00")
        if time is not None and not 1900 < time.year < 9000:
            raise InputError(f"{what}: the year {time.year} is out of range")
    if expires_at is not None and expires_at <= now:
        raise InputError(f"expires_at {stamp(expires_at)} is over")
    if starts_at is not None and expires_at is not None and expires_at <= starts_at:
        raise InputError("expires_at has to be after starts_at")


def check_state(state: Any) -> State:
    """Return a valid state."""
    return _known("state", state, STATES)


def check_scope(scope: Any) -> Scope:
    """Return a valid scope."""
    return _known("scope", scope, SCOPES)


def _known(what: str, word: Any, words: tuple[Word, ...]) -> Word:
    for known in words:
        if word == known:
            return known
    raise InputError(f"{word!r} is not a {what}: choose one of {', '.join(words)}")


def utc_now() -> datetime:
    """The current time in UTC."""
    return datetime.now(timezone.utc)


def stamp(time: datetime) -> str:
    """A time as stored: ISO 8601 in UTC with microseconds, so that text sorts by time."""
    return time.astimezone(timezone.utc).isoformat(timespec="microseconds")


def stamp_or_none(time: datetime | None) -> str | None:
    """`stamp`, with None for None."""
    return None if time is None else stamp(time)


def time_of(text: str | None) -> datetime | None:
    """A stored time."""
    return None if text is None else datetime.fromisoformat(text)


def parse_time(what: str, text: str | None) -> datetime | None:
    """Parse a time from a user, such as 2030-01-31T12:00:00+00:00 or 2030-01-31T12:00Z. Errors call it `what`.

    Raises:
        InputError: If it is not a time, or has no zone.
    """
    try:
        time = None if text is None else datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        time = None
    if text is not None and (time is None or time.tzinfo is None):
        raise InputError(f"{what}: {text!r} is not a time with its zone, such as 2030-01-31T12:00:00+00:00")
    return time
