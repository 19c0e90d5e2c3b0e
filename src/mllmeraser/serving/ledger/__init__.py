"""The ledger: the record of erasure requests, their erasers, the active set, and every change to them."""

from mllmeraser.serving.ledger.entries import ActiveEraser, Entry, EraserSet
from mllmeraser.serving.ledger.errors import (
    LedgerError,
    NameTakenError,
    NoLedgerError,
    TransitionError,
    UnknownEntryError,
    UnknownEraser,
)
from mllmeraser.serving.ledger.keys import Principal
from mllmeraser.serving.ledger.ledger import Ledger
from mllmeraser.serving.ledger.states import Scope

__all__ = [
    "ActiveEraser",
    "Entry",
    "EraserSet",
    "Ledger",
    "LedgerError",
    "NameTakenError",
    "NoLedgerError",
    "Principal",
    "Scope",
    "TransitionError",
    "UnknownEntryError",
    "UnknownEraser",
]
