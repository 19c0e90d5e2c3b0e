"""Who is told what: of other tenants' erasures, and of what is wrong, only admins learn more than that."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import structlog
from server_kit import NoFitter, Running, asked, install, loud_eraser, png, running, wait_for

from mllmeraser.models.model import MultimodalModel
from mllmeraser.serving.http.errors import LEDGER_FAILED, NOT_NOW, TAKEN, Refusal, noted
from mllmeraser.serving.http.server import RECORDED, Server
from mllmeraser.serving.http.settings import ServeSettings
from mllmeraser.serving.http.sync import Fault, Trouble
from mllmeraser.serving.ledger import Ledger, LedgerError
from tiny import picture

SECRET_LABEL = "globex-ceo"
BODY = {"model": "tiny", "messages": asked("Who?"), "max_tokens": 4}
DOWN = "the ledger's database cannot be reached: postgresql://u:***@10.0.0.3/l?password=hunter2&x=1 (port 5432)"


@pytest.fixture(scope="module")
def server(tiny_llava: MultimodalModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("told") / "ledger.db"
    with Ledger.open(str(path)) as book:
        install(book, loud_eraser(tiny_llava, direction=1), SECRET_LABEL, tenant="globex", active=False)
        install(book, loud_eraser(tiny_llava, direction=2), "for-everybody", active=False)
    with running(tiny_llava, path, NoFitter()) as found:
        yield found


def error_of(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    return str(response.json()["error"]["message"])


# -- other tenants' erasures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["acme-admin", "admin"])
def test_what_is_another_tenants_looks_like_nothing(server, key):
    names = [SECRET_LABEL, "for-everybody", "nobodys", "No Label", "0" * 32]
    with server.http(key) as client:
        found = {name: client.get(f"/v1/erasures/{name}") for name in names}
        refused = [response for response in found.values() if response.status_code != 200]
    assert len(refused) == (5 if key == "acme-admin" else 3)
    assert {response.status_code for response in refused} == {404}
    assert len({response.text for response in refused}) == 1


def test_a_label_that_another_tenant_has_cannot_be_used_and_nothing_more_is_told(server):
    own = install_own(server, "acme-own")
    asks = {"person": "Vera Ostrander"}
    files = [("images", ("1.png", png(picture(5)), "image/png"))]
    with server.http("acme-admin") as client:
        told = {error_of(client.post("/v1/erasures", data={**asks, "name": name}, files=files), 409)
                for name in (SECRET_LABEL, "for-everybody", "acme-own")}  # fmt: skip
    assert told == {TAKEN}
    with server.http() as client:
        assert SECRET_LABEL in error_of(
            client.post("/v1/erasures", data={**asks, "name": SECRET_LABEL}, files=files), 409
        )
    server.server.ledger.revoke(own, by="tests", reason="done")


def install_own(server: Running, name: str, **digests: str) -> str:
    return server.server.ledger.request(name, by="ann", tenant="acme", digests=digests).id


def test_conflicts_of_a_tenant_are_with_its_own_alone(server):
    book, same = server.server.ledger, {"subjects": "0123456789abcdef"}
    everybodys = book.request("same-for-everybody", by="ann", digests=same).id
    mine = [install_own(server, "same-first", **same), install_own(server, "same-second", **same)]

    def conflicts(key: str) -> list[str]:
        with server.http(key) as client:
            return list(client.get(f"/v1/erasures/{mine[1]}").json()["conflicts"])

    assert conflicts("acme-admin") == ["same-first (requested) was requested for the same people"]
    assert conflicts("admin") == [
        "same-for-everybody (requested) was requested for the same people",
        "same-first (requested) was requested for the same people",
    ]
    for id in (everybodys, *mine):
        book.revoke(id, by="tests", reason="done")


# -- what is wrong -------------------------------------------------------------------------------------------


def chat(server: Running, key: str) -> httpx.Response:
    with server.http(key) as client:
        return client.post("/v1/chat/completions", json=BODY)


def reason_of(server: Running) -> str | None:
    with server.http(None) as client:
        return client.get("/readyz").json()["reason"]  # type: ignore[no-any-return]


def test_a_server_that_has_not_begun(tiny_llava, tmp_path):
    with Ledger.open(str(tmp_path / "l.db")) as book:
        waiting = Server(tiny_llava, book, NoFitter(), ServeSettings(model_name="tiny"))
        with pytest.raises(Refusal) as refused:
            waiting.check_ready()
    assert (refused.value.status, refused.value.message) == (503, f"{NOT_NOW}: {Trouble.STARTING.value}")


def test_erasers_that_cannot_be_put_into_force(tiny_llava, tiny_qwen, tmp_path):
    path = str(tmp_path / "l.db")
    with running(tiny_llava, path, NoFitter()) as found, Ledger.open(path) as other:
        assert reason_of(found) is None
        install(other, loud_eraser(tiny_qwen), SECRET_LABEL)
        wait_for(lambda: reason_of(found))
        assert reason_of(found) == Trouble.NOT_IN_FORCE.value
        for key in ("client", "acme-admin"):
            assert error_of(chat(found, key), 503) == f"{NOT_NOW}: {Trouble.NOT_IN_FORCE.value}"
        assert "another model" in error_of(chat(found, "admin"), 503)
        with found.http() as client:
            assert "another model" in client.get("/v1/servers").json()["fault"]


def test_a_ledger_that_is_away(tiny_llava, tmp_path):
    path = tmp_path / "l.db"
    with running(tiny_llava, path, NoFitter(), poll_seconds=0.1) as found:
        assert chat(found, "client").status_code == 200
        found.server.ledger.close()
        found.server.sync._stale = 0.1  # much later
        wait_for(lambda: reason_of(found))
        assert reason_of(found) == Trouble.LEDGER_AWAY.value
        assert error_of(chat(found, "client"), 503) == f"{NOT_NOW}: {Trouble.LEDGER_AWAY.value}"
        with structlog.testing.capture_logs() as logs:
            assert error_of(chat(found, "other"), 503) == LEDGER_FAILED, "its key cannot be looked up"
        assert "closed" in next(entry["reason"] for entry in logs if entry["event"] == "unavailable")


def test_an_engine_that_closed_itself(server, monkeypatch):
    why = f"version 3 is not seen to act: could not attach {SECRET_LABEL}"
    status = server.server.engine.status
    monkeypatch.setattr(server.server.engine, "status", lambda: status()._replace(closed=why))
    with structlog.testing.capture_logs() as logs:
        assert reason_of(server) == Trouble.ENGINE_CLOSED.value
        assert error_of(chat(server, "client"), 503) == f"{NOT_NOW}: {Trouble.ENGINE_CLOSED.value}"
        assert error_of(chat(server, "admin"), 503) == f"{NOT_NOW}: {why}"
    assert [why in entry["reason"] for entry in logs if entry["event"] == "unavailable"] == [True, True]


def test_a_change_that_cannot_be_put_into_force(server, tiny_llava, monkeypatch):
    book = server.server.ledger
    ids = [
        install(book, loud_eraser(tiny_llava, direction=n), f"late-{n}", tenant="acme", active=False) for n in (4, 5)
    ]
    why = f"the erasers of version 9 cannot be put into force: could not attach {SECRET_LABEL}"

    def update() -> int:
        raise LedgerError(why)

    with monkeypatch.context() as patched:
        patched.setattr(server.server.sync, "update", update)
        patched.setattr(server.server.sync, "fault", lambda: Fault(Trouble.NOT_IN_FORCE, why))
        told = []
        for key, id in zip(("acme-admin", "admin"), ids, strict=True):
            with server.http(key) as client:
                told.append(error_of(client.post(f"/v1/erasures/{id}/activate", json={"force": "x"}), 503))
    assert told == [RECORDED, f"{RECORDED}: {why}"]
    for id in ids:
        book.revoke(id, by="tests", reason="done")


def test_what_an_error_says_is_for_admins():
    """Whoever raises a 503 without a phrase of its own, such as an answer that fails in its stream, quotes an error."""
    refusal = Refusal(503, f"could not attach {SECRET_LABEL}", "not_ready")
    assert (refusal.message, refusal.details) == (NOT_NOW, f"could not attach {SECRET_LABEL}")


def test_where_the_database_is_only_admins_and_the_log_are_told(server, monkeypatch):
    def away(*_: object) -> None:
        raise LedgerError(DOWN)

    book = server.server.ledger
    with server.http() as client:
        assert client.get("/v1/servers").status_code == 200
        monkeypatch.setattr(book, "claimed_key", away)
        monkeypatch.setattr(book, "servers", away)
        with structlog.testing.capture_logs() as logs:
            bogus = client.get("/v1/models", headers={"authorization": "Bearer mk_bogus"})
            told = error_of(client.get("/v1/servers"), 503)
    assert error_of(bogus, 503) == LEDGER_FAILED
    logged = [entry["reason"] for entry in logs if entry["event"] == "unavailable"]
    assert logged == [told, told] and "10.0.0.3" in told and "hunter2" not in told and "x=1" in told


def test_what_ends_a_stream_is_logged_in_full() -> None:
    """Clients are told a phrase; whoever runs the server has to know more."""
    with structlog.testing.capture_logs() as logs:
        assert noted(Refusal(503, "could not attach case-17 (password=secret)"), "chatcmpl-1") is not None
        assert noted(Refusal(400, "nothing is asked"), "chatcmpl-2") is None
    (line,) = logs
    assert (line["id"], line["reason"]) == ("chatcmpl-1", "could not attach case-17 (password=***")
