"""A Gradio page for a running server: a conversation about a picture, and for admins a before-and-after comparison.

The page uses only the server's HTTP API. So the server decides what is forgotten, and the API key what is shown.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import httpx
from PIL import Image

from mllmeraser.samples.errors import InputError, MLLMEraserError

if TYPE_CHECKING:
    import gradio

SECONDS = 120.0
KEPT_SECONDS = 600
"""Gradio writes uploaded pictures to a folder and deletes them after this time."""
Turn = dict[str, Any]


class Client:
    """Calls a server with one API key."""

    def __init__(self, server: str, key: str) -> None:
        """Check that `server` accepts `key`; raises `InputError` if not."""
        self._http = httpx.Client(base_url=server, headers={"authorization": f"Bearer {key}"}, timeout=SECONDS)
        try:
            models = _checked(self._http.get("/v1/models")).json()["data"]
            self.models: list[str] = [model["id"] for model in models]
            self.admin = self._http.get("/v1/servers").status_code == 200
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, MLLMEraserError) as error:
            reason = error if isinstance(error, MLLMEraserError) else type(error).__name__
            raise InputError(f"{server} cannot be asked: {reason}; give the address and a key of a server") from None

    def answer(self, model: str, turns: Sequence[Turn]) -> Iterator[str]:
        """Yield the growing answer to a conversation. Raises `MLLMEraserError` if the server refuses."""
        text = ""
        body = {"model": model, "messages": list(turns), "stream": True}
        with self._http.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                response.read()
            for line in _checked(response).iter_lines():
                data = line.removeprefix("data: ")
                if not data or data == "[DONE]":
                    continue
                piece = json.loads(data)
                if "error" in piece:
                    raise MLLMEraserError(piece["error"]["message"])
                text += "".join(choice["delta"].get("content") or "" for choice in piece["choices"])
                yield text

    def compare(self, model: str, turns: Sequence[Turn]) -> tuple[str, str]:
        """Return the answers without erasers and with those in force. Raises `MLLMEraserError` for non-admins."""
        body = _checked(self._http.post("/v1/compare", json={"model": model, "messages": list(turns)})).json()
        return body["before"], body["after"]


def conversation(turns: Sequence[Turn], picture: Image.Image | None) -> list[Turn]:
    """The turns, with the picture before the first question."""
    if picture is None or not turns:
        return list(turns)
    data = io.BytesIO()
    picture.save(data, "PNG")
    url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    first = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": turns[0]["content"]}]
    return [{"role": "user", "content": first}, *turns[1:]]


def build(client: Client) -> gradio.Blocks:
    """Build the page without serving it."""
    import gradio as gr

    def ask(question: str, picture: Image.Image | None, model: str, turns: list[Turn]) -> Iterator[tuple[Any, Any]]:
        asked = [*turns, {"role": "user", "content": question}]
        try:
            for text in client.answer(model, conversation(asked, picture)):
                shown = [*asked, {"role": "assistant", "content": text}]
                yield shown, shown
        except (httpx.HTTPError, MLLMEraserError) as error:
            raise gr.Error(str(error)) from None

    def compare(question: str, picture: Image.Image | None, model: str) -> tuple[str, str]:
        try:
            return client.compare(model, conversation([{"role": "user", "content": question}], picture))
        except (httpx.HTTPError, MLLMEraserError) as error:
            raise gr.Error(str(error)) from None

    with gr.Blocks(title="mllmeraser", analytics_enabled=False, delete_cache=(60, KEPT_SECONDS)) as page:
        with gr.Row():
            with gr.Column(scale=1):
                model = gr.Dropdown(client.models, value=client.models[0], label="Model", interactive=True)
                picture = gr.Image(type="pil", label="Picture", sources=["upload", "clipboard"])
                question = gr.Textbox(label="Question", submit_btn="Ask")
                again = gr.Button("New conversation")
            with gr.Column(scale=2):
                turns = gr.State([])
                chat = gr.Chatbot(label="Conversation", render_markdown=False, buttons=[])
                with gr.Row(visible=client.admin):
                    before = gr.Textbox(label="Before: without erasers", lines=6)
                    after = gr.Textbox(label="After: with the erasers in force", lines=6)
                both = gr.Button("Before and after", visible=client.admin)
        submitted = question.submit(ask, [question, picture, model, turns], [chat, turns], api_name="ask")
        submitted.success(lambda: "", None, question, api_visibility="private")
        # A conversation has one picture: a new picture starts a new conversation.
        restarts = [again.click, chat.clear, picture.change]
        gr.on(restarts, lambda: ([], []), None, [chat, turns], api_visibility="private")
        if client.admin:
            both.click(compare, [question, picture, model], [before, after], api_name="compare")
    return page


def launch(page: gradio.Blocks, port: int, *, wait: bool = True) -> str:
    """Serve the page on this machine only, and return its address; with ``wait``, after the server has stopped.

    Prompts and answers are not stored: Gradio's run history, which the browser would keep, is off.
    """
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    _, url, _ = page.launch(
        server_name="127.0.0.1", server_port=port, share=False, max_file_size="10mb", prevent_thread_lock=not wait
    )
    return url


def _checked(response: httpx.Response) -> httpx.Response:
    if response.status_code == 200:
        return response
    try:
        raise MLLMEraserError(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        raise MLLMEraserError(f"the server answered {response.status_code}") from None
