"""`mllmeraser example` and `request`: a first try that runs as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_identity_fit import identity_request, identity_settings
from typer.testing import CliRunner

from mllmeraser.api import requests
from mllmeraser.cli.app import app
from mllmeraser.erasure import fit
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits import World
from mllmeraser.samples.request import Request
from mllmeraser.serving.ledger import Ledger


def test_an_example_is_a_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["example", "jane"])
    assert result.exit_code == 0 and "mllmeraser erase embedded:llava --forget jane" in result.stdout
    request = Request.from_folder("jane")
    (subject,) = request.subjects
    assert subject.names == (World("dev").people[0].name,) and len([s for s in subject.samples if s.image]) == 4
    again = CliRunner().invoke(app, ["example", "jane"])
    assert again.exit_code == 2 and "exists already" in again.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--label", "Jane Doe"], "cannot be a name"),
        (["--label", "a", "--retain", "jane"], "--strangers, --verify-with is missing"),
    ],
)
def test_a_bad_request_makes_nothing(
    tiny_llava_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(app, ["example", "jane"])
    result = CliRunner().invoke(app, ["request", str(tiny_llava_path), "--forget", "jane", "--init", *more])
    assert result.exit_code == 2 and said in result.stderr, result.stderr


def test_a_model_of_ones_own_without_prompts_about_others_ends_as_fitted(
    tiny_llava_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def fitter(model: MultimodalModel, request: Request, progress: Any) -> Any:
        return fit(model, identity_request(), identity_settings(), progress).eraser

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(requests, "Fitting", lambda **_: fitter)
    CliRunner().invoke(app, ["example", "jane"])
    command = ["request", str(tiny_llava_path), "--forget", "jane", "--label", "case-17", "--init"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2 and "cannot be verified" in result.stderr
    with Ledger.open("mllmeraser.db") as book:
        assert book.get("case-17").state == "fitted"
    taken = CliRunner().invoke(app, command)
    assert taken.exit_code == 2 and "case-17" in taken.stderr
