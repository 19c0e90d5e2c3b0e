"""All errors that a ledger raises."""

from __future__ import annotations

from mllmeraser.samples.errors import InputError, MLLMEraserError


class LedgerError(MLLMEraserError):
    """The database is out of reach or full, or stored bytes are damaged. Nothing was changed."""


class UnknownEntryError(LedgerError, InputError):
    """No entry or key has this id or name."""


class TransitionError(LedgerError, InputError):
    """The state of the entry does not allow this step."""


class NameTakenError(LedgerError, InputError):
    """An entry that is not revoked already has this name."""


class UnknownEraser(InputError):
    """A request names an eraser that is not active for its tenant."""


class NoLedgerError(LedgerError, InputError):
    """There is no ledger at this address, and none was to be made."""
