"""What operators found: who is ready, what is in force, which records were changed, and who may be first."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_kit import opened, raw
from server_kit import NoFitter, Running, asked, install, loud_eraser, running, wait_for
from typer.testing import CliRunner

from mllmeraser.cli.app import app
from mllmeraser.models.model import MultimodalModel
from mllmeraser.serving.http.integrity import Integrity
from mllmeraser.serving.ledger import Ledger

pytest_plugins = ["postgres_kit"]


@pytest.fixture(scope="module")
def server(tiny_llava: MultimodalModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("operators") / "ledger.db"
    with running(tiny_llava, path, NoFitter()) as found:
        yield found


def test_what_is_in_force_is_said_as_it_is(server: Running, tiny_llava: MultimodalModel) -> None:
    id = install(server.server.ledger, loud_eraser(tiny_llava), "said", active=False)
    with server.http() as client:
        at = f"/v1/erasures/{id}"
        for verb, body, acts in (
            ("activate", {"force": "x"}, True), ("suspend", {"reason": "x"}, False), ("activate", {"force": "x"}, True),
            ("revoke", {"reason": "x"}, False),
        ):  # fmt: skip
            assert client.post(f"{at}/{verb}", json=body).json()["in_force"] is acts, verb
        later = install(server.server.ledger, loud_eraser(tiny_llava, direction=1), "later", active=False)
        client.post(f"/v1/erasures/{later}/schedule", json={"starts_at": "2090-01-01T00:00:00Z"})
        waiting = client.post(f"/v1/erasures/{later}/activate", json={"force": "x"}).json()
        assert (waiting["in_force"], waiting["state"], waiting["pending"]) == (False, "fitted", True)
        assert client.get(f"/v1/erasures/{later}").json()["pending"] is True
        client.post(f"/v1/erasures/{later}/schedule", json={})
        assert client.get(f"/v1/erasures/{later}").json()["pending"] is False


def test_one_model_is_found_by_its_name(server: Running) -> None:
    with server.http("client") as client:
        assert client.get("/v1/models/tiny").json() == client.get("/v1/models").json()["data"][0]
        assert client.get("/v1/models/other").status_code == 404
    assert server.openai().models.retrieve("tiny").id == "tiny"


def test_chunks_have_no_usage_until_the_last(server: Running) -> None:
    body = {"model": "tiny", "messages": asked("Who?"), "max_tokens": 3, "stream": True}
    with server.http("client") as client:
        for options, usages in ((None, {()}), ({"include_usage": True}, {("usage",)})):
            text = client.post("/v1/chat/completions", json={**body, "stream_options": options}).text
            chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
            assert {tuple(key for key in chunk if key == "usage") for chunk in chunks} == usages
            counted = [chunk["usage"] for chunk in chunks if chunk.get("usage") is not None]
            assert len(counted) == (0 if options is None else 1)


def test_a_stopped_server_is_not_shown_as_ready(tiny_llava: MultimodalModel, tmp_path: Path) -> None:
    with running(tiny_llava, tmp_path / "l.db", NoFitter(), name="one"):
        with Ledger.open(str(tmp_path / "l.db")) as book:
            wait_for(lambda: [s.ready for s in book.servers()] == [True])
    with Ledger.open(str(tmp_path / "l.db")) as book:
        assert [server.ready for server in book.servers()] == [False]


def test_tampering_shows_in_the_metrics_and_in_readyz(server: Running, tiny_llava: MultimodalModel) -> None:
    with server.http() as client:
        wait_for(lambda: client.get("/readyz").json()["ledger_intact"] is True)
        assert "mllmeraser_ledger_intact 1.0" in client.get("/metrics").text
        server.server.integrity.intact = False
        assert client.get("/readyz").json()["ledger_intact"] is False
        assert "mllmeraser_ledger_intact 0.0" in client.get("/metrics").text
        assert server.server.integrity.check() is True


def test_a_changed_record_is_found_while_the_server_runs(database_url: str) -> None:
    with opened(database_url) as book:
        book.request("case", by="ann")
        integrity = Integrity(book, seconds=0.1)
        integrity.start()
        wait_for(lambda: integrity.intact is True)
        with raw(database_url) as run:
            run("UPDATE ledger_entries SET requested_by = 'bob'")
        wait_for(lambda: integrity.intact is False)
        integrity.stop()


def test_of_servers_that_start_together_one_makes_the_first_key(database_url: str) -> None:
    with opened(database_url) as book, opened(database_url) as other:
        found: list[str | None] = []
        start = threading.Barrier(6)

        def first(ledger: Ledger) -> None:
            start.wait()
            found.append(ledger.first_admin(label="first admin", by="start"))

        threads = [threading.Thread(target=first, args=(ledger,)) for ledger in (book, other) * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len([secret for secret in found if secret]) == 1 and len(book.keys()) == 1


def test_a_busy_port_is_found_before_the_model_is_loaded(tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        command = ["serve", "nobody/nothing", "--port", str(port), "--init", "--ledger", str(tmp_path / "l.db")]
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 and f"cannot listen at 127.0.0.1:{port}" in result.stderr
    assert not (tmp_path / "l.db").exists()


def test_a_wrong_ledger_is_named_and_not_made(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["serve", "nobody/nothing", "--port", "0", "--ledger", str(tmp_path / "l.db")])
    assert result.exit_code == 2 and re.search(r"l\.db: there is no ledger; .*--init", result.stderr)
    assert not (tmp_path / "l.db").exists()


@pytest.mark.parametrize("files", [["--tls-cert", "a.pem"], ["--tls-cert", "a.pem", "--tls-key", "b.pem"]])
def test_half_or_wrong_tls_is_found_before_the_model_is_loaded(files: list[str]) -> None:
    result = CliRunner().invoke(app, ["serve", "nobody/nothing", "--init", *files])
    assert result.exit_code == 2
    assert ("belong together" if len(files) == 2 else "no certificate with its key") in result.stderr
