"""Pictures cost memory and time: how much of either one request, all together, and a strange host may take."""

from __future__ import annotations

import base64
import gzip
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hold_kit import held_up
from PIL import Image
from pydantic import ValidationError
from server_kit import NoFitter, Running, asked, png, running, wait_for

from mllmeraser.models.model import MultimodalModel
from mllmeraser.serving.engine import EngineSettings
from mllmeraser.serving.http import pictures
from mllmeraser.serving.http.erasures import erasure_request
from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.http.pictures import Held, decode, from_url, public_address
from mllmeraser.serving.http.settings import ServeSettings
from mllmeraser.serving.packing import PackingLimits
from tiny import picture

SETTINGS = ServeSettings(model_name="x", fetch_images=True)
PACKED = b"HTTP/1.1 200 OK\r\ncontent-encoding: %s\r\ncontent-length: %d\r\n\r\n%s"


def bomb(side: int = 5000) -> bytes:
    """A few kilobytes that unpack to 75 million."""
    data = io.BytesIO()
    Image.new("1", (side, side)).save(data, "PNG")
    return data.getvalue()


# -- what one request to forget may hold -------------------------------------------------------------------


def refused(files: list[bytes], questions: int = 1, **settings: int) -> Refusal:
    """How a request to forget is refused."""
    server: Any = SimpleNamespace(settings=ServeSettings(model_name="x", **settings))
    with pytest.raises(Refusal) as caught:
        erasure_request(server, "jane", [], [f"Who is this, {n}?" for n in range(questions)], files)
    return caught.value


def test_nothing_is_unpacked_of_pictures_that_are_too_large_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "decode", lambda *_: pytest.fail("a picture was unpacked"))
    small = PackingLimits().all_pixels // 5000**2
    error = refused([bomb()] * (small + 1))
    assert error.status == 413 and "275000000" in error.message
    assert refused([bomb()] * 3, max_held_pixels=50_000_000).status == 413, "they would never fit"


