"""OpenTelemetry spans of requests and batches, if the server was started with traces.

FastAPI's own spans are switched off (`QUIET`): they hold paths, queries and error messages with clients' text.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mllmeraser.serving import spans
from mllmeraser.serving.engine import BatchReport
from mllmeraser.serving.http.middleware import method_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

QUIET: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI's setting `telemetry`; older releases have no spans and ignore it."""
NANO = 1_000_000_000


class Traced:
    """Outermost middleware: a span for every request, in the trace of the client's `traceparent` header."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        """Wrap `app`."""
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection. Log lines of the request contain the trace id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        method, headers = method_of(scope), dict(Headers(scope=scope))
        with self._tracer.start_as_current_span(
            method, TraceContextTextMapPropagator().extract(headers), SpanKind.SERVER,
            {"http.request.method": method}, record_exception=False, set_status_on_exception=False,
        ) as span:  # fmt: skip
            with structlog.contextvars.bound_contextvars(trace=f"{span.get_span_context().trace_id:032x}"):
                await self._run(scope, receive, send, span, method)

    async def _run(self, scope: Scope, receive: Receive, send: Send, span: Span, method: str) -> None:
        from opentelemetry.trace import StatusCode

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.set_attribute("http.response.status_code", message["status"])
                if message["status"] >= 500:
                    span.set_status(StatusCode.ERROR)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except BaseException as error:
            spans.note_error(span, error)
            raise
        finally:
            route = getattr(scope.get("route"), "path", "unknown")  # the pattern, without the value of `{id}`
            span.update_name(f"{method} {route}")
            span.set_attribute("http.route", route)


def trace_batch(report: BatchReport) -> None:
    """Make the spans of a batch that just ended: its own, and each request's time in the queue.

    A batch answers several requests, so it is linked with each of them and part of no request's trace. Requests that
    ended in the queue were in no batch and have no such span.
    """
    tracer = spans.tracer()
    if tracer is None:
        return
    from opentelemetry.context import Context, get_current
    from opentelemetry.trace import Link, get_current_span

    ended = time.time_ns()
    began = ended - int(report.seconds * NANO)
    parents = [context.run(get_current) for context in report.contexts]
    requests = [get_current_span(parent).get_span_context() for parent in parents]
    batch = tracer.start_span(
        "batch", Context(), links=[Link(one) for one in requests if one.is_valid], start_time=began,
        attributes={
            "mllmeraser.batch.rows": report.rows,
            "mllmeraser.batch.tokens": report.tokens,
            "mllmeraser.batch.failed": report.ends.get("failed", 0),
            "mllmeraser.set.version": report.version,
            "mllmeraser.set.erasers": report.erasers,
        },
    )  # fmt: skip
    if report.prompt_seconds is not None:
        batch.add_event("prompts read", timestamp=began + int(report.prompt_seconds * NANO))
    batch.end(ended)
    for parent, waited in zip(parents, report.waited, strict=True):
        since = began - int(waited * NANO)
        tracer.start_span("queue", parent, links=[Link(batch.get_span_context())], start_time=since).end(began)
