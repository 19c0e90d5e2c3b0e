"""What clients get: answers, streams, and clear refusals."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from engine_kit import Steps
from hold_kit import held_up, noted_tickets
from PIL import Image
from server_kit import NoFitter, Running, asked, install, loud_eraser, running, stop_rate_clock, wait_for

from mllmeraser.models.model import MultimodalModel
from mllmeraser.serving.engine import EngineSettings
from mllmeraser.serving.http.access import ATTEMPTS
from mllmeraser.serving.http.errors import Refusal
from mllmeraser.serving.http.pictures import public_address
from mllmeraser.serving.ledger import Ledger
from tiny import picture

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def server(tiny_llava: MultimodalModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with four erasers: everybody's optional ones, the tenant's default, and the tenant's optional one."""
    path = tmp_path_factory.mktemp("server") / "ledger.db"
    with Ledger.open(str(path)) as book:
        install(book, loud_eraser(tiny_llava, direction=1), "extra", default=False)
        install(book, loud_eraser(tiny_llava, direction=2), "of-acme", tenant="acme")
        install(book, loud_eraser(tiny_llava, direction=3), "more-acme", tenant="acme", default=False)
    options = {"max_tokens": 24, "max_body_bytes": 300_000, "max_image_pixels": 10_000, "max_image_bytes": 100_000}
    with running(tiny_llava, path, NoFitter(), **options) as found:
        yield found


def chat(server: Running, key: str | None = "client", **body: Any) -> httpx.Response:
    with server.http(key) as client:
        return client.post(CHAT, json={"model": "tiny", "messages": asked("Who is this?"), "max_tokens": 8, **body})


def said(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def test_an_answer_is_the_models_own_and_says_its_version(server, tiny_llava):
    response = chat(server)
    body = response.json()
    assert response.headers["x-eraser-set"] == "3" and body["system_fingerprint"] == "set-3"
    assert body["object"] == "chat.completion" and body["usage"]["completion_tokens"] <= 8
    assert body["usage"]["prompt_tokens"] > 3
    assert said(response) == said(chat(server)) and response.headers["x-request-id"]


def test_what_a_tenant_has_forgotten_no_client_of_it_can_switch_off(server):
    everybody, acme = said(chat(server, "other")), said(chat(server, "acme"))
    assert acme != everybody
    assert said(chat(server, "acme", extra_body={"erasers": []}, erasers=[])) == acme
    assert said(chat(server, "acme", model="tiny@")) == acme


def test_a_name_selects_more_and_only_what_one_may_see(server):
    plain, extra = said(chat(server)), said(chat(server, model="tiny@extra"))
    assert plain != extra
    assert said(chat(server, "acme", model="tiny@more-acme")) != said(chat(server, "acme"))
    for key, model in (("client", "tiny@more-acme"), ("client", "tiny@nobody"), ("acme", "tiny@extra+nobody")):
        response = chat(server, key, model=model)
        assert response.status_code == 400 and "content" not in response.text
    hidden, unknown = (chat(server, model=f"tiny@{name}").json() for name in ("more-acme", "more-none"))
    assert hidden["error"]["message"].replace("more-acme", "") == unknown["error"]["message"].replace("more-none", "")


def test_models_lists_what_the_key_may_select(server):
    names = {}
    for key in ("client", "acme"):
        with server.http(key) as client:
            names[key] = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert names == {"client": ["tiny", "tiny@extra"], "acme": ["tiny", "tiny@extra", "tiny@more-acme"]}


def test_a_stream_says_the_same(server):
    whole = said(chat(server))
    with server.http("client") as client:
        body = {"model": "tiny", "messages": asked("Who is this?"), "max_tokens": 8, "stream": True,
                "stream_options": {"include_usage": True}}  # fmt: skip
        with client.stream("POST", CHAT, json=body) as response:
            lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert response.headers["content-type"].startswith("text/event-stream") and response.headers["x-eraser-set"] == "3"
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]) == whole
    assert chunks[-1]["usage"]["completion_tokens"] <= 8 and chunks[-2]["choices"][0]["finish_reason"]
    assert {chunk["system_fingerprint"] for chunk in chunks} == {"set-3"}