def test_pictures_and_questions_are_counted_before_anything_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "decode_all", lambda *_: pytest.fail("the pictures were looked at"))
    monkeypatch.setattr("mllmeraser.serving.http.erasures.decode_all", pictures.decode_all)
    limits, one = PackingLimits(), png(picture(1))
    assert refused([one] * limits.members).status == 413
    assert "20 pictures" in refused([one] * 21, questions=limits.samples // 20).message


def test_pictures_within_the_limits_are_taken() -> None:
    server: Any = SimpleNamespace(settings=SETTINGS)
    wanted = erasure_request(server, "jane", [], ["Who?", "What?"], [png(picture(1)), png(picture(2))])
    assert len(wanted.subjects[0].samples) == 4


def test_a_picture_of_zero_bytes_is_refused() -> None:
    assert "zero bytes" in refused([b""]).message


# -- what all requests together may hold -------------------------------------------------------------------


def test_a_picture_counts_until_nobody_has_it() -> None:
    held = Held()
    first: list[Image.Image] = [held.hold(600, 1000, lambda: picture(1))]
    with pytest.raises(Refusal) as caught:
        held.hold(600, 1000, lambda: pytest.fail("it was read all the same"))
    assert caught.value.status == 429 and caught.value.retry_after
    held.hold(400, 1000, lambda: picture(2))
    first.clear()
    assert held.hold(1000, 1000, lambda: picture(3))


def test_a_picture_that_is_broken_is_not_counted() -> None:
    settings = ServeSettings(model_name="x", max_image_pixels=1000, max_held_pixels=1000)
    whole = png(picture(1, (30, 30)))
    for _ in range(3):
        with pytest.raises(Refusal, match="unreadable image"):
            decode(whole[: len(whole) // 2], settings)
    assert decode(whole, settings).size == (30, 30)


def test_a_budget_that_the_largest_picture_exceeds_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match="never be read"):
        ServeSettings(model_name="x", max_image_pixels=2000, max_held_pixels=1999)


def ask(server: Running, image: Image.Image | None) -> httpx.Response:
    with server.http("client") as client:
        body = {"model": "tiny", "messages": asked("Who is this?", image), "max_tokens": 2}
        return client.post("/v1/chat/completions", json=body)


def test_a_picture_that_no_model_takes_is_the_clients_error(tiny_qwen: MultimodalModel, tmp_path: Any) -> None:
    with running(tiny_qwen, tmp_path / "l.db", NoFitter()) as server:
        answer = ask(server, Image.new("RGB", (1, 300)))
    assert answer.status_code == 400 and "retry-after" not in answer.headers
    assert "1 x 300: one side is more than 200 times the other" in answer.json()["error"]["message"]


@pytest.mark.parametrize("head", ["data:image/png;base64,", "DATA:image/PNG;BASE64,", "data:image/png;a=b;base64,"])
def test_data_urls_are_read_in_any_case_and_with_broken_lines(head: str) -> None:
    body = base64.b64encode(png(picture(1))).decode()
    lines = "\r\n ".join(body[i : i + 60] for i in range(0, len(body), 60))
    assert from_url(head + lines, SETTINGS).tobytes() == picture(1).tobytes()


def test_chats_that_wait_share_the_memory_for_pictures(tiny_llava: MultimodalModel, tmp_path: Any) -> None:
    limits = {"max_image_pixels": 1000, "max_held_pixels": 1000}
    with running(tiny_llava, tmp_path / "l.db", NoFitter(), engine=EngineSettings(max_batch=1), **limits) as server:
        waiting: list[httpx.Response] = []
        threads = [threading.Thread(target=lambda: waiting.append(ask(server, picture(1))))]
        with held_up(server):
            threads[0].start()
            wait_for(lambda: server.server.engine.status().queued == 1)
            response = ask(server, picture(2))
            assert response.status_code == 429 and int(response.headers["retry-after"]) >= 1
            threads.append(threading.Thread(target=lambda: waiting.append(ask(server, None))))
            threads[1].start()  # words alone are not concerned
            wait_for(lambda: server.server.engine.status().queued == 2)
        for thread in threads:
            thread.join()
        assert [response.status_code for response in waiting] == [200, 200]
        wait_for(lambda: ask(server, picture(2)).status_code == 200)


# -- what a strange host may do ----------------------------------------------------------------------------


@contextmanager
def host(answer: Callable[[socket.socket], None], seen: list[bytes] | None = None) -> Iterator[str]:
    """A host that answers every request with `answer`; its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                line = listener.accept()[0]
            except OSError:
                return
            with line:
                asked_for = line.recv(65536)
                if seen is not None:
                    seen.append(asked_for)
                with suppress(OSError):
                    answer(line)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://pictures.example:{listener.getsockname()[1]}/one.png"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every host is this machine, and a second is all the time there is."""
    monkeypatch.setattr(pictures, "public_address", lambda *_: "127.0.0.1")
    monkeypatch.setattr(pictures, "SECONDS", 1.0)


def whole(data: bytes, encoding: bytes = b"identity") -> Callable[[socket.socket], None]:
    return lambda line: line.sendall(PACKED % (encoding, len(data), data))


def dripping(head: bytes, drop: bytes) -> Callable[[socket.socket], None]:
    def drip(line: socket.socket) -> None:
        line.sendall(head)
        while True:  # until the other side hangs up
            line.sendall(drop)
            time.sleep(0.1)

    return drip


def test_a_picture_is_fetched_as_it_is(near: None) -> None:
    seen: list[bytes] = []
    with host(whole(png(picture(1))), seen) as url:
        assert from_url(url, SETTINGS).tobytes() == picture(1).tobytes()
    head = seen[0].lower()
    assert b"\r\naccept-encoding: identity\r\n" in head and b"\r\nhost: pictures.example:" in head


@pytest.mark.parametrize("encoding", [b"gzip, gzip", b"gzip", b"deflate"])
def test_what_is_packed_again_is_not_unpacked(near: None, encoding: bytes) -> None:
    with host(whole(gzip.compress(gzip.compress(bytes(10**7))), encoding)) as url:
        with pytest.raises(Refusal, match="content-encoding"):
            from_url(url, SETTINGS)


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"x-more: x\r\n"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", b"x"),
    ],
    ids=["headers", "body", "chunk"],
)
def test_a_host_that_drips_is_left(near: None, head: bytes, drop: bytes) -> None:
    with host(dripping(head, drop)) as url:
        with pytest.raises(Refusal, match="cannot be read"):
            from_url(url, SETTINGS)


def test_a_long_file_is_not_read_to_its_end(near: None) -> None:
    with host(whole(bytes(200_000))) as url:
        with pytest.raises(Refusal) as caught:
            from_url(url, ServeSettings(model_name="x", fetch_images=True, max_image_bytes=100_000))
    assert caught.value.status == 413


def test_a_server_fetches_too(near: None, tiny_llava: MultimodalModel, tmp_path: Any) -> None:
    with running(tiny_llava, tmp_path / "l.db", NoFitter(), fetch_images=True) as server, host(
        whole(png(picture(1)))
    ) as url, server.http("client") as client:  # fmt: skip
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Who is this?"}]
        body = {"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 2}
        fetched = client.post("/v1/chat/completions", json=body)
        assert fetched.status_code == 200, fetched.text
        assert fetched.json()["choices"] == ask(server, picture(1)).json()["choices"]


@pytest.mark.parametrize(
    "address",
    ["64:ff9b::a00:1", "64:ff9b:1::1", "::ffff:8.8.8.8", "::ffff:0:a00:1", "fec0::1", "2002:a00:1::1", "2001::1",
     "::7f00:1", "ff0e::1", "fd00::1"],
)  # fmt: skip
def test_addresses_that_may_lead_inside_are_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (address, 80))])
    with pytest.raises(Refusal, match="public internet"):
        public_address("pictures.example", 80)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111"])
def test_public_addresses_are_asked(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (address, 80))])
    assert public_address("pictures.example", 80) == address
