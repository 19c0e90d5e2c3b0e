"""Run a server from start to end."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from mllmeraser.api.erasures import EMBEDDED, Say, erase, shipped_basis
from mllmeraser.api.reference_sets import ReferenceSets
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.calibration.verdict import verdict_of
from mllmeraser.erasure.fit.discriminants import SharedBasis
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.samples.sample import Sample
from mllmeraser.serving import spans
from mllmeraser.serving.engine import EngineSettings
from mllmeraser.serving.http.fits import Verifier
from mllmeraser.serving.http.logs import log_as_json
from mllmeraser.serving.http.server import Server
from mllmeraser.serving.http.settings import ServeSettings
from mllmeraser.serving.http.webhooks import SECRET_VARIABLE, check_url, key_of
from mllmeraser.serving.ledger import Ledger
from mllmeraser.serving.ledger.erasers import Artifact, add, artifact_from_folder
from mllmeraser.serving.verify import verify
from mllmeraser.serving.verify.signing import KEY_VARIABLE, load_signing_key

__all__ = [
    "KEY_VARIABLE",
    "SECRET_VARIABLE",
    "EngineSettings",
    "Fitting",
    "ReferenceSets",
    "ServeSettings",
    "add_erasers",
    "serve",
]

BY = "start of the server"
CONNECTIONS = 1024
"""Connections open at once; uvicorn answers more with 503."""


class Fitting:
    """Makes erasers with a preset. The first one captures the basis that all erasers of a model share."""

    def __init__(
        self,
        preset: str = "default",
        seed: int = 0,
        *,
        retain: Sequence[Sample] = (),
        strangers: Sequence[Sample] = (),
    ) -> None:
        """Without ``retain`` and ``strangers`` (both or neither), the shipped drawn people stand for others.

        A request about what is no person is always fitted as `erase` does it: with its own preset, and with the
        shipped sets, which are about the real world.
        """
        self._settings, self._seed = FitSettings.preset(preset).model_copy(update={"seed": seed}), seed
        self._preset = preset
        self._retain, self._strangers = tuple(retain), tuple(strangers)
        self._shared: tuple[PromptStateCache, SharedBasis] | None = None

    def __call__(self, model: MultimodalModel, request: Request, progress: Progress) -> Eraser:
        """Make the eraser of a request."""
        if not request.about_people:
            return erase(model, request, self._preset, seed=self._seed, progress=progress)
        if self._retain:
            request = replace(request, retain=self._retain, strangers=self._strangers)
        elif self._shared is None and self._settings.gate.kind == "subject":
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
    sets: ReferenceSets | None = None,
    init: bool = False,
    host: str = "127.0.0.1",
    port: int = 8000,
    traces: bool = False,
    tls: tuple[Path, Path] | None = None,
    say: Say = print,
    tell: Say = print,
) -> None:
    """Serve a model until the process is stopped.

    Args:
        ledger: SQLAlchemy URL, or the path of an SQLite file.
        erasers: Folders of erasers to put in force at the start, if the ledger does not have them yet.
        sets: What the operator knows about people other than the forgotten. A model that is not embedded needs them,
            else its requests end as fitted, without a verification.
        init: Whether to make a ledger where there is none.
        traces: Whether to send OpenTelemetry spans, as the standard variables OTEL_... say.
        tls: Files of the certificate and its key, both PEM; None serves without TLS.
        say: Called with each line for the terminal.
        tell: Called with the first admin's key, which no log may hold.

    Raises:
        InputError: The ledger, an eraser or a setting cannot be used, the port is taken, or the packages for traces
            are missing.
    """
    import uvicorn

    from mllmeraser.serving.http.app import create_app

    if traces:
        spans.start()
    if settings.signing_key is not None:
        load_signing_key(environment={KEY_VARIABLE: settings.signing_key})  # so that a broken key fails now
    if settings.webhook is not None:
        check_url(settings.webhook)
        key_of(settings.webhook_secret)
    if tls is not None:
        _check_tls(*tls)
    artifacts = {folder: artifact_from_folder(folder) for folder in erasers}  # a bad eraser must not make a ledger
    listening = _listening(host, port)
    try:
        book = Ledger.open(ledger, create=init)
    except BaseException:
        listening.close()
        raise
    log_as_json()
    try:
        loaded = load_model(model) if isinstance(model, str) else model
        _first_key(book, tell)
        add_erasers(book, artifacts, say)
        chosen = sets or ReferenceSets()
        fitting = Fitting(retain=chosen.retain, strangers=chosen.strangers)
        server = Server(loaded, book, fitting, settings, engine=engine, verifier=verifier_of(loaded, chosen))
        server.start()
        if chosen.samples():
            book.audit("reference-sets", by=BY, details=chosen.digests(book.salt))
        scheme = "http" if tls is None else "https"
        say(
            f"{settings.model_name} at {scheme}://{host}:{listening.getsockname()[1]}, ledger {book.shown}: "
            f"{len(book.active_set().erasers)} erasures in force (version {server.sync.version})"
        )
        config = uvicorn.Config(
            create_app(server), host=host, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=30,
            server_header=False, ws="none", limit_concurrency=CONNECTIONS,
            ssl_certfile=None if tls is None else tls[0], ssl_keyfile=None if tls is None else tls[1],
            proxy_headers=False,  # clients could else choose, by X-Forwarded-For, which address wrong keys count for
        )  # fmt: skip
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        listening.close()
        book.close()
        spans.stop()


def add_erasers(book: Ledger, artifacts: Mapping[Path, Artifact], say: Say = print) -> None:
    """Put erasers in force that are not in the ledger yet. A suspended or revoked one stays as it is.

    `artifacts` are the erasers by folder. The audit gets the digest for a name: that of a folder may be a person's.

    Raises:
        InputError: One did not pass its own calibration.
    """
    known = {entry.artifact_digest: entry for entry in sorted(book.list(), key=lambda entry: entry.state == "active")}
    for folder, artifact in artifacts.items():
        listed = known.get(artifact.digest)
        if listed is None:
            verdict = verdict_of(artifact.config)
            if not verdict.passed:
                raise InputError(
                    f"{folder} did not pass its own calibration ({verdict.missed()}): add it with mllmeraser ledger "
                    "add, and activate it by force with a reason"
                )
            entry = add(book, artifact, f"eraser-{artifact.digest[:12]}", by=BY, tenant=None, default=True)
            book.activate(entry.id, by=BY, force="given with --eraser; it passed its own calibration")
            say(f"{folder} is in the ledger as {entry.name}")
        elif listed.state != "active":
            say(f"{folder} is not put in force: in the ledger it is {listed.name}, {listed.state}")


def _listening(host: str, port: int) -> socket.socket:
    """A socket bound to the address, before the long work of loading a model."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        raise InputError(f"cannot listen at {host}:{port} ({error.strerror or error})") from None
    return found


def _check_tls(certificate: Path, key: Path) -> None:
    """Read both files, before the long work of loading a model."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"{certificate} and {key}: no certificate with its key in PEM form ({error})") from None


def verifier_of(model: MultimodalModel, sets: ReferenceSets) -> Verifier | None:
    """How requests are verified on a model; None if nothing is known about people other than the forgotten.

    `Fits` verifies requests about what is no person without it.
    """
    if sets.verification:
        return partial(verify, others=sets.verification)
    return verify if model.name.startswith(EMBEDDED) else None


def _first_key(book: Ledger, say: Say) -> None:
    secret = book.first_admin(label="first admin", by=BY)
    if secret is not None:
        say(f"the first admin's key, shown this once: {secret}")
