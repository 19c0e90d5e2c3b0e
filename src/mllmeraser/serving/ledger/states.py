"""The life of an erasure, and which words may stand in the record."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, Literal

from mllmeraser.samples.errors import InputError
from mllmeraser.serving.ledger.errors import TransitionError

State = Literal["requested", "fitted", "verified", "active", "suspended", "revoked"]
Scope = Literal["client", "tenant-admin", "admin"]
Clock = Callable[[], datetime]

STATES: tuple[State, ...] = ("requested", "fitted", "verified", "active", "suspended", "revoked")
SCOPES: tuple[Scope, ...] = ("client", "tenant-admin", "admin")

# From fitted to active only with force: see `lifecycle.activate`.
ALLOWED: Mapping[State, frozenset[State]] = {
    "requested": frozenset({"fitted", "revoked"}),
    "fitted": frozenset({"verified", "active", "revoked"}),
    "verified": frozenset({"verified", "active", "revoked"}),
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
    """Make sure that an entry may go from one state to another.

    Raises:
        TransitionError: If it may not.
    """
    if new not in ALLOWED[old]:
        hint = "" if old != "revoked" else ", which is final: request it again"
        raise TransitionError(f"{name}: {old} cannot become {new}{hint}")


def check_name(name: str) -> str:
    """The name, if it can be one; an id cannot, so that `get` never has to choose."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or ID.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be a name: lower-case letters, digits, '.', '_' and '-', at most 63, "
            "the first a letter or a digit, and not 32 hex digits"
        )
    return name


def check_tenant(tenant: str | None) -> str | None:
    """The tenant, if it can be one."""
    if tenant is not None and (not isinstance(tenant, str) or not TENANT.fullmatch(tenant)):
        raise InputError(f"{tenant!r} cannot be a tenant: letters, digits, '.', '_' and '-', at most 63")
    return tenant


def check_text(what: str, text: str, limit: int = 500) -> str:
    """One printable line that is not empty; `what` names it in the error."""
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{what} is missing")
    if len(text) > limit or not text.isprintable():
        raise InputError(f"{what} has to be one line of at most {limit} characters")
    return text.strip()


def check_times(now: datetime, starts_at: datetime | None, expires_at: datetime | None) -> None:
    """Make sure that a schedule can be kept.

    Raises:
        InputError: If a time has no zone, the end is not after the start, or the end is over.
    """
    for what, time in (("starts_at", starts_at), ("expires_at", expires_at)):
        if time is not None and (not isinstance(time, datetime) or time.tzinfo is None):
            raise InputError(f"{what} has to be a time with its zone, such as 2030-01-31T12:00:00+00:00")
        if time is not None and not 1900 < time.year < 9000:
            raise InputError(f"{what}: the year {time.year} is out of reach")
    if expires_at is not None and expires_at <= now:
        raise InputError(f"expires_at {stamp(expires_at)} is over")
    if starts_at is not None and expires_at is not None and expires_at <= starts_at:
        raise InputError("expires_at has to be after starts_at")


def check_state(state: Any) -> State:
    """The state of this name."""
    for known in STATES:
        if state == known:
            return known
    raise InputError(f"{state!r} is no state: {', '.join(STATES)}")


def check_scope(scope: Any) -> Scope:
    """The scope of this name."""
    for known in SCOPES:
        if scope == known:
            return known
    raise InputError(f"{scope!r} is no scope: {', '.join(SCOPES)}")


def utc_now() -> datetime:
    """The time of this machine, in UTC."""
    return datetime.now(timezone.utc)


def stamp(time: datetime) -> str:
    """A time as it is stored: ISO 8601 in UTC with microseconds, so that text sorts as time does."""
    return time.astimezone(timezone.utc).isoformat(timespec="microseconds")


def stamp_or_none(time: datetime | None) -> str | None:
    """As `stamp`, and None for None."""
    return None if time is None else stamp(time)


def time_of(text: str | None) -> datetime | None:
    """A stored time."""
    return None if text is None else datetime.fromisoformat(text)


def parse_time(what: str, text: str | None) -> datetime | None:
    """A time that somebody wrote, such as 2030-01-31T12:00:00+00:00 or 2030-01-31T12:00Z.

    Raises:
        InputError: If it is no time, or has no zone.
    """
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise InputError(f"{what}: {text!r} is no time with its zone, such as 2030-01-31T12:00:00+00:00")
    return time
