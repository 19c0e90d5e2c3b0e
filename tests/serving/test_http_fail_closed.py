"""Never an unsteered answer: whatever is missing, damaged or out of reach, the server says so instead."""

from __future__ import annotations

import sqlite3
import threading

import pytest
from server_kit import NoFitter, Wire, asked, install, loud_eraser, make_keys, running, wait_for

from mllmeraser.models.model import sibling
from mllmeraser.samples.errors import MLLMEraserError
from mllmeraser.serving.ledger import Ledger, LedgerError

pytest_plugins = ["postgres_kit"]
BODY = {"model": "tiny", "messages": asked("Who?"), "max_tokens": 6}


def damaged(path, statement: str) -> None:  # type: ignore[no-untyped-def]
    """Change the ledger behind its back."""
    with sqlite3.connect(path) as connection:
        triggers = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        for name in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(statement).rowcount > 0
    connection.close()


@pytest.mark.parametrize(
    "statement",
    ["UPDATE ledger_artifacts SET data = x'00'", "DELETE FROM ledger_artifacts"],
    ids=["corrupt", "missing"],
)
def test_a_server_whose_eraser_is_damaged_does_not_start(tiny_llava, tmp_path, statement):
    path = tmp_path / "l.db"
    with Ledger.open(str(path)) as book:
        install(book, loud_eraser(tiny_llava), "one")
    damaged(path, statement)
    with pytest.raises(MLLMEraserError):
        with running(tiny_llava, path, NoFitter()):
            raise AssertionError("it started")


def test_an_eraser_of_another_model_does_not_start_either(tiny_llava, tiny_qwen, tmp_path):
    with Ledger.open(str(tmp_path / "l.db")) as book:
        install(book, loud_eraser(tiny_llava), "one")
    with pytest.raises(MLLMEraserError, match="another model"):
        with running(tiny_qwen, tmp_path / "l.db", NoFitter()):
            raise AssertionError("it started")


@pytest.mark.parametrize("call", ["claim_messages", "audit"])
def test_a_start_that_the_ledger_cuts_off_leaves_nothing_running(tiny_llava, tmp_path, monkeypatch, call):
    def away(*_, **options):
        raise LedgerError("the ledger is away")

    monkeypatch.setattr(Ledger, call, away)
    before = set(threading.enumerate())
    with pytest.raises(LedgerError, match="is away"):
        options = {"webhook": "http://127.0.0.1:9/", "webhook_secret": "a secret of the operator"}
        with running(tiny_llava, tmp_path / "l.db", NoFitter(), **options):
            raise AssertionError("it started")
    wait_for(lambda: set(threading.enumerate()) <= before, seconds=30)


def test_an_eraser_of_another_model_cannot_be_activated(tiny_llava, tiny_qwen, tmp_path):
    path = tmp_path / "l.db"
    with running(tiny_llava, path, NoFitter()) as found, found.http() as client:
        id = install(found.server.ledger, loud_eraser(tiny_qwen), "wrong", active=False)
        response = client.post(f"/v1/erasures/{id}/activate", json={"force": "x"})
        assert response.status_code == 400 and "another model" in response.text
        assert client.post("/v1/chat/completions", json=BODY).status_code == 200


