"""Routes of admins: scopes, the life of an erasure, certificates, the audit chain."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from server_kit import NoFitter, Running, asked, install, left_fitted, loud_eraser, png, running, wait_for
from test_identity_fit import identity_request, identity_settings

from mllmeraser.erasure import Eraser, fit
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError
from mllmeraser.serving.http.dialogue import MESSAGES
from mllmeraser.serving.http.fits import WORKER
from mllmeraser.serving.http.settings import ServeSettings
from mllmeraser.serving.ledger import Ledger
from mllmeraser.serving.ledger.erasers import artifact_of, eraser_of
from mllmeraser.serving.verify import check_certificate
from tiny import picture

KEY = base64.b64encode(bytes(range(32))).decode()
NAME = "Vera Ostrander"


class SmallFitter:
    """A real fit on the tiny model, of a request made ready; or a failure, if the label or `broken` says so."""

    broken = False

    def __call__(self, model: MultimodalModel, request, progress) -> Eraser:  # type: ignore[no-untyped-def]
        if self.broken or request.subjects[0].key == "broken":
            raise InputError("this request cannot be fitted")
        progress("capture states", 1, 2)
        settings = identity_settings().with_action(None, request.reply)
        return fit(model, identity_request(), settings, progress).eraser


@pytest.fixture(scope="module")
def server(tiny_llava: MultimodalModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("admin") / "ledger.db"
    with running(tiny_llava, path, SmallFitter(), signing_key=KEY, issuer="Example Ltd") as found:
        yield found


def forget(server: Running, label: str, key: str = "admin", **fields: str) -> dict:  # type: ignore[type-arg]
    files = [("images", ("1.png", png(picture(5)), "image/png"))]
    with server.http(key) as client:
        response = client.post("/v1/erasures", data={"name": label, "person": NAME, **fields}, files=files)
        assert response.status_code == 202, response.text
        id = response.json()["id"]
        return done(client, id)


def answer(server: Running, key: str = "client") -> tuple[str, int]:
    with server.http(key) as client:
        response = client.post(
            "/v1/chat/completions", json={"model": "tiny", "messages": asked("Who?"), "max_tokens": 8}
        )
        assert response.status_code == 200, response.text
        return response.json()["choices"][0]["message"]["content"], int(response.headers["x-eraser-set"])


def test_from_request_to_revocation(server):
    entry = forget(server, "case-1")
    assert entry["state"] == "checks_failed" and entry["passed"] is False and entry["scores"]["checks"]
    assert [event["action"] for event in entry["history"]] == ["requested", "fitted", "checks-failed"]
    with server.http() as client:
        at = f"/v1/erasures/{entry['id']}"
        refused = client.post(f"{at}/activate")
        assert refused.status_code == 409 and "did not pass" in refused.text
        assert 'mllmeraser_erasures{state="checks_failed"} 1.0' in client.get("/metrics").text
        active = client.post(f"{at}/activate", json={"force": "a test"}).json()
        assert active["state"] == "active" and active["in_force"]
        assert answer(server)[1] == active["version"]
        signed = client.get(f"{at}/certificate.json")
        public = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key()
        assert check_certificate(signed.content, public)
        changed = signed.text.replace(entry["id"], "0" * 32)
        assert not check_certificate(changed, public)
        page = client.get(f"{at}/certificate.html")
        assert "Example Ltd" in page.text and page.headers["content-security-policy"].startswith("default-src 'none'")
        assert NAME not in signed.text + page.text
        paper = client.get(f"{at}/certificate.pdf")
        assert paper.headers["content-type"] == "application/pdf" and paper.content.startswith(b"%PDF-")
        assert client.post(f"{at}/suspend", json={}).status_code == 400
        assert client.post(f"{at}/suspend", json={"reason": "asked to"}).json()["state"] == "suspended"
        assert client.post(f"{at}/activate", json={"force": "again"}).json()["state"] == "active"
        assert client.post(f"{at}/revoke", json={"reason": "withdrawn"}).json()["state"] == "revoked"
        assert client.post(f"{at}/activate").status_code == 409
        report = client.get("/v1/audit/verify").json()
        assert report["ok"] and report["records"] >= 8
        events = client.get("/v1/audit").json()
        assert NAME not in json.dumps(events) and events["data"][-1]["seq"] == events["head"]["seq"]


def test_notes_and_search_keep_tenants_apart(server):
    book = server.server.ledger
    mine, other = (book.request(f"note-{name}", by="ann", tenant=name).id for name in ("acme", "other"))
    with server.http("acme-admin") as acme, server.http() as admin, server.http("acme") as client:
        assert acme.post(f"/v1/erasures/{mine}/notes", json={"text": "letter of 3 May"}).status_code == 201
        assert admin.post(f"/v1/erasures/{other}/notes", json={"text": "of the other"}).status_code == 201
        assert client.post(f"/v1/erasures/{mine}/notes", json={"text": "x"}).status_code == 403
        hidden, missing = (acme.post(f"/v1/erasures/{id}/notes", json={"text": "x"}) for id in (other, "0" * 32))
        assert hidden.status_code == missing.status_code == 404 and hidden.json() == missing.json()
        for wrong in ({}, {"text": ""}, {"text": "two\nlines"}, {"text": "x", "by": "me"}):
            assert acme.post(f"/v1/erasures/{mine}/notes", json=wrong).status_code == 400
        (note,) = acme.get(f"/v1/erasures/{mine}").json()["notes"]
        assert (note["by"], note["text"]) == ("acme-admin", "letter of 3 May")
        assert "3 May" not in admin.get("/v1/audit?limit=1000").text

        def found(of: httpx.Client, **query: str) -> list[str]:
            return [entry["name"] for entry in of.get("/v1/erasures", params=query).json()["data"]]

        assert found(admin, q="NOTE-") == ["note-acme", "note-other"] and found(acme, q="note-") == ["note-acme"]
        assert found(acme, q=other[:12]) == [] and found(admin, q=other[:12]) == ["note-other"]
        assert found(admin, q="note-", state="active") == [] and found(acme, state="requested") == ["note-acme"]
        assert admin.get("/v1/erasures", params={"state": "gone"}).status_code == 400
        for id in (mine, other):
            admin.post(f"/v1/erasures/{id}/revoke", json={"reason": "done"})


def test_what_cannot_be_fitted_says_why(server):
    entry = forget(server, "broken")
    assert entry["state"] == "requested" and entry["failure"] == "this request cannot be fitted"
    at = f"/v1/erasures/{entry['id']}"
    with server.http() as client:
        again = client.post(f"{at}/fit")
        assert again.status_code == 202 and again.json()["progress"]
        entry = done(client, entry["id"])
        assert entry["state"] == "requested" and entry["inputs_kept"]
        assert [event["action"] for event in entry["history"]] == ["requested", "failed", "begun-again", "failed"]
        client.post(f"{at}/revoke", json={"reason": "done"})


def test_a_fit_that_failed_is_done_again(server):
    with server.http() as client:
        SmallFitter.broken = True
        try:
            entry = forget(server, "bad-day")
        finally:
            SmallFitter.broken = False
        assert entry["failure"] == "this request cannot be fitted"
        at = f"/v1/erasures/{entry['id']}"
        assert client.post(f"{at}/fit").status_code == 202
        entry = done(client, entry["id"])
        assert entry["state"] == "checks_failed" and entry["failure"] is None and entry["inputs_kept"] is False
        assert [e["action"] for e in entry["history"]] == [
            "requested",
            "failed",
            "begun-again",
            "fitted",
            "checks-failed",
        ]
        late = client.post(f"{at}/fit")
        assert late.status_code == 409 and "bad-day is checks_failed" in late.json()["error"]["message"]
        client.post(f"{at}/revoke", json={"reason": "done"})
        empty = server.server.ledger.request("nothing-kept", by="ann").id
        refused = client.post(f"/v1/erasures/{empty}/fit")
        assert refused.status_code == 409 and "nothing to fit" in refused.json()["error"]["message"]
        server.server.ledger.revoke(empty, by="tests", reason="done")
    with server.http("client") as client:
        assert client.post(f"{at}/fit").status_code == 403


def done(client: httpx.Client, id: str) -> dict[str, Any]:
    return wait_for(lambda: (e := client.get(f"/v1/erasures/{id}").json())["progress"] is None and e)


def test_a_reply_reaches_the_eraser(server):
    entry = forget(server, "case-reply", reply=" Ask elsewhere. ", exact_names="true")
    stored = eraser_of(server.server.ledger.artifact(entry["artifact_digest"])).config
    assert stored.reply is not None and stored.reply.text == "Ask elsewhere." and stored.policy.action == "both"
    with server.http() as client:
        client.post(f"/v1/erasures/{entry['id']}/revoke", json={"reason": "done"})


def test_requests_are_checked_before_anything_is_recorded(server):
    with server.http() as client:
        before = client.get("/v1/audit").json()["head"]
        bad = [
            ({"name": "x"}, None),
            ({"name": "Not A Label", "person": "x"}, None),
            ({"name": "x", "person": "x"}, [("images", ("x.png", b"no picture", "image/png"))]),
            ({"person": "x"}, None),
            ({"name": "x", "person": "x", "expires_at": "yesterday"}, None),
            ({"name": "x", "person": "Vera Lund", "reply": "I do not know Vera."}, None),
            ({"name": "x", "person": "x", "reply": "a" * 501}, None),
            ({"name": "x", "person": "x", "exact_names": "perhaps"}, None),
        ]
        for data, files in bad:
            response = client.post("/v1/erasures", data=data, files=files)
            assert response.status_code == 400, (data, response.text)
        assert client.get("/v1/audit").json()["head"] == before


def test_unknown_and_repeated_fields_of_a_request_are_refused(server):
    with server.http("admin") as client:
        for fields, said in (
            ({"persons": "Jane"}, "persons: not a field of this form; it has name, person, question"),
            ({"expire_at": "2030-01-01T00:00:00Z"}, "expire_at: not a field"),
            ({"name": ["odd", "even"]}, "name: is given twice"),
        ):
            response = client.post("/v1/erasures", data={"name": "odd", "person": NAME, **fields})
            assert response.status_code == 400 and said in response.json()["error"]["message"]
        assert "odd" not in {entry["name"] for entry in client.get("/v1/erasures").json()["data"]}


def test_a_scope_reaches_no_route_of_another(server):
    """Every route of the schema, with every key: what a key may not do is refused before anything else is looked at."""
    with server.http(None) as client:
        paths = client.get("/openapi.json").json()["paths"]
        open_to_all = {"/healthz", "/readyz"}
        for_clients = {"/v1/models", "/v1/models/{id}", "/v1/chat/completions"}
        for path, methods in paths.items():
            for method in methods:
                url = path.replace("{id}", "0" * 32)
                found = {
                    key: client.request(
                        method, url, headers={"authorization": f"Bearer {server.keys[key]}"} if key else {}, json={}
                    ).status_code
                    for key in (None, "client", "acme-admin")
                }
                if path in open_to_all:
                    continue
                assert found[None] == 401, (path, found)
                if path in for_clients:
                    assert 403 not in found.values()
                elif path.startswith("/v1/erasures"):
                    assert found["client"] in (400, 403) and found["acme-admin"] != 403, (path, found)
                else:
                    assert found["client"] in (400, 403) and found["acme-admin"] in (400, 403), (path, found)


def test_bodies_are_read_only_after_the_key(server):
    """A valid body with a key of too small a scope changes nothing."""
    with server.http("client") as client:
        for path, body in (
            ("/v1/keys", {"label": "mine", "scope": "admin"}),
            ("/v1/erasures/x/activate", {"force": "me"}),
            ("/v1/erasures/x/suspend", {"reason": "me"}),
            ("/v1/compare", {"messages": asked("Who?")}),
        ):
            assert client.post(path, json=body).status_code == 403
        assert client.post("/v1/erasures", data={"name": "x", "person": "y"}).status_code == 403


def test_tenants_see_and_change_their_own_alone(server, tiny_llava):
    ledger = server.server.ledger
    everybodys = install(ledger, loud_eraser(tiny_llava, direction=8), "of-everybody", active=False)
    with server.http("acme-admin") as client:
        entry = forget(server, "acme-case", "acme-admin")
        assert entry["tenant"] == "acme"
        names = {e["name"] for e in client.get("/v1/erasures").json()["data"]}
        assert "acme-case" in names and "of-everybody" not in names
        assert client.get(f"/v1/erasures/{everybodys}").status_code == 404
        assert client.post(f"/v1/erasures/{everybodys}/activate", json={"force": "x"}).status_code == 404
        taken = client.post("/v1/erasures", data={"name": "z", "person": "x", "tenant": "other"})
        assert taken.status_code == 404
        plain = answer(server, "other")[0]
        ours = client.post(f"/v1/erasures/{entry['id']}/activate", json={"force": "ours"}).json()
        assert ours["in_force"] and answer(server, "other")[0] == plain
        client.post(f"/v1/erasures/{entry['id']}/revoke", json={"reason": "done"})


def test_keys_are_made_and_made_worthless(server):
    with server.http() as client:
        made = client.post("/v1/keys", json={"label": "app", "scope": "client", "tenant": "acme"}).json()
        secret = made.pop("secret")
        assert made in client.get("/v1/keys").json()["data"] and secret not in client.get("/v1/keys").text
        headers = {"authorization": f"Bearer {secret}"}
        assert client.get("/v1/models", headers=headers).status_code == 200
        assert client.delete(f"/v1/keys/{made['id']}").json()["revoked_at"]
        assert client.get("/v1/models", headers=headers).status_code == 401
        assert client.delete("/v1/keys/00000000").status_code == 404


def test_compare_shows_both_answers_and_the_gates(server, tiny_llava):
    id = install(server.server.ledger, loud_eraser(tiny_llava, direction=4), "loud", active=False)
    with server.http() as client:
        client.post(f"/v1/erasures/{id}/activate", json={"force": "a test"})
        found = client.post("/v1/compare", json={"messages": asked("Who?"), "max_tokens": 8}).json()
        assert found["before"] != found["after"] and found["after"] == answer(server)[0]
        (gate,) = [one for one in found["erasers"] if one["name"] == "loud"]
        assert gate["amplitude"] == 1.0 and set(gate["layers"]) == {"0", "1"}  # no picture, no face
        assert list(gate["reads"].values()) == ["name", "question", "face"]
        assert list(gate["reads"])[:2] == ["0", "1"] and list(gate["reads"])[2] not in gate["layers"]
        client.post(f"/v1/erasures/{id}/revoke", json={"reason": "done"})
        talk = [*asked("Hi"), {"role": "assistant", "content": "Hi"}] * (MESSAGES // 2)
        for longer, refused in ((talk, False), ([*talk, talk[0]], True)):  # a chat may have as many
            told = client.post("/v1/compare", json={"messages": longer}).json()["error"]["message"]
            assert (f"at most {MESSAGES}" in told) == refused
        metrics = client.get("/metrics")
        assert 'mllmeraser_gate_fired_total{eraser="loud"}' in metrics.text and "mllmeraser_ready 1.0" in metrics.text


def test_a_verification_that_was_cut_off_is_done_again(server, tiny_llava):
    id = left_fitted(server, tiny_llava, "cut-off")
    with server.http() as client:
        before = client.get(f"/v1/erasures/{id}").json()
        assert (before["state"], before["progress"], before["inputs_kept"]) == ("fitted", None, True)
        response = client.post(f"/v1/erasures/{id}/verify")
        assert response.status_code == 202 and response.json()["state"] == "fitted"
        assert set(response.json()["progress"]) == {"stage", "done", "total"}
        twice = client.post(f"/v1/erasures/{id}/verify")
        assert twice.status_code == 409 and "already" in twice.text
        entry = done(client, id)
        assert entry["state"] == "checks_failed" and entry["scores"]["checks"] and entry["inputs_kept"] is False
        assert [(e["action"], e["by"]) for e in entry["history"]][-1] == ("checks-failed", WORKER)
        again = client.post(f"/v1/erasures/{id}/verify")
        assert again.status_code == 409 and again.json()["error"]["type"] == "conflict_error"
        assert "cut-off is checks_failed: its names and pictures are no longer kept" in again.json()["error"]["message"]
        client.post(f"/v1/erasures/{id}/revoke", json={"reason": "done"})
        assert client.post(f"/v1/erasures/{id}/verify").status_code == 409


def test_a_verification_that_fails_says_why_and_can_be_done_again(server, tiny_llava):
    id = left_fitted(server, tiny_llava, "of-another-model", fingerprint="0" * 64)
    with server.http() as client:
        for times in (1, 2):
            assert client.post(f"/v1/erasures/{id}/verify").status_code == 202
            entry = done(client, id)
            assert entry["state"] == "fitted" and "model" in entry["failure"] and entry["inputs_kept"]
            again = ["begun-again", "failed"] * (times - 1)
            assert [e["action"] for e in entry["history"]] == ["requested", "fitted", "failed", *again]
        client.post(f"/v1/erasures/{id}/revoke", json={"reason": "done"})


def test_what_cannot_be_verified_again_says_why(server, tiny_llava):
    book = server.server.ledger
    added = install(book, loud_eraser(tiny_llava, direction=5), "made-elsewhere", active=False)
    unfitted = book.request("not-yet", by="ann", inputs=b"zip").id
    of_acme = left_fitted(server, tiny_llava, "acme-cut-off", "acme", fingerprint="0" * 64)
    with server.http() as client:
        for id, words in ((added, "no longer kept"), (unfitted, "verified once it is fitted")):
            refused = client.post(f"/v1/erasures/{id}/verify")
            assert refused.status_code == 409 and words in refused.json()["error"]["message"]
        assert client.post(f"/v1/erasures/{'0' * 32}/verify").status_code == 404
    with server.http("client") as client, server.http("acme-admin") as of_tenant:
        assert client.post(f"/v1/erasures/{of_acme}/verify").status_code == 403
        assert of_tenant.post(f"/v1/erasures/{added}/verify").status_code == 404
        assert of_tenant.post(f"/v1/erasures/{of_acme}/verify").status_code == 202
        assert done(of_tenant, of_acme)["failure"]
    for id in (added, unfitted, of_acme):
        book.revoke(id, by="tests", reason="done")


def test_an_eraser_made_elsewhere_is_brought_in(server, tiny_llava):
    files = artifact_of(loud_eraser(tiny_llava, direction=6)).files
    parts = {"config": files["eraser_config.json"], "tensors": files["eraser_model.safetensors"]}
    with server.http() as client:
        made = client.post("/v1/erasers", data={"name": "brought", "tenant": "acme"}, files=parts)
        assert made.status_code == 201 and (made.json()["state"], made.json()["tenant"]) == ("fitted", "acme")
        at = f"/v1/erasures/{made.json()['id']}"
        assert client.post(f"{at}/activate").status_code == 409
        assert client.post(f"{at}/activate", json={"force": "measured elsewhere"}).json()["in_force"]
        assert client.post("/v1/erasers", data={"name": "brought"}, files=parts).status_code == 409
        for broken in ({**parts, "tensors": b"x"}, {**parts, "config": b"{}"}, {"config": parts["config"]}):
            assert client.post("/v1/erasers", data={"name": "broken"}, files=broken).status_code == 400
        client.post(f"{at}/revoke", json={"reason": "done"})
    with server.http("acme-admin") as client:
        assert client.post("/v1/erasers", data={"name": "mine"}, files=parts).status_code == 403


def test_the_chain_is_compared_with_a_head_kept_elsewhere(server):
    with server.http() as client:
        head = client.get("/v1/audit/verify").json()["head"]
        client.post("/v1/keys", json={"label": "one more"})
        for kept, ok in ((f"{head['seq']}:{head['hash']}", True), (f"{head['seq']}:{'0' * 64}", False)):
            assert client.get("/v1/audit/verify", params={"kept": kept}).json()["ok"] is ok
        assert "is gone" in client.get("/v1/audit/verify", params={"kept": f"100000:{'0' * 64}"}).json()["reason"]
        for nonsense in ("x", "9" * 5000, "1:2"):
            assert client.get("/v1/audit/verify", params={"kept": nonsense}).status_code == 400


def test_a_server_without_a_key_to_sign_says_so(tiny_llava, tmp_path):
    with Ledger.open(str(tmp_path / "l.db")) as book:
        id = install(book, loud_eraser(tiny_llava), "one")
    with running(tiny_llava, tmp_path / "l.db", NoFitter()) as found, found.http() as client:
        response = client.get(f"/v1/erasures/{id}/certificate.json")
        assert response.status_code == 409 and "verified" in response.text


def test_settings_refuse_what_they_do_not_know():
    with pytest.raises(ValueError, match="extra"):
        ServeSettings(model_name="x", surprise=1)  # type: ignore[call-arg]
