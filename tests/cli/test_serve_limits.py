"""What `mllmeraser serve` is told reaches both parts that it is for."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from mllmeraser.api import serving
from mllmeraser.cli.app import app
from mllmeraser.serving.http.dialogue import ChatRequest


@pytest.mark.parametrize("most", [16, 512, 2048])
def test_the_engine_makes_answers_as_long_as_the_server_asks_for(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(serving, "serve", lambda model, **options: given.update(options))
    found = CliRunner().invoke(app, ["serve", "embedded:llava", "--max-tokens", str(most)])
    assert found.exit_code == 0, found.output
    body = ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "Who?"}]})
    assert body.samplings(given["settings"])[0].max_tokens == most == given["engine"].max_tokens
