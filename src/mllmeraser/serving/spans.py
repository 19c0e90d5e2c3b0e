"""Spans for OpenTelemetry where a server was asked for them; elsewhere nothing is imported, and nothing measured.

A span holds durations, counts, routes and kinds of errors. No text of an error: it may repeat what somebody wrote. The
provider is this module's own, so that no other library's spans leave through it.
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
    """Make spans from now on; `stop` ends it.

    Args:
        processor: Takes the spans that ended; by default they go out in the background as OTLP over HTTP, to where the
            standard variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, ...) say.

    Raises:
        InputError: If the extra `telemetry` is not installed.
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
    """Send what is left, and make no more spans."""
    global _provider, _tracer
    found, _provider, _tracer = _provider, None, None
    if found is not None:
        found.shutdown()


def flush() -> None:
    """Send what has ended so far."""
    if _provider is not None:
        _provider.force_flush()


def tracer() -> Tracer | None:
    """What makes spans; None where nobody asked for them."""
    return _tracer


@contextmanager
def span(name: str, **attributes: int) -> Iterator[None]:
    """A span around what is done in the block, or around every call of a function that this decorates."""
    if _tracer is None:
        yield
        return
    with _tracer.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as found:
        try:
            yield
        except BaseException as error:
            note_error(found, error)
            raise


def note_error(found: Span, error: BaseException) -> None:
    """Mark a span as failed, by the kind of the error alone."""
    from opentelemetry.trace import StatusCode

    found.set_attribute("error.type", type(error).__name__)
    found.set_status(StatusCode.ERROR)
