"""The parts of one server, started and stopped together."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.sibling import sibling
from mllmeraser.serving.engine import BatchReport, Engine, EngineSettings
from mllmeraser.serving.http.access import Gatekeeper
from mllmeraser.serving.http.errors import NOT_NOW, Refusal
from mllmeraser.serving.http.fits import Fits, Fitter
from mllmeraser.serving.http.keeper import Keeper
from mllmeraser.serving.http.metrics import Metrics
from mllmeraser.serving.http.settings import ServeSettings
from mllmeraser.serving.http.store import Store
from mllmeraser.serving.http.traces import trace_batch
from mllmeraser.serving.ledger import Entry, Ledger
from mllmeraser.serving.spans import span
from mllmeraser.serving.verify import Thresholds
from mllmeraser.version import __version__

STARTING = "the server is starting"
LEDGER_AWAY = "the ledger cannot be reached"
NOT_IN_FORCE = "the erasers cannot be put into force"
ENGINE_CLOSED = "the engine is closed"
RECORDED = "recorded, but not in force on this server"


@dataclass(frozen=True)
class Changed:
    """A change of the ledger that is in force on this server."""

    entry: Entry
    version: int


class Server:
    """One process: the model, the erasers in force, the ledger, and what works in the background.

    Attributes:
        model: The served model; only the engine touches it.
        settings: Limits and choices.
        ledger, engine, keeper, fits, gatekeeper, metrics: The parts.
    """

    def __init__(
        self,
        model: MultimodalModel,
        ledger: Ledger,
        fitter: Fitter,
        settings: ServeSettings,
        *,
        engine: EngineSettings | None = None,
        thresholds: Thresholds | None = None,
        name: str | None = None,
    ) -> None:
        """Put the parts together; nothing runs yet. ``name`` tells servers on one ledger apart."""
        self.model, self.ledger, self.settings = model, ledger, settings
        self.name = name or f"server-{uuid.uuid4().hex[:8]}"
        self.metrics = Metrics()
        self._started = False
        free = sibling(model)  # before anything is attached
        self.fingerprint = model.fingerprint()
        self.engine = Engine(model, engine or EngineSettings(), observe=self._observe)
        self.store = Store(ledger, self.fingerprint)
        self.keeper = Keeper(self.engine, ledger, self.store, self.name, settings.poll_seconds, settings.stale_seconds)
        self.fits = Fits(free, ledger, span("fit")(fitter), thresholds or Thresholds(), settings.max_fits)
        self.gatekeeper = Gatekeeper(ledger, settings.requests_per_minute)

    def start(self) -> None:
        """Begin to answer; once, however often it is called.

        Raises:
            MLLMEraserError: The erasers that the ledger wants cannot be put into force: nothing runs.
        """
        if self._started:
            return
        self._started = True
        self.engine.start()
        try:
            self.keeper.start()
        except BaseException:
            self.engine.stop(drain=False)
            raise
        self.fits.start()
        details = {"server": self.name, "version": __version__, "fingerprint": self.fingerprint}
        self.ledger.audit("server-started", by=self.name, details=details)

    def stop(self) -> None:
        """Answer what was begun, then end."""
        self.fits.stop()
        self.keeper.stop()
        self.engine.stop(drain=True)

    def _observe(self, report: BatchReport) -> None:
        self.metrics.batch(report)
        trace_batch(report)

    def trouble(self, fault: str) -> str:
        """Of which kind a fault of the keeper is. The fault itself may name erasers of any tenant; this anybody may
        know.
        """
        if self.keeper.current is None:
            return STARTING
        if fault == self.engine.status().closed:
            return ENGINE_CLOSED
        return LEDGER_AWAY if fault.startswith(LEDGER_AWAY) else NOT_IN_FORCE

    def check_ready(self) -> None:
        """Refuse where an answer might be unsteered.

        Raises:
            Refusal: 503, with the kind of trouble, and with the fault for admins.
        """
        fault = self.keeper.fault()
        if fault is not None:
            kind, details = self.trouble(fault), f"{NOT_NOW}: {fault}"
            raise Refusal(503, f"{NOT_NOW}: {kind}", "not_ready", retry_after=5, details=details)

    def change(self, action: Callable[[], Entry]) -> Changed:
        """Do something to the ledger, and put what follows from it into force here before it is reported.

        Raises:
            LedgerError: The ledger refuses; nothing has changed.
            Refusal: 503; the change is recorded, but could not be put into force: nothing is answered.
        """
        entry = action()
        try:
            return Changed(self.ledger.get(entry.id), self.keeper.sync())
        except Exception as error:
            why = self.keeper.fault() or type(error).__name__
            raise Refusal(503, RECORDED, "not_in_force", details=f"{RECORDED}: {why}") from error

    def check_usable(self, entry: Entry) -> None:
        """Check that this server could apply an entry's eraser, before it is switched on.

        Raises:
            ArtifactError: It is corrupt, or made for another model.
        """
        if entry.artifact_digest is not None:
            self.store.load(entry.artifact_digest)
