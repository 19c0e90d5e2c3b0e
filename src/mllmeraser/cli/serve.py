"""`mllmeraser serve` and `mllmeraser gradio`."""

from __future__ import annotations

import os
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from mllmeraser.cli.errors import fail, needs_extra
from mllmeraser.cli.ledger import DEFAULT_URL, Url
from mllmeraser.cli.options import Erasers, Load, Retain, Strangers, VerifyWith, loads_model
from mllmeraser.cli.runtime import note


@loads_model
def serve(
    load: Load,
    ledger: Url = DEFAULT_URL,
    eraser: Erasers = None,
    init: Annotated[bool, typer.Option("--init", help="Make the ledger if there is none.")] = False,
    retain: Retain = None,
    strangers: Strangers = None,
    verify_with: VerifyWith = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on.")] = 8000,
    name: Annotated[str | None, typer.Option("--name", help="Name of the model for clients. Default: MODEL.")] = None,
    engine: Annotated[str, typer.Option("--engine", hidden=True)] = "transformers",
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, help="Most answers generated together.")] = 16,
    max_queue: Annotated[int, typer.Option("--max-queue", min=1, help="Most waiting requests; more get 429.")] = 256,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Longest answer, in tokens.")] = 512,
    request_seconds: Annotated[
        float, typer.Option("--request-seconds", min=0.1, help="Time limit of a request.")
    ] = 60.0,
    rate: Annotated[int, typer.Option("--rate", min=1, help="Requests per minute and key.")] = 600,
    fetch_images: Annotated[
        bool, typer.Option("--fetch-images", help="Also fetch pictures from public http(s) addresses.")
    ] = False,
    logprobs: Annotated[
        bool, typer.Option("--logprobs", help="Give clients log-probabilities. They can reveal who was forgotten.")
    ] = False,
    origin: Annotated[
        list[str] | None, typer.Option("--origin", help="Origin of pages that may call this server (CORS); repeatable.")
    ] = None,
    open_metrics: Annotated[bool, typer.Option("--open-metrics", help="Serve /metrics without a key.")] = False,
    traces: Annotated[
        bool, typer.Option("--traces", help="Send OpenTelemetry traces, without content; see OTEL_... above.")
    ] = False,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="PEM", help="Certificate of the server, for https.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="PEM", help="Key of that certificate.")] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Serve the page at / and the API's at /docs.")] = True,
    webhook: Annotated[
        str | None,
        typer.Option("--webhook", metavar="URL", help="Tell this address of changed states of erasures, signed."),
    ] = None,
    issuer: Annotated[str, typer.Option("--issuer", help="Organisation named on certificates.")] = "",
) -> None:
    """Serve a model over an OpenAI-compatible API, with the erasures that the ledger has in force.

    The first start makes the ledger (--init) and prints an admin's key. Erasers in force apply to every request; no
    client can switch them off. The key in MLLMERASER_SIGNING_KEY, base64 or a PEM file, signs certificates (see
    mllmeraser certificate key).

    A model that is not embedded needs --retain, --strangers and --verify-with. Without them a request is fitted, and
    nothing can verify it.

    Messages to --webhook are signed with the secret in MLLMERASER_WEBHOOK_SECRET. They name ids and states, no people.

    Traces need pip install 'mllmeraser[telemetry]'. They go as OTLP over HTTP to OTEL_EXPORTER_OTLP_ENDPOINT.
    OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and OTEL_EXPORTER_OTLP_HEADERS work as usual.

    Examples:

        mllmeraser serve embedded:llava --port 8000 --init

        mllmeraser serve llava-hf/llava-1.5-7b-hf --ledger postgresql://erasure@db/ledger --eraser jane.eraser
    """
    if engine != "transformers":
        raise fail(f"unknown engine {engine!r}: the only engine is transformers", 2)
    if (tls_cert is None) != (tls_key is None):
        raise fail("--tls-cert and --tls-key belong together: give both, or none", 2)
    with needs_extra("serve"):
        from mllmeraser.api import serving

    serving.serve(
        load(),
        ledger=ledger,
        settings=serving.ServeSettings(
            model_name=name or load.name, max_tokens=max_tokens, request_seconds=request_seconds,
            requests_per_minute=rate, fetch_images=fetch_images, logprobs=logprobs, origins=tuple(origin or ()),
            open_metrics=open_metrics, page=page, issuer=issuer,
            signing_key=os.environ.get(serving.KEY_VARIABLE) or None, webhook=webhook,
            webhook_secret=os.environ.get(serving.SECRET_VARIABLE, ""),
        ),
        engine=serving.EngineSettings(max_batch=max_batch, max_queue=max_queue, max_tokens=max_tokens),
        erasers=[Path(folder) for folder in eraser or ()], init=init,
        sets=serving.ReferenceSets.read(retain, strangers, verify_with), host=host, port=port, traces=traces,
        tls=None if tls_cert is None or tls_key is None else (tls_cert, tls_key), say=note,
        tell=partial(print, flush=True),
    )  # fmt: skip


def gradio(
    key: Annotated[
        str,
        typer.Option(
            "--key",
            envvar="MLLMERASER_API_KEY",
            help="API key of the server. The variable is safer.",
            show_default=False,
        ),
    ],
    server: Annotated[
        str, typer.Option("--server", metavar="URL", help="Address of a running mllmeraser serve.")
    ] = "http://127.0.0.1:8000",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the page.")] = 7860,
) -> None:
    """Open a Gradio page for a running server: ask about a picture, before and after with an admin's key.

    Everyone who opens the page uses this key, so the page listens on this machine only.
    It needs pip install 'mllmeraser[demo]', best in its own environment.

    Examples:

        MLLMERASER_API_KEY=mk_... mllmeraser gradio --server http://127.0.0.1:8000
    """
    if find_spec("gradio") is None:
        raise fail("gradio is missing: pip install 'mllmeraser[demo]', best in its own environment", 2)
    from mllmeraser.serving.gradio_demo import Client, build, launch

    launch(build(Client(server, key)), port)
