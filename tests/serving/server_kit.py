"""A real server in this process, on a port of its own, and clients for it."""

from __future__ import annotations

import base64
import contextlib
import io
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import torch
import uvicorn
from PIL import Image
from test_identity_fit import identity_request, identity_settings

from mllmeraser.erasure import Eraser, fit
from mllmeraser.models.model import MultimodalModel
from mllmeraser.serving.engine import EngineSettings
from mllmeraser.serving.http.app import create_app
from mllmeraser.serving.http.erasures import erasure_request
from mllmeraser.serving.http.fits import Fitter, Verifier
from mllmeraser.serving.http.server import Server
from mllmeraser.serving.http.settings import ServeSettings
from mllmeraser.serving.ledger import Ledger
from mllmeraser.serving.ledger.erasers import add, artifact_of
from mllmeraser.serving.packing import pack_request
from mllmeraser.serving.verify import verify
from tiny import picture


@dataclass
class Running:
    """A server that answers.

    Attributes:
        url: Where.
        server: Its parts.
        keys: A secret for each scope, and for the tenant `acme` its admin's and its client's.
    """

    url: str
    server: Server
    keys: dict[str, str]

    def http(self, key: str | None = "admin", **options: Any) -> httpx.Client:
        """A plain client; `key` names one of `keys`."""
        headers = {} if key is None else {"authorization": f"Bearer {self.keys[key]}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=240, trust_env=False, **options)

    def openai(self, key: str = "client") -> Any:
        """The official client."""
        import openai

        client = httpx.Client(timeout=240, trust_env=False)
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.keys[key], max_retries=0, http_client=client)


def make_keys(ledger: Ledger) -> dict[str, str]:
    """A key for each scope."""
    wanted = {
        "admin": ("admin", None),
        "client": ("client", None),
        "acme-admin": ("tenant-admin", "acme"),
        "acme": ("client", "acme"),
        "other": ("client", "other"),
    }
    return {
        label: ledger.add_key(label=label, scope=scope, tenant=tenant, by="tests")[1]  # type: ignore[arg-type]
        for label, (scope, tenant) in wanted.items()
    }


@contextmanager
def running(
    model: MultimodalModel,
    ledger: str | Path,
    fitter: Fitter,
    *,
    keys: dict[str, str] | None = None,
    engine: EngineSettings | None = None,
    name: str | None = None,
    verifier: Verifier | None = verify,
    **settings: Any,
) -> Iterator[Running]:
    """Serve a model until the block ends."""
    book = Ledger.open(str(ledger))
    made = make_keys(book) if keys is None else keys
    options = {"model_name": "tiny", "requests_per_minute": 100_000, **settings}
    server = Server(model, book, fitter, ServeSettings(**options), engine=engine, name=name, verifier=verifier)
    server.start()
    port = free_port()
    config = uvicorn.Config(
        create_app(server), host="127.0.0.1", port=port, log_config=None, access_log=False, server_header=False
    )
    front = uvicorn.Server(config)
    thread = threading.Thread(target=front.run, daemon=True)
    thread.start()
    try:
        wait_for(lambda: front.started)
        yield Running(f"http://127.0.0.1:{port}", server, made)
    finally:
        front.should_exit = True
        thread.join(timeout=30)
        book.close()


def stop_rate_clock(patch: pytest.MonkeyPatch) -> None:
    """Have no time pass for rate limits, which forget a call after a minute."""
    stopped = SimpleNamespace(time=lambda now=time.time(): now)
    for module in ("limits.storage.memory", "limits.strategies", "mllmeraser.serving.http.access"):
        patch.setattr(f"{module}.time", stopped)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(condition: Any, seconds: float = 240.0, every: float | None = None) -> Any:
    """What `condition` gives once it gives something true.

    Without `every` it is asked less and less often: a busy question would slow down the work that it asks about.
    """
    pause, end = every or 0.02, time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(pause)
        pause = every or min(1.3 * pause, 0.5)
    raise AssertionError("it did not happen in time")


def png(image: Image.Image) -> bytes:
    """A picture as a PNG file."""
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def data_url(image: Image.Image) -> str:
    """A picture as a data address."""
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def asked(question: str, image: Image.Image | None = None) -> list[dict[str, Any]]:
    """Messages of one question."""
    content: list[dict[str, Any]] = [{"type": "text", "text": question}]
    if image is not None:
        content.insert(0, {"type": "image_url", "image_url": {"url": data_url(image)}})
    return [{"role": "user", "content": content}]


class NoFitter:
    """For servers that are asked to fit nothing."""

    def __call__(self, model: MultimodalModel, request: Any, progress: Any) -> Eraser:
        raise AssertionError("nothing was to be fitted")


@cache
def _fitted(model: MultimodalModel) -> Eraser:
    return fit(model, identity_request(), identity_settings(shift_layers=(model.num_layers - 1,))).eraser


def loud_eraser(model: MultimodalModel, *, fires: bool = True, direction: int = 0) -> Eraser:
    """An eraser that fires on everything (or on nothing) and changes every answer; `direction` makes others of it."""
    made = _fitted(model)
    width = model.hidden_size
    wild = 40 * torch.randn(width, generator=torch.Generator().manual_seed(direction))
    tensors = {name: wild.clone() if name.startswith("direction.") else t for name, t in made.tensors.items()}
    for name, tensor in made.tensors.items():
        if name.endswith(".offset"):
            tensors[name] = torch.full_like(tensor, 1e3 if fires else -1e3)
    return Eraser(made.config, tensors)


def install(ledger: Ledger, eraser: Eraser, name: str, *, active: bool = True, **where: Any) -> str:
    """Put an eraser into a ledger; its id."""
    where = {"tenant": None, "default": True, **where}
    entry = add(ledger, artifact_of(eraser), name, by="tests", **where)
    if active:
        ledger.activate(entry.id, by="tests", force="for a test")
    return entry.id


def left_fitted(server: Running, model: MultimodalModel, name: str, tenant: str | None = None, **change: str) -> str:
    """Put an erasure into the ledger as a server leaves it that is killed while it verifies; its id.

    Each name has tensors of its own; `change` is of the eraser's config.
    """
    book = server.server.ledger
    wanted = erasure_request(server.server, name, ["Vera Ostrander"], [], [png(picture(5))])
    entry = book.request(name, by="ann", tenant=tenant, inputs=pack_request(wanted))
    eraser = loud_eraser(model, direction=zlib.crc32(name.encode()))
    made = artifact_of(Eraser(eraser.config.model_copy(update=change), eraser.tensors))
    book.fitted(entry.id, by="fit", artifact=made.files, fingerprint=made.fingerprint, digest=made.digest)
    return entry.id


class Wire:
    """A line to a database that can be cut and mended: forwards a port to another."""

    def __init__(self, port: int) -> None:
        """Listen at a free port, `port` of this object, and forward to the given one."""
        self._target, self._open = port, True
        self._pairs: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Drop every connection, and every new one."""
        self._open = False
        for one in list(self._pairs):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let connections through again."""
        self._open = True

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            if not self._open:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            self._pairs |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            self._pairs.discard(one)
            one.close()

    def close(self) -> None:
        """End."""
        self.cut()
        self._listener.close()
