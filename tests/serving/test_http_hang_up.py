"""Whoever stops waiting costs nothing more, and what waited while the server failed is not answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hold_kit import held_up, noted_tickets
from server_kit import NoFitter, Running, asked, running, wait_for
from starlette.requests import ClientDisconnect

from mllmeraser.models.model import MultimodalModel
from mllmeraser.serving.engine import EngineSettings, Piece, Ticket
from mllmeraser.serving.http import answers
from mllmeraser.serving.http.chat import Chat
from mllmeraser.serving.http.dialogue import ChatRequest
from mllmeraser.serving.http.sync import Fault, Trouble

BODY = ChatRequest.model_validate({"model": "tiny", "messages": asked("Who?"), "stream": True})


@pytest.fixture(scope="module")
def server(tiny_llava: MultimodalModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("server") / "ledger.db"
    with running(tiny_llava, path, NoFitter(), engine=EngineSettings(max_batch=1)) as found:
        yield found


@pytest.mark.parametrize("stream", [False, True])
def test_who_hangs_up_in_the_queue_leaves_it(server: Running, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with held_up(server):
        tickets = noted_tickets(server, monkeypatch)
        line = HTTPConnection(httpx.URL(server.url).netloc.decode())
        body = json.dumps({"model": "tiny", "messages": asked("Who?"), "stream": stream})
        headers = {"authorization": f"Bearer {server.keys['client']}", "content-type": "application/json"}
        line.request("POST", "/v1/chat/completions", body, headers)
        wait_for(lambda: tickets)
        line.close()
        wait_for(lambda: tickets[0].done)
    assert tickets[0].cancelled


async def streamed(ticket: Ticket) -> Any:
    async def here() -> bool:
        return False

    request: Any = SimpleNamespace(is_disconnected=here)
    return await answers.stream(Chat(BODY, [ticket]), [ticket], request)


def test_a_stream_that_is_cancelled_cancels_its_tickets() -> None:
    async def main() -> None:
        ticket = Ticket()
        task = asyncio.ensure_future(streamed(ticket))
        while not ticket._wakers:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ticket.cancelled and ticket.done

    asyncio.run(main())


def test_a_stream_of_which_nothing_can_be_sent_cancels_its_tickets() -> None:
    async def main() -> None:
        ticket = Ticket()
        assert ticket.begin(1, frozenset())
        ticket.push(Piece("Hi", None, None, 1))
        response = await streamed(ticket)
        assert response.headers[answers.HEADER] == "1" and not ticket.cancelled

        async def send(_: Any) -> None:
            raise OSError("the client is gone")

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        with pytest.raises(ClientDisconnect):
            await response({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)
        assert ticket.cancelled

    asyncio.run(main())


def test_nothing_is_compared_when_the_server_fails_meanwhile(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.server, "check_ready", lambda: None)  # all was well when the request came
    monkeypatch.setattr(server.server.sync, "fault", lambda: Fault(Trouble.LEDGER_AWAY, "the ledger is away"))
    with server.http() as client:
        response = client.post("/v1/compare", json={"messages": asked("Who?"), "max_tokens": 2})
        assert response.status_code == 503 and "the ledger is away" in response.text
        assert client.post("/v1/chat/completions", json={"model": "tiny", "messages": asked("Who?")}).status_code == 503