def test_several_answers_with_a_seed_are_reproducible(server):
    options = {"n": 3, "temperature": 1.5, "seed": 7}
    first, again, other = (
        [c["message"]["content"] for c in chat(server, **more).json()["choices"]]
        for more in (options, options, {**options, "seed": 70})
    )
    assert len(first) == 3 and first == again and first != other and len(set(first)) > 1


def test_a_stop_is_not_shown(server):
    text = said(chat(server, max_tokens=24))
    middle = text[len(text) // 2 :][:2]
    cut = chat(server, max_tokens=24, stop=[middle])
    assert said(cut) == text[: text.index(middle)] and cut.json()["choices"][0]["finish_reason"] == "stop"


def shown(url: str) -> list[dict[str, Any]]:
    """Messages with a picture at an address."""
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"model": "gpt-4"}, 404, "serves tiny"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "role"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "last message"),
        ({"messages": asked("one <image> more")}, 400, "control token"),
        ({"messages": asked("a", picture(1)) * 9}, 400, "8 pictures"),
        ({"messages": shown("file:///etc/passwd")}, 400, "data URL"),
        ({"messages": shown("http://localhost/x")}, 400, "data URLs only"),
        ({"messages": shown("data:image/png;base64,!!")}, 400, "base64"),
        ({"temperature": 3}, 400, "temperature"),
        ({"n": 0}, 400, "n:"),
        ({"max_tokens": "many"}, 400, "max_tokens"),
        ({"tools": [{"type": "function"}]}, 400, "tools is not supported"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format"),
        ({"logprobs": True}, 400, "log-probabilities"),
    ],
)  # fmt: skip
def test_bad_requests_get_one_clear_line(server, change, status, words):
    response = chat(server, **change)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert words in error["message"] and "\n" not in error["message"]


def test_admins_see_log_probabilities(server):
    content = chat(server, "admin", logprobs=True, top_logprobs=2).json()["choices"][0]["logprobs"]["content"]
    assert content and all(entry["logprob"] <= 0 and len(entry["top_logprobs"]) == 2 for entry in content)


def test_keys_are_needed_and_wrong_ones_are_counted(server, monkeypatch):
    stop_rate_clock(monkeypatch)
    assert chat(server, None).status_code == 401
    assert guessed(server, f"mk_{'0' * 8}_{'x' * 43}") == {401, 429}
    server.server.gatekeeper.__post_init__()  # the count is of the address that all tests share


def test_a_right_key_passes_while_its_address_guesses(server, monkeypatch):
    """Behind a proxy everybody has one address: nobody pays for the wrong keys of another."""
    stop_rate_clock(monkeypatch)
    fresh, own = (server.server.ledger.add_key(label="x", scope="client", tenant=None, by="tests")[1] for _ in "ab")
    assert code_for(server, own) == 200
    guesses = [f"mk_{number:08x}_{'x' * 43}" for number in range(ATTEMPTS + 10)]
    assert guessed(server, *guesses, "no key at all") == {401, 429}
    assert code_for(server, guesses[-1]) == 429 and code_for(server, fresh) == 200
    assert guessed(server, own[:12] + "x" * 43) == {401, 429}, "guessing at a key that there is is slow as well"
    assert code_for(server, own) == 200, "it passed before, so it is not taken for a guess"
    server.server.gatekeeper.__post_init__()


