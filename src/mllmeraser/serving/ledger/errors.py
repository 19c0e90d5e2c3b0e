"""The errors of the ledger; nothing else leaves this room."""

from __future__ import annotations

from mllmeraser.samples.errors import InputError, MLLMEraserError


class LedgerError(MLLMEraserError):
    """The ledger could not do what it was asked: database out of reach, disk full, stored bytes damaged.

    Nothing was changed.
    """


class UnknownEntryError(LedgerError, InputError):
    """There is no entry or key of this id or name."""


class TransitionError(LedgerError, InputError):
    """The entry is in a state from which this step is not allowed."""


class NameTakenError(LedgerError, InputError):
    """Another entry, not revoked, has this name."""


class UnknownEraser(InputError):
    """A request asks for an eraser that is not in force for its tenant."""
