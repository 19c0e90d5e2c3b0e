"""The parts of one server, started and stopped together."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from mllmeraser.models.model import MultimodalModel, sibling
from mllmeraser.serving.engine import BatchReport, Engine, EngineSettings
from mllmeraser.serving.http.access import Gatekeeper
from mllmeraser.serving.http.errors import NOT_NOW, Refusal
from mllmeraser.serving.http.fits import Fits, Fitter, Verifier
from mllmeraser.serving.http.integrity import Integrity
from mllmeraser.serving.http.metrics import Metrics
from mllmeraser.serving.http.settings import ServeSettings
from mllmeraser.serving.http.sync import LedgerSync, Store
from mllmeraser.serving.http.traces import trace_batch
from mllmeraser.serving.http.webhooks import Webhooks
from mllmeraser.serving.ledger import Entry, Ledger
from mllmeraser.serving.spans import span
from mllmeraser.serving.verify import verify
from mllmeraser.version import __version__

RECORDED = "recorded, but not in force on this server"


class Changed(NamedTuple):
    """A change of the ledger that this server follows; `in_force` is whether the entry's eraser acts now."""

    entry: Entry
    version: int
    in_force: bool


class Server:
    """One process: the model, which only the engine uses, the erasers in force, the ledger, the background work."""

    def __init__(
        self,
        model: MultimodalModel,
        ledger: Ledger,
        fitter: Fitter,
        settings: ServeSettings,
        *,
        engine: EngineSettings | None = None,
        name: str | None = None,
        verifier: Verifier | None = verify,
    ) -> None:
        """Assemble the parts without starting them. ``name`` identifies this server on a shared ledger.

        Without a ``verifier``, requests about people end as fitted (see `Fits`).
        """
        self.model, self.ledger, self.settings = model, ledger, settings
        self.name = name or f"server-{uuid.uuid4().hex[:8]}"
        self.metrics = Metrics()
        self._started = False
        free = sibling(model)  # before anything is attached
        self.fingerprint = model.fingerprint()
        self.engine = Engine(model, engine or EngineSettings(), observe=self._observe)
        self.store = Store(ledger, self.fingerprint)
        self.sync = LedgerSync(
            self.engine, ledger, self.store, self.name, settings.poll_seconds, settings.stale_seconds
        )
        self.integrity = Integrity(ledger)
        self.fits = Fits(free, ledger, span("fit")(fitter), settings.max_fits, verifier, server=self.name)
        self.webhooks = None if settings.webhook is None else Webhooks(
            ledger, settings.webhook, settings.webhook_secret, self.name, self.metrics
        )  # fmt: skip
        self.gatekeeper = Gatekeeper(ledger, settings.requests_per_minute)

    def start(self) -> None:
        """Start once. Raises `MLLMEraserError` if the ledger fails or its erasers cannot be put into force.

        Then nothing runs.
        """
        if self._started:
            return
        self._started = True
        with ExitStack() as undo:
            self.engine.start()
            undo.callback(self.engine.stop, drain=False)
            self.sync.start()
            undo.callback(self.sync.stop)
            if self.webhooks is not None:
                self.webhooks.start()
                undo.callback(self.webhooks.stop)
            self.fits.start()
            undo.callback(self.fits.stop)
            self.integrity.start()
            undo.callback(self.integrity.stop)
            details = {"server": self.name, "version": __version__, "fingerprint": self.fingerprint}
            self.ledger.audit("server-started", by=self.name, details=details)
            undo.pop_all()  # all of it runs

    def stop(self) -> None:
        """Finish the running requests, then stop."""
        self.integrity.stop()
        self.fits.stop()
        self.sync.stop()
        self.engine.stop(drain=True)
        if self.webhooks is not None:
            self.webhooks.stop()

    def _observe(self, report: BatchReport) -> None:
        self.metrics.batch(report)
        trace_batch(report)

    def check_ready(self) -> None:
        """Raise `Refusal` (503) if an answer might be unsteered, with details of the fault for admins."""
        fault = self.sync.fault()
        if fault is not None:
            message, details = f"{NOT_NOW}: {fault.kind.value}", f"{NOT_NOW}: {fault.details}"
            raise Refusal(503, message, "not_ready", retry_after=5, details=details)

    def change(self, action: Callable[[], Entry]) -> Changed:
        """Change the ledger, and return once the change is in force here.

        A `LedgerError` means that nothing has changed. `Refusal` (503) means that the change is recorded, but could not
        be put into force: the server refuses all requests.
        """
        entry = action()
        try:
            version = self.sync.update()
            return Changed(self.ledger.get(entry.id), version, self.sync.acts(entry.id))
        except Exception as error:
            fault = self.sync.fault()
            why = fault.details if fault else type(error).__name__
            raise Refusal(503, RECORDED, "not_in_force", details=f"{RECORDED}: {why}") from error

    def check_usable(self, entry: Entry) -> None:
        """Raise `ArtifactError` if an entry's eraser is corrupt or made for another model, before it is activated."""
        if entry.artifact_digest is not None:
            self.store.load(entry.artifact_digest)