def guessed(server: Running, *secrets: str) -> set[int]:
    """What wrong keys are told, some more of them than may be tried."""
    with server.http(None) as client:
        return {code_for(server, secret, client) for secret in secrets * (ATTEMPTS // len(secrets) + 2)}


def code_for(server: Running, secret: str, client: httpx.Client | None = None) -> int:
    headers = {"authorization": f"Bearer {secret}"}
    response = (client or httpx).get(f"{server.url}/v1/models", headers=headers)
    assert response.status_code != 429 or int(response.headers["retry-after"]) > 0
    return response.status_code


def bomb() -> bytes:
    data = io.BytesIO()
    Image.new("1", (4000, 4000)).save(data, "PNG")
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "status"),
    [(bomb(), 413), (b"\x89PNG\r\n\x1a\n broken", 400), (b"x" * 150_000, 413), (b"<svg onload='x'/>", 400)],
)
def test_pictures_have_limits(server, data, status):
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Who?"}]
    assert chat(server, messages=[{"role": "user", "content": content}]).status_code == status


def test_long_bodies_are_not_read(server):
    assert chat(server, messages=asked("x" * 400_000)).status_code == 413
    with server.http("client") as client:
        upload = b'--x\r\ncontent-disposition: form-data; name="images"; filename="1.png"\r\n\r\n'
        for kind, head, route in (
            ("application/json", b"", CHAT),
            ("multipart/form-data; boundary=x", upload, "/v1/erasures"),
        ):
            parts = (head * (number == 0) + b" " * 10_000 for number in range(100))  # without a length
            response = client.post(route, content=parts, headers={"content-type": kind})
            assert response.status_code == 413 and response.json()["error"]["type"] == "request_too_large"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "10.0.0.8", "169.254.169.254", "::1", "::ffff:127.0.0.1", "0.0.0.0", "192.168.1.1"],
)
def test_private_addresses_are_never_asked(host):
    with pytest.raises(Refusal, match="public"):
        public_address(host, 80)


def test_a_pictures_address_is_refused_where_it_is_private(tiny_llava, tmp_path):
    with running(tiny_llava, tmp_path / "l.db", NoFitter(), fetch_images=True) as found:
        content = [{"type": "image_url", "image_url": {"url": f"{found.url}/healthz"}}]
        response = chat(found, messages=[{"role": "user", "content": content}])
        assert response.status_code == 400 and "public internet" in response.text


def test_a_full_queue_and_a_rate_say_when_to_come_again(tiny_llava, tmp_path, monkeypatch):
    stop_rate_clock(monkeypatch)
    engine = EngineSettings(max_batch=1, max_queue=1)
    with running(tiny_llava, tmp_path / "l.db", NoFitter(), engine=engine) as found, ThreadPoolExecutor(1) as pool:
        with held_up(found):
            queued = pool.submit(chat, found)
            wait_for(lambda: found.server.engine.status().queued == 1)
            refused = chat(found)
            assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
        assert queued.result(60).status_code == 200
    with running(tiny_llava, tmp_path / "m.db", NoFitter(), requests_per_minute=3) as found:
        codes = [chat(found).status_code for _ in range(5)]
        assert codes == [200] * 3 + [429] * 2


def test_who_hangs_up_is_not_answered_on(tiny_llava, tmp_path, monkeypatch):
    with running(tiny_llava, tmp_path / "l.db", NoFitter()) as found:
        tickets = noted_tickets(found, monkeypatch)
        body = {"model": "tiny", "messages": asked("Who?"), "max_tokens": 200, "temperature": 2.0, "stream": True}
        with Steps(tiny_llava) as steps:
            steps.let(9)
            with found.http("client") as client, client.stream("POST", CHAT, json=body) as response:
                next(response.iter_lines())
            wait_for(lambda: tickets[0].cancelled)
        wait_for(lambda: tickets[0].done)
        assert chat(found).status_code == 200


def test_browsers_get_their_headers(server):
    with server.http(None) as client:
        response = client.get("/")
        assert response.status_code == 200 and "default-src 'self'" in response.headers["content-security-policy"]
        assert response.headers["x-frame-options"] == "DENY" and "server" not in response.headers
        assert client.options(CHAT, headers={"origin": "https://evil.example"}).status_code == 405
        assert "access-control-allow-origin" not in client.get("/", headers={"origin": "https://evil.example"}).headers