def test_what_another_process_activates_and_cannot_be_applied_closes_the_server(tiny_llava, tiny_qwen, tmp_path):
    path = tmp_path / "l.db"
    with running(tiny_llava, path, NoFitter()) as found, found.http() as client, Ledger.open(str(path)) as other:
        assert client.post("/v1/chat/completions", json=BODY).status_code == 200
        id = install(other, loud_eraser(tiny_qwen), "wrong")
        wait_for(lambda: client.get("/readyz").status_code == 503)
        response = client.post("/v1/chat/completions", json=BODY)
        assert response.status_code == 503 and "choices" not in response.text
        other.revoke(id, by="tests", reason="it closed the server")
        wait_for(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/v1/chat/completions", json=BODY).status_code == 200


def test_without_its_ledger_the_server_answers_nothing(tiny_llava, postgres_cluster):
    url = postgres_cluster.create()
    wire = Wire(postgres_cluster.port)
    through = url.replace(f":{postgres_cluster.port}/", f":{wire.port}/")
    try:
        with running(tiny_llava, through, NoFitter(), stale_seconds=60.0, poll_seconds=0.1) as found:
            with found.http() as client:
                install(found.server.ledger, loud_eraser(tiny_llava), "one")
                wait_for(lambda: client.get("/readyz").json()["erasers"] == 1)
                steered = client.post("/v1/chat/completions", json=BODY).json()["choices"]
                wire.cut()
                sync = found.server.sync
                sync._stale = 0.1  # a minute passes
                wait_for(lambda: client.get("/readyz").status_code == 503)
                response = client.post("/v1/chat/completions", json=BODY)
                assert response.status_code == 503 and "choices" not in response.text, response.text
                assert client.get("/healthz").status_code == 200
                seen, sync._stale = sync._seen, 60.0
                wire.mend()
                wait_for(lambda: sync._seen > seen)
                wait_for(lambda: client.get("/readyz").status_code == 200)
                assert client.post("/v1/chat/completions", json=BODY).json()["choices"] == steered
    finally:
        wire.close()


def test_hooks_that_vanish_close_the_server(tiny_llava, tmp_path):
    with Ledger.open(str(tmp_path / "l.db")) as book:
        install(book, loud_eraser(tiny_llava), "one")
    with running(tiny_llava, tmp_path / "l.db", NoFitter()) as found, found.http() as client:
        assert client.post("/v1/chat/completions", json=BODY).status_code == 200
        for block in tiny_llava.layers:
            block._forward_hooks.clear()
        codes = {client.post("/v1/chat/completions", json=BODY).status_code for _ in range(3)}
        assert codes <= {500, 503}


def test_a_change_is_in_force_with_its_answer(tiny_llava, tmp_path):
    """The admin's call returns when no batch of before is left; the next answer carries the version it named."""
    with running(tiny_llava, tmp_path / "l.db", NoFitter()) as found, found.http() as client:
        bare = client.post("/v1/chat/completions", json=BODY).json()["choices"][0]["message"]["content"]
        id = install(found.server.ledger, loud_eraser(tiny_llava), "one", active=False)
        for _ in range(3):
            version = client.post(f"/v1/erasures/{id}/activate", json={"force": "x"}).json()["version"]
            response = client.post("/v1/chat/completions", json=BODY)
            assert int(response.headers["x-eraser-set"]) == version
            assert response.json()["choices"][0]["message"]["content"] != bare
            version = client.post(f"/v1/erasures/{id}/suspend", json={"reason": "x"}).json()["version"]
            response = client.post("/v1/chat/completions", json=BODY)
            assert int(response.headers["x-eraser-set"]) == version
            assert response.json()["choices"][0]["message"]["content"] == bare


def test_two_servers_on_one_ledger_follow_each_other(tiny_llava, tiny_qwen, tmp_path):
    path = str(tmp_path / "l.db")
    with Ledger.open(path) as book:
        keys = make_keys(book)
    second_model = sibling(tiny_llava)
    with running(tiny_llava, path, NoFitter(), keys=keys, name="one") as one:
        with running(second_model, path, NoFitter(), keys=keys, name="two") as two:
            id = install(one.server.ledger, loud_eraser(tiny_llava), "case", active=False)
            with one.http() as first, two.http() as second:
                version = first.post(f"/v1/erasures/{id}/activate", json={"force": "x"}).json()["version"]
                wait_for(lambda: second.get("/readyz").json()["version"] == version)
                answers = [c.post("/v1/chat/completions", json=BODY).json() for c in (first, second)]
                assert answers[0]["choices"] == answers[1]["choices"]
                seen = lambda: {r["server"]: r["version"] for r in first.get("/v1/servers").json()["data"]}  # noqa: E731
                wait_for(lambda: seen() == {"one": version, "two": version})
                ready = [client.get("/readyz").json() for client in (first, second)]
                assert ready[0]["digest"] == ready[1]["digest"]
