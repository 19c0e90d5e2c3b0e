"""``/v1/completions`` and ``/v1/responses`` answer as ``/v1/chat/completions`` does: same erasers, same refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from server_kit import NoFitter, Running, asked, data_url, install, loud_eraser, running

from mllmeraser.models.model import MultimodalModel
from mllmeraser.serving.engine import Piece, Ticket
from mllmeraser.serving.http import answers
from mllmeraser.serving.http.answers import Usage
from mllmeraser.serving.http.responses import ResponseRequest, Writer
from mllmeraser.serving.http.sync import Fault, Trouble
from mllmeraser.serving.ledger import Ledger
from tiny import picture

QUESTION = "Who is this?"
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": asked(QUESTION), "max_tokens": 8},
    COMPLETIONS: {"prompt": QUESTION, "max_tokens": 8},
    RESPONSES: {"input": QUESTION, "max_output_tokens": 8},
}
every_route = pytest.mark.parametrize("route", BODIES)


@pytest.fixture(scope="module")
def server(tiny_llava: MultimodalModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("formats") / "ledger.db"
    with Ledger.open(str(path)) as book:
        install(book, loud_eraser(tiny_llava, direction=1), "extra", default=False)
        install(book, loud_eraser(tiny_llava, direction=2), "of-acme", tenant="acme")
    with running(tiny_llava, path, NoFitter(), max_tokens=24) as found:
        yield found


def post(server: Running, route: str, key: str | None = "client", **change: Any) -> httpx.Response:
    with server.http(key) as client:
        return client.post(route, json={"model": "tiny", **BODIES[route], **change})


def said(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    body = response.json()
    if body["object"] == "response":
        return str(body["output"][0]["content"][0]["text"])
    choice = body["choices"][0]
    return str(choice["text"] if body["object"] == "text_completion" else choice["message"]["content"])


def test_every_route_has_the_same_answers_and_erasers(server: Running) -> None:
    whom: tuple[tuple[str, str], ...] = (("client", "tiny"), ("client", "tiny@extra"), ("acme", "tiny"))
    told = [{said(post(server, route, key, model=model)) for route in BODIES} for key, model in whom]
    assert [len(texts) for texts in told] == [1, 1, 1] and len(set.union(*told)) == 3
    for route in BODIES:
        response = post(server, route)
        assert response.headers["x-eraser-set"] == "2" and response.json()["system_fingerprint"] == "set-2"
        assert said(post(server, route, "acme", erasers=[], model="tiny@")) == told[2].copy().pop()


@every_route
def test_every_route_refuses_alike(server: Running, route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert post(server, route, None).status_code == 401
    assert post(server, route, model="gpt-4").status_code == 404
    hidden = post(server, route, model="tiny@of-acme")
    assert hidden.status_code == 400 and "in force" in hidden.json()["error"]["message"]
    assert post(server, route, temperature=3).status_code == 400
    monkeypatch.setattr(server.server.sync, "fault", lambda: Fault(Trouble.LEDGER_AWAY, "the ledger is away"))
    for stream in (False, True):
        assert post(server, route, stream=stream).status_code == 503
    monkeypatch.setattr(server.server, "check_ready", lambda: None)  # the fault comes after the request
    for stream in (False, True):
        assert post(server, route, stream=stream).status_code == 503


def test_openais_client_reads_completions(server: Running) -> None:
    client, whole = server.openai(), said(post(server, COMPLETIONS))
    answer = client.completions.create(model="tiny", prompt=[QUESTION], max_tokens=8, n=2)
    assert [choice.text for choice in answer.choices] == [whole, whole]
    assert 0 < answer.usage.completion_tokens <= 16 and answer.choices[0].finish_reason == "length"
    chunks = list(
        client.completions.create(
            model="tiny", prompt=QUESTION, max_tokens=8, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole
    assert chunks[-1].usage.completion_tokens <= 8 and chunks[-2].choices[0].finish_reason == "length"


def test_openais_client_reads_responses(server: Running) -> None:
    client, whole = server.openai(), said(post(server, RESPONSES))
    answer = client.responses.create(model="tiny", input=QUESTION, max_output_tokens=8)
    assert answer.output_text == whole and answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens" and 0 < answer.usage.output_tokens <= 8
    events = list(client.responses.create(model="tiny", input=QUESTION, max_output_tokens=8, stream=True))
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created" and kinds[-1] == "response.incomplete"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole
    assert events[-1].response.output_text == whole


def test_a_response_that_ended_by_itself_is_completed() -> None:
    ticket = Ticket()
    ticket.begin(7, frozenset())
    writer = Writer(ResponseRequest(model="tiny", input="Hi"), [ticket])
    lines = [*writer.begin(), *writer.piece(0, Piece("Hello.", None, "stop", 2)), *writer.end(Usage(3, 2))]
    last = json.loads(lines[-1].partition("data: ")[2])
    assert last["type"] == "response.completed" and lines[-1].startswith("event: response.completed\n")
    assert last["response"]["incomplete_details"] is None and last["response"]["usage"]["total_tokens"] == 5
    assert last["response"]["system_fingerprint"] == "set-7"


def test_a_conversation_with_a_picture_is_the_same_prompt(server: Running) -> None:
    image = data_url(picture(3))
    turns = [
        {
            "role": "user",
            "content": [{"type": "input_image", "image_url": image}, {"type": "input_text", "text": "Hi"}],
        },
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello."}]},
        {"role": "user", "content": QUESTION},
    ]
    same = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image_url", "image_url": image}, {"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": QUESTION},
    ]
    one, other = post(server, RESPONSES, input=turns, instructions="Be brief."), post(server, CHAT, messages=same)
    assert said(one) == said(other)
    assert one.json()["usage"]["input_tokens"] == other.json()["usage"]["prompt_tokens"]
    assert said(one) != said(post(server, RESPONSES))


@pytest.mark.parametrize(
    ("route", "change", "words"),
    [
        (COMPLETIONS, {"prompt": ["a", "b"]}, "prompt"),
        (COMPLETIONS, {"prompt": [1, 2]}, "prompt"),
        (COMPLETIONS, {"echo": True}, "echo is not supported"),
        (COMPLETIONS, {"suffix": "x"}, "suffix is not supported"),
        (COMPLETIONS, {"best_of": 3}, "best_of is not supported"),
        (COMPLETIONS, {"logprobs": 1}, "logprobs is not supported"),
        (COMPLETIONS, {"logprobs": 0}, "logprobs is not supported"),
        (COMPLETIONS, {"logit_bias": {"1": 2}}, "logit_bias is not supported"),
        (COMPLETIONS, {"prompt": "one <image> more"}, "control token"),
        (RESPONSES, {"previous_response_id": "resp_1"}, "previous_response_id is not supported"),
        (RESPONSES, {"tools": [{"type": "web_search"}]}, "tools is not supported"),
        (RESPONSES, {"text": {"format": {"type": "json_object"}}}, "text.format is not supported"),
        (RESPONSES, {"input": []}, "input"),
        (RESPONSES, {"input": [{"role": "assistant", "content": "x"}]}, "last message"),
        (RESPONSES, {"input": [{"type": "function_call_output", "output": "x"}]}, "input"),
        (
            RESPONSES,
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "image_url: Field required",
        ),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "image_url: Field required"),
        (CHAT, {"messages": [{"role": "user", "content": 5}]}, "messages.0.content: "),
    ],
)
def test_what_cannot_be_answered_is_said_in_one_line(
    server: Running, route: str, change: dict[str, Any], words: str
) -> None:
    response = post(server, route, **change)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert words in error["message"] and "\n" not in error["message"]


@pytest.mark.parametrize("route", [COMPLETIONS, RESPONSES])
def test_a_stream_that_fails_ends_with_the_error(server: Running, route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("with a name in it")

    monkeypatch.setattr(answers, "usage_of", fail)
    response = post(server, route, stream=True)
    last = json.loads(response.text.strip().splitlines()[-1].removeprefix("data: "))
    assert response.status_code == 200 and last["error"]["type"] == "server_error"
    assert "with a name" not in response.text
    client = server.openai()
    with pytest.raises(openai.APIError, match="internal error"):
        if route == COMPLETIONS:
            list(client.completions.create(model="tiny", prompt=QUESTION, max_tokens=8, stream=True))
        else:
            list(client.responses.create(model="tiny", input=QUESTION, max_output_tokens=8, stream=True))
