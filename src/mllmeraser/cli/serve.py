"""`mllmeraser serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.ledger_common import DEFAULT_URL, Url
from mllmeraser.cli.loading import Load, loads_model
from mllmeraser.cli.options import Erasers, Model, Threads


@loads_model
def serve(
    load: Load,
    model: Model,
    ledger: Url = DEFAULT_URL,
    eraser: Erasers = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen at.")] = 8000,
    name: Annotated[
        str | None, typer.Option("--name", help="Name under which the model is served. Default: MODEL.")
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="transformers.")] = "transformers",
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, help="Answers made together at most.")] = 16,
    max_queue: Annotated[int, typer.Option("--max-queue", min=1, help="Requests that may wait; more get 429.")] = 256,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Longest answer, in tokens.")] = 512,
    request_seconds: Annotated[
        float, typer.Option("--request-seconds", min=0.1, help="Time a request may take.")
    ] = 60.0,
    rate: Annotated[int, typer.Option("--rate", min=1, help="Requests per minute of one key.")] = 600,
    fetch_images: Annotated[
        bool, typer.Option("--fetch-images", help="Also take pictures from public http(s) addresses.")
    ] = False,
    logprobs: Annotated[
        bool,
        typer.Option("--logprobs", help="Show log-probabilities to clients: they can tell who was deleted."),
    ] = False,
    origin: Annotated[
        list[str] | None, typer.Option("--origin", help="Origin whose pages may call this server (CORS).")
    ] = None,
    open_metrics: Annotated[bool, typer.Option("--open-metrics", help="/metrics without a key.")] = False,
    traces: Annotated[
        bool, typer.Option("--traces", help="Send OpenTelemetry traces, without any content; see OTEL_... below.")
    ] = False,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Serve the page at /.")] = True,
    issuer: Annotated[str, typer.Option("--issuer", help="Organisation that stands on certificates.")] = "",
    threads: Threads = None,
) -> None:
    """Serve a model, OpenAI-compatible, that forgets what the ledger says.

    The first start prints an admin's key. Erasers in force apply to every request; no client can switch them off.
    Certificates are signed with the key in MLLMERASER_SIGNING_KEY (see mllmeraser certificate key).
    Traces (pip install 'mllmeraser[telemetry]') go as OTLP over HTTP to OTEL_EXPORTER_OTLP_ENDPOINT; the other standard
    variables hold as well: OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS.

    Examples:

        mllmeraser serve embedded:llava --port 8000

        mllmeraser serve llava-hf/llava-1.5-7b-hf --ledger postgresql://erasure@db/ledger --eraser jane.eraser
    """
    from mllmeraser.cli.errors import fail
    from mllmeraser.cli.runtime import note, prepare

    if engine != "transformers":
        raise fail(f"unknown engine {engine!r}: transformers is the one there is", 2)
    prepare(model, threads, 0)
    try:
        from mllmeraser.api import serving
    except ModuleNotFoundError as error:
        raise fail(f"{error.name} is missing: pip install 'mllmeraser[serve]'", 2) from None

    serving.serve(
        load(model),
        ledger=ledger,
        settings=serving.ServeSettings(
            model_name=name or model, max_tokens=max_tokens, request_seconds=request_seconds,
            requests_per_minute=rate, fetch_images=fetch_images, logprobs=logprobs, origins=tuple(origin or ()),
            open_metrics=open_metrics, page=page, issuer=issuer,
            signing_key=os.environ.get(serving.KEY_VARIABLE) or None,
        ),
        engine=serving.EngineSettings(max_batch=max_batch, max_queue=max_queue, max_tokens=max_tokens),
        erasers=[Path(folder) for folder in eraser or ()],
        host=host,
        port=port,
        traces=traces,
        say=note,
    )  # fmt: skip
