"""The ledger: the record of erasure requests, their erasers, the active set, and every change to them."""

from mllmeraser.serving.ledger.chain import Event
from mllmeraser.serving.ledger.check import ChainReport
from mllmeraser.serving.ledger.entries import Entry
from mllmeraser.serving.ledger.errors import (
    LedgerError,
    NameTakenError,
    TransitionError,
    UnknownEntryError,
    UnknownEraser,
)
from mllmeraser.serving.ledger.keys import KeyRecord, Principal
from mllmeraser.serving.ledger.ledger import Ledger
from mllmeraser.serving.ledger.reading import ServerRow
from mllmeraser.serving.ledger.sets import ActiveEraser, EraserSet
from mllmeraser.serving.ledger.states import Scope, State

__all__ = [
    "ActiveEraser",
    "ChainReport",
    "Entry",
    "EraserSet",
    "Event",
    "KeyRecord",
    "Ledger",
    "LedgerError",
    "NameTakenError",
    "Principal",
    "Scope",
    "ServerRow",
    "State",
    "TransitionError",
    "UnknownEntryError",
    "UnknownEraser",
]
