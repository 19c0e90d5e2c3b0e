"""Check the ledger's chain of records while the server runs: tampering is shown, logged and counted."""

from __future__ import annotations

import threading

import structlog

from mllmeraser.samples.errors import MLLMEraserError
from mllmeraser.serving.ledger import Ledger

SECONDS = 600.0
"""Between two checks. One reads the whole ledger, so it has a thread of its own."""
log = structlog.get_logger("mllmeraser.integrity")


class Integrity:
    """The result of the last check: `intact` is None before the first, and when the ledger could not be read."""

    def __init__(self, ledger: Ledger, seconds: float = SECONDS) -> None:
        """Check ``ledger`` every so many ``seconds``."""
        self._ledger, self._seconds = ledger, seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="ledger integrity", daemon=True)
        self.intact: bool | None = None

    def start(self) -> None:
        """Start the thread; the first check is at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def check(self) -> bool | None:
        """Check now."""
        try:
            report = self._ledger.verify_chain()
        except MLLMEraserError as error:
            log.warning("the ledger cannot be checked", error=type(error).__name__)
            self.intact = None
            return None
        self.intact = report.ok
        if not report.ok:
            log.error("the ledger was tampered with", event_number=report.bad, why=report.why)
        return self.intact

    def _follow(self) -> None:
        self.check()
        while not self._stop.wait(self._seconds):
            self.check()
