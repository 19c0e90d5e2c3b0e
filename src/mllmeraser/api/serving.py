"""Run a server from start to end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mllmeraser.api.erasures import Say, erase, shipped_basis
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.fit.discriminants import SharedBasis
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.serving import spans
from mllmeraser.serving.engine import EngineSettings
from mllmeraser.serving.http.logs import log_as_json
from mllmeraser.serving.http.server import Server
from mllmeraser.serving.http.settings import ServeSettings
from mllmeraser.serving.ledger import Ledger
from mllmeraser.serving.ledger.erasers import add, artifact_from_folder
from mllmeraser.serving.verify.signing import KEY_VARIABLE, load_signing_key

__all__ = ["KEY_VARIABLE", "EngineSettings", "Fitting", "ServeSettings", "add_erasers", "serve"]

BY = "start of the server"
CONNECTIONS = 1024
"""Connections open at once; uvicorn answers more with 503."""


class Fitting:
    """Makes erasers with a preset. The first one captures the basis that all erasers of a model share."""

    def __init__(self, preset: str = "default", seed: int = 0) -> None:
        self._settings, self._seed = FitSettings.preset(preset).model_copy(update={"seed": seed}), seed
        self._shared: tuple[PromptStateCache, SharedBasis] | None = None

    def __call__(self, model: MultimodalModel, request: Request, progress: Progress) -> Eraser:
        """Make the eraser of a request."""
        if self._shared is None and self._settings.gate.kind == "subject":
            self._shared = shipped_basis(model, self._settings, self._seed, progress)
        return erase(
            model, request, self._settings, seed=self._seed, progress=progress, shared=self._shared, shipped_retain=True
        )


def serve(
    model: str | MultimodalModel,
    *,
    ledger: str,
    settings: ServeSettings,
    engine: EngineSettings | None = None,
    erasers: Sequence[Path] = (),
    host: str = "127.0.0.1",
    port: int = 8000,
    traces: bool = False,
    say: Say = print,
) -> None:
    """Serve a model until the process is stopped.

    Args:
        ledger: SQLAlchemy URL, or the path of an SQLite file.
        erasers: Folders of erasers to put in force at the start, if the ledger does not have them yet.
        traces: Whether to send OpenTelemetry spans, as the standard variables OTEL_... say.
        say: Called with each line for the terminal, the first admin's key among them.

    Raises:
        InputError: The ledger, an eraser or a setting cannot be used, or the packages for traces are missing.
    """
    import uvicorn

    from mllmeraser.serving.http.app import create_app

    if traces:
        spans.start()
    log_as_json()
    if settings.signing_key is not None:
        load_signing_key(environment={KEY_VARIABLE: settings.signing_key})  # so that a broken key fails now
    book = Ledger.open(ledger)
    try:
        loaded = load_model(model) if isinstance(model, str) else model
        _first_key(book, say)
        add_erasers(book, erasers, say)
        server = Server(loaded, book, Fitting(), settings, engine=engine)
        server.start()
        say(f"{settings.model_name} at http://{host}:{port} with version {server.sync.version} of the eraser set")
        config = uvicorn.Config(
            create_app(server), host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=30,
            server_header=False, ws="none", limit_concurrency=CONNECTIONS,
            proxy_headers=False,  # clients could else choose, by X-Forwarded-For, which address wrong keys count for
        )  # fmt: skip
        uvicorn.Server(config).run()
    finally:
        book.close()
        spans.stop()


def add_erasers(book: Ledger, folders: Sequence[Path], say: Say = print) -> None:
    """Put erasers in force that are not in the ledger yet. A suspended or revoked one stays as it is.

    Raises:
        InputError: A folder holds no eraser, or its name is taken.
    """
    known = {entry.artifact_digest: entry for entry in sorted(book.list(), key=lambda entry: entry.state == "active")}
    for folder in folders:
        artifact = artifact_from_folder(folder)
        listed = known.get(artifact.digest)
        if listed is None:
            name = folder.resolve().name.lower()
            entry = add(book, artifact, name, by=BY, tenant=None, default=True)
            book.activate(entry.id, by=BY, force="given with --eraser when the server was started")
        elif listed.state != "active":
            say(f"{folder} is not put in force: in the ledger it is {listed.name}, {listed.state}")


def _first_key(book: Ledger, say: Say) -> None:
    keys = book.keys()
    if not any(record.scope == "admin" and record.revoked_at is None for record in keys):
        _, secret = book.add_key(label="first admin", scope="admin", tenant=None, by=BY)
        say(f"the first admin's key, shown this once: {secret}")
