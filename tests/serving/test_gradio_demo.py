"""The Gradio page: its client against a running server, and, where Gradio is installed, the page itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server_kit import NoFitter, Running, asked, free_port, install, loud_eraser, running
from typer.testing import CliRunner

from mllmeraser.cli.app import app
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError, MLLMEraserError
from mllmeraser.serving.gradio_demo import Client, build, conversation, launch
from mllmeraser.serving.ledger import Ledger
from tiny import picture

QUESTION = "Who is this?"


@pytest.fixture(scope="module")
def server(tiny_llava: MultimodalModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("gradio") / "ledger.db"
    with Ledger.open(str(path)) as book:
        install(book, loud_eraser(tiny_llava), "everybodys")
        install(book, loud_eraser(tiny_llava, direction=5), "extra", default=False)
    with running(tiny_llava, path, NoFitter(), max_tokens=12) as found:
        yield found


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


def one(question: str = QUESTION) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}]


def said(server: Running, messages: list[dict[str, Any]], model: str = "tiny") -> str:
    """What the server's own route answers."""
    with server.http("client") as client:
        body = {"model": model, "messages": messages}
        return str(client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"])


def test_an_answer_grows_to_what_the_server_says(server: Running) -> None:
    client = Client(server.url, server.keys["client"])
    assert client.models == ["tiny", "tiny@extra"] and not client.admin
    turns = conversation(one(), picture(1))
    grown = list(client.answer("tiny", turns))
    assert len(grown) > 1 and all(later.startswith(before) for before, later in zip(grown, grown[1:], strict=False))
    assert grown[-1] == said(server, turns) == said(server, asked(QUESTION, picture(1)))
    assert list(client.answer("tiny@extra", turns))[-1] == said(server, turns, "tiny@extra")
    with pytest.raises(MLLMEraserError, match="scope admin"):
        client.compare("tiny", turns)


def test_an_admin_sees_before_and_after(server: Running) -> None:
    client = Client(server.url, server.keys["admin"])
    before, after = client.compare("tiny", one())
    assert client.admin and before != after and after == said(server, one()).strip()


def test_a_picture_belongs_to_the_first_question() -> None:
    turns = [*one("first"), {"role": "assistant", "content": "x"}, *one("second")]
    assert conversation(turns, None) == turns and conversation([], picture(1)) == []
    first, *rest = conversation(turns, picture(1))
    assert [part["type"] for part in first["content"]] == ["image_url", "text"] and rest == turns[1:]


def test_what_is_wrong_is_one_line(server: Running) -> None:
    with pytest.raises(InputError, match="not valid; give the address and a key"):
        Client(server.url, "mk_00000000_wrong")
    with pytest.raises(InputError, match="cannot be asked: ConnectError"):
        Client(f"http://127.0.0.1:{free_port()}", "x")
    with pytest.raises(InputError, match="cannot be asked"):
        Client("no address", "x")
    client = Client(server.url, server.keys["client"])
    with pytest.raises(MLLMEraserError, match="serves tiny"):
        list(client.answer("gpt", one()))
    result = CliRunner().invoke(app, ["gradio", "--server", server.url], env={"MLLMERASER_API_KEY": ""})
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1


def test_without_gradio_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mllmeraser.cli.serve.find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["gradio", "--key", "x"])
    assert result.exit_code == 2 and result.stderr.splitlines() == [
        "mllmeraser: gradio is missing: pip install 'mllmeraser[demo]', best in its own environment"
    ]


@pytest.fixture
def page(request: pytest.FixtureRequest, server: Running) -> Iterator[Any]:
    """The page of a key, and a client of Gradio's own for it."""
    pytest.importorskip("gradio", reason="the extra demo is not installed: it wants an environment of its own")
    import gradio_client

    blocks = build(Client(server.url, server.keys[request.param]))
    try:
        yield gradio_client.Client(launch(blocks, free_port(), wait=False), verbose=False)
    finally:
        blocks.close()


def shown(path: Path) -> Any:
    import gradio_client

    picture(1).save(path)
    return gradio_client.handle_file(str(path))


def last(chat: list[dict[str, Any]]) -> str:
    content = chat[-1]["content"]
    return str(content if isinstance(content, str) else content[0]["text"])


@pytest.mark.parametrize("page", ["client"], indirect=True)
def test_a_conversation_on_the_page(page: Any, server: Running, tmp_path: Path) -> None:
    chat = page.predict(QUESTION, shown(tmp_path / "1.png"), "tiny", api_name="/ask")
    assert [turn["role"] for turn in chat] == ["user", "assistant"]
    first = said(server, asked(QUESTION, picture(1)))
    assert last(chat) == first
    chat = page.predict("And where?", shown(tmp_path / "1.png"), "tiny", api_name="/ask")
    turns = [*asked(QUESTION, picture(1)), {"role": "assistant", "content": first}, *one("And where?")]
    assert [turn["role"] for turn in chat] == ["user", "assistant"] * 2 and last(chat) == said(server, turns)
    assert "/compare" not in page.view_api(return_format="dict")["named_endpoints"]
    assert not page.config["run_history"] and not page.config["analytics_enabled"]


@pytest.mark.parametrize("page", ["admin"], indirect=True)
def test_before_and_after_on_the_page(page: Any, server: Running, tmp_path: Path) -> None:
    before, after = page.predict(QUESTION, shown(tmp_path / "1.png"), "tiny", api_name="/compare")
    assert before != after and after == said(server, asked(QUESTION, picture(1))).strip()


@pytest.mark.parametrize("page", ["client"], indirect=True)
def test_the_page_says_what_the_server_refuses(page: Any) -> None:
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match="control token"):
        page.predict("one <image> more", None, "tiny", api_name="/ask")
