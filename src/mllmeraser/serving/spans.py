"""OpenTelemetry spans, if the server was started with traces; otherwise nothing is imported or measured.

A span holds durations, counts, routes and kinds of errors, but no error message: it may quote a client. The provider
is private to this module, so no other library's spans are sent through it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mllmeraser.samples.errors import InputError
from mllmeraser.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.trace import Span, Tracer

NAME = "mllmeraser"
_provider: TracerProvider | None = None
_tracer: Tracer | None = None


def start(processor: SpanProcessor | None = None) -> None:
    """Make spans from now on. Raises `InputError` without the extra `telemetry`.

    Ended spans go to `processor`. By default they are sent in the background as OTLP over HTTP, to the address in the
    standard variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, ...).
    """
    global _provider, _tracer
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise InputError(f"traces need {error.name}, which is missing: pip install 'mllmeraser[telemetry]'") from error
    stop()
    ours = Resource({"service.name": NAME, "service.version": __version__})
    _provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()))
    _provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer(NAME, __version__)


def stop() -> None:
    """Send the remaining spans, and make no more."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        provider.shutdown()


def flush() -> None:
    """Send all ended spans."""
    if _provider is not None:
        _provider.force_flush()


def tracer() -> Tracer | None:
    """The tracer; None without traces."""
    return _tracer


@contextmanager
def span(name: str) -> Iterator[None]:
    """Wrap a span around a block, or, as a decorator, around every call of a function."""
    if _tracer is None:
        yield
        return
    with _tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as current:
        try:
            yield
        except BaseException as error:
            note_error(current, error)
            raise


def note_error(failed: Span, error: BaseException) -> None:
    """Mark a span as failed, with the kind of the error only."""
    from opentelemetry.trace import StatusCode

    failed.set_attribute("error.type", type(error).__name__)
    failed.set_status(StatusCode.ERROR)
