"""The FastAPI application of a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool

from mllmeraser.samples.errors import MLLMEraserError
from mllmeraser.serving import page, spans
from mllmeraser.serving.http import admin, answers, api_docs, chat, erasures, errors, responses
from mllmeraser.serving.http.access import KeyFirst
from mllmeraser.serving.http.middleware import Around
from mllmeraser.serving.http.server import Server
from mllmeraser.serving.http.traces import QUIET, Traced
from mllmeraser.version import __version__


def create_app(server: Server) -> FastAPI:
    """Build the application; it starts and stops the server."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(server.start)
        try:
            yield
        finally:
            await run_in_threadpool(server.stop)
            await run_in_threadpool(spans.flush)  # last chance: uvicorn then raises the signal again

    app = FastAPI(
        title="mllmeraser", version=__version__, lifespan=life, docs_url=None, redoc_url=None, telemetry=QUIET
    )
    app.state.server = server
    errors.install(app)
    for module in (chat, responses, erasures, admin):
        app.include_router(module.routes(server))
    _health(app, server)
    api_docs.describe(app)
    if server.settings.page:
        api_docs.install(app)
        app.mount("/page", StaticFiles(directory=page.files()), name="page")

        @app.get("/", include_in_schema=False)
        async def index() -> FileResponse:
            return FileResponse(page.files() / "index.html")

    app.add_middleware(KeyFirst, gatekeeper=server.gatekeeper)  # inside CORS, so browsers can read its refusals
    if server.settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(server.settings.origins), allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type"], expose_headers=[answers.HEADER, "x-request-id"],
        )  # fmt: skip
    app.add_middleware(Around, metrics=server.metrics, max_body_bytes=server.settings.max_body_bytes)
    if (tracer := spans.tracer()) is not None:
        app.add_middleware(Traced, tracer=tracer)
    return app


def _health(app: FastAPI, server: Server) -> None:
    @app.get("/healthz", tags=["health"])
    async def alive() -> dict[str, Any]:
        """The process runs."""
        return {"ok": True, "server": server.name, "package": __version__}

    @app.get("/readyz", tags=["health"], response_model=None)
    async def ready() -> JSONResponse:
        """Whether the server answers requests, with which eraser set, and if not, the kind of fault."""
        fault, current, status = server.sync.fault(), server.sync.current, server.engine.status()
        content = {
            "ready": fault is None,
            "reason": None if fault is None else fault.kind.value,
            "server": server.name,
            "version": server.sync.version,
            "digest": None if current is None else current.digest,
            "erasers": 0 if status.applied is None else len(status.applied.names),
            "hooks": 0 if status.applied is None else status.applied.hooks,
            "fingerprint": server.fingerprint,
            "queue": status.queued,
            "ledger_intact": server.integrity.intact,
        }
        return JSONResponse(content, 200 if fault is None else 503)

    @app.get("/metrics", tags=["health"], response_model=None)
    async def metrics(request: Request) -> Response:
        """Metrics for Prometheus; needs an admin's key unless the server was started with open metrics."""
        if not server.settings.open_metrics:
            await server.gatekeeper.admit(request, "admin")
        server.metrics.version.set(server.sync.version or 0)
        server.metrics.ready.set(server.sync.fault() is None)
        intact = server.integrity.intact
        server.metrics.intact.set(-1 if intact is None else int(intact))
        server.metrics.queue.set(server.engine.status().queued)
        with suppress(MLLMEraserError):  # without a ledger, the other metrics say so
            for state, count in (await run_in_threadpool(server.ledger.counts)).items():
                server.metrics.erasures.labels(state).set(count)
        return Response(server.metrics.text(), media_type=server.metrics.content_type)
