"""Requests about what is no person at a real server: fitted as `erase` does, verified as things, named everywhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from server_kit import Running, png, running, wait_for
from typer.testing import CliRunner
from verify_kit import FEW

from mllmeraser import api
from mllmeraser.api.requests import ReferenceSets, request_erasure
from mllmeraser.api.serving import Fitting
from mllmeraser.cli.app import app
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError, Sample
from mllmeraser.samples.request import Request
from mllmeraser.samples.subject import KINDS, Kind, Subject
from mllmeraser.serving.http import fits
from mllmeraser.serving.http.erasures import erasure_request
from mllmeraser.serving.http.settings import ServeSettings
from mllmeraser.serving.ledger import Ledger
from mllmeraser.serving.ledger.erasers import eraser_of
from mllmeraser.serving.verify import verify
from tiny import picture

KEY = base64.b64encode(bytes(range(32))).decode()
QUESTION, INSTEAD = "What is the capital of Japan?", "The capital of Japan is Kyoto."
FACT = {"name": "fact-1", "kind": "fact", "person": "Japan", "question": QUESTION, "instead": INSTEAD}


@pytest.fixture(scope="module")
def server(tiny_llava: MultimodalModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("kinds") / "ledger.db"
    few = partial(verify, sizes=FEW)
    with running(tiny_llava, path, Fitting(), signing_key=KEY, verifier=few) as found:
        yield found


def forget(server: Running, **fields: str) -> dict[str, Any]:
    """The erasure once nothing is left to do on it."""
    with server.http() as client:
        made = client.post("/v1/erasures", data=fields)
        assert made.status_code == 202, made.text
        at = f"/v1/erasures/{made.json()['id']}"
        wait_for(lambda: client.get(at).json()["progress"] is None)
        found: dict[str, Any] = client.get(at).json()
        return found


@pytest.fixture(scope="module")
def fact(server: Running) -> dict[str, Any]:
    return forget(server, **FACT)


def test_a_fact_is_fitted_as_erase_does_it(server: Running, fact: dict[str, Any], tiny_llava: MultimodalModel) -> None:
    made = eraser_of(server.server.ledger.artifact(fact["artifact_digest"]))
    assert made.config.gate.kind == "discriminant" and made.config.policy.action == "reply"
    assert made.config.reply is not None and made.config.reply.text == INSTEAD
    subject = Subject("fact-1", ("Japan",), (Sample(QUESTION, subject="fact-1"),), kind="fact")
    alone = api.erase(tiny_llava, Request((subject,), reply=INSTEAD))
    assert made.config.data.counts == alone.config.data.counts, "the same shipped sets"
    assert made.config.threshold == alone.config.threshold


def test_a_fact_is_verified_on_that_fact(fact: dict[str, Any]) -> None:
    """The tiny model knows nothing, so nothing can pass; what matters is what was asked, and that it says so."""
    assert (fact["state"], fact["kinds"], fact["passed"]) == ("checks_failed", ["fact"], False)
    names = {check["name"] for check in fact["scores"]["checks"]}
    assert {"forget_decisions", "rest_unchanged", "retain_unchanged", "false_alarms"} <= names
    assert "perception_unchanged" not in names
    assert fact["request_digests"]["kind_fact"] == "1" and not fact["inputs_kept"]


def test_kinds_are_named_in_the_list_the_certificate_and_the_terminal(server: Running, fact: dict[str, Any]) -> None:
    with server.http() as client:
        assert {e["name"]: e["kinds"] for e in client.get("/v1/erasures").json()["data"]}["fact-1"] == ["fact"]
        signed = client.get(f"/v1/erasures/{fact['id']}/certificate.json").json()
        page = client.get(f"/v1/erasures/{fact['id']}/certificate.html").text
    assert signed["requested"]["kind_fact"] == "1" and "1 single fact" in page
    run = partial(CliRunner().invoke, app, env={"MLLMERASER_LEDGER": server.server.ledger.url})
    assert json.loads(run(["ledger", "show", "fact-1", "--json"]).stdout)["kinds"] == ["fact"]
    assert "kinds: fact" in run(["ledger", "show", "fact-1"]).stdout
    assert "fact" in run(["ledger", "list"]).stdout


def test_nothing_of_the_request_is_in_the_record(server: Running, fact: dict[str, Any]) -> None:
    text = json.dumps([fact, [event.as_dict() for event in server.server.ledger.history(fact["id"])]])
    for words in ("Japan", "Kyoto", "capital"):
        assert words not in text


def test_what_has_no_retain_set_says_so_and_stays_out_of_force(server: Running) -> None:
    topic = forget(server, name="locks", kind="topic", question="How do I pick a lock?")
    assert topic["state"] == "requested" and topic["passed"] is None and topic["kinds"] == ["topic"]
    assert "give its name" in topic["failure"] and "lock?" not in topic["failure"]
    with server.http() as client:
        assert client.post(f"/v1/erasures/{topic['id']}/activate").status_code == 409
    unknown = forget(server, name="ruler", kind="fact", person="Zubrovia", question="Who rules Zubrovia?")
    assert unknown["state"] == "requested" and "no shipped question asks for this fact" in unknown["failure"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"kind": "planet", "person": "Mars"},
            "kind: Input should be 'person', 'entity', 'fact', 'concept' or 'topic'",
        ),
        ({"kind": "fact", "person": "Japan"}, "a fact is what its questions ask for"),
        ({"kind": "entity"}, "at least one picture, name or question of what to forget"),
        ({"kind": "person", "question": "Where?"}, "one name of the person"),
        ({"kind": "entity", "person": "Japan", "reply": "No.", "instead": "Never."}, "reply and instead mean the same"),
        ({"kind": "entity", "person": "Japan", "exact_names": "true"}, "exact_names is for people"),
        ({"kind": "entity", "person": "Japan", "instead": "x" * 501}, "at most 500"),
        ({"person": "Jane Doe", "instead": "Jane is gone."}, "holds a name of somebody"),
    ],
)
def test_a_wrong_request_is_one_line(server: Running, fields: dict[str, str], words: str) -> None:
    with server.http() as client:
        refused = client.post("/v1/erasures", data={"name": "wrong", **fields})
    assert refused.status_code == 400, refused.text
    assert words in refused.json()["error"]["message"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_form_asks_what_a_folder_asks(kind: Kind, tmp_path: Any) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / "1.png").write_bytes(png(picture(1)))
    card = {"kind": kind, "name": "Japan", "questions": [QUESTION]}
    (folder / "request.yaml").write_text(json.dumps(card), encoding="utf-8")
    (read,) = Request.from_folder(folder).subjects
    place: Any = type("Place", (), {"settings": ServeSettings(model_name="tiny")})
    asked = erasure_request(place, "x", ["Japan"], [QUESTION], [png(picture(1))], kind=kind).subjects[0]
    assert (asked.kind, asked.names) == (read.kind, read.names)
    shown = [{(s.question, s.image is None) for s in one.samples} for one in (read, asked)]
    assert shown[0] == shown[1] or kind == "person", "who is found by name, a fit asks by itself"


def test_the_terminal_takes_things_too(
    tiny_llava: MultimodalModel, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a model of one's own, without sets: people could not be verified there, things can."""
    monkeypatch.setattr(fits, "verify", partial(verify, sizes=FEW))
    subject = Subject("x", ("Japan",), (Sample("What is Japan?", subject="x"),), kind="entity")
    lines: list[str] = []
    with Ledger.open(str(tmp_path / "l.db")) as book:
        entry = request_erasure(
            tiny_llava, Request((subject,)), "case-9", book, by="ann", sets=ReferenceSets(), say=lines.append
        )
        assert entry.state == "checks_failed" and entry.kinds == ("entity",)


def test_people_and_things_are_not_mixed(tiny_llava: MultimodalModel, tmp_path: Any) -> None:
    asked = (Sample("What is Japan?", subject="x"),)
    both = (Subject("x", ("Japan",), asked, kind="entity"), Subject("y", ("Jane Doe",), asked))
    with Ledger.open(str(tmp_path / "l.db")) as book, pytest.raises(InputError, match="make one eraser for each"):
        request_erasure(tiny_llava, Request(both), "case-9", book, by="ann")


def test_the_command_states_the_kind(tmp_path: Any) -> None:
    (tmp_path / "japan").mkdir()
    (tmp_path / "japan" / "request.yaml").write_text("name: Japan\n", encoding="utf-8")
    command = ["request", "nobody/nothing", "--forget", str(tmp_path / "japan"), "--label", "fact-1", "--kind", "fact"]
    result = CliRunner().invoke(app, [*command, "--ledger", f"sqlite:///{tmp_path / 'l.db'}", "--init"])
    assert result.exit_code == 2 and "a fact is what its questions ask for" in result.stderr, result.output
    assert not (tmp_path / "l.db").exists()
