"""What a server tells of requests and batches as OpenTelemetry spans, where it was started with traces.

FastAPI's own spans are switched off (`QUIET`): they hold paths, queries and messages of errors as clients wrote them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mllmeraser.serving import spans
from mllmeraser.serving.engine import BatchReport
from mllmeraser.serving.http.middleware import method_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

QUIET: Any = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI's setting `telemetry`; older releases, which have no spans of their own, take no notice of it."""
NANO = 1_000_000_000


class Traced:
    """Outermost middleware: a span for every request, in the trace that the client's `traceparent` names."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        """Around `app`."""
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection. Log lines written meanwhile bear the id of the trace."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        method = method_of(scope)
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        with self._tracer.start_as_current_span(
            method, TraceContextTextMapPropagator().extract(headers), SpanKind.SERVER,
            {"http.request.method": method}, record_exception=False, set_status_on_exception=False,
        ) as span:  # fmt: skip
            with structlog.contextvars.bound_contextvars(trace=f"{span.get_span_context().trace_id:032x}"):
                await self._run(scope, receive, send, span, method)

    async def _run(self, scope: Scope, receive: Receive, send: Send, span: Span, method: str) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                _note_status(span, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, told)
        except BaseException as error:
            spans.note_error(span, error)
            raise
        finally:
            route = getattr(scope.get("route"), "path", "unknown")  # its pattern, without what stands for `{id}`
            span.update_name(f"{method} {route}")
            span.set_attribute("http.route", route)


def _note_status(span: Span, status: int) -> None:
    from opentelemetry.trace import StatusCode

    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)


def trace_batch(report: BatchReport) -> None:
    """Spans of a batch that has just ended: its own, and for each of its requests the time in the queue.

    A batch is part of no request's trace, for it answers several: it is linked with each of them. Requests that ended
    while they waited came into no batch and have no such span.
    """
    tracer = spans.tracer()
    if tracer is None:
        return
    from opentelemetry.context import Context, get_current
    from opentelemetry.trace import Link, get_current_span

    ended = time.time_ns()
    began = ended - int(report.seconds * NANO)
    parents = [context.run(get_current) for context in report.contexts]
    asked = [get_current_span(parent).get_span_context() for parent in parents]
    batch = tracer.start_span(
        "batch", Context(), links=[Link(one) for one in asked if one.is_valid], start_time=began,
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
