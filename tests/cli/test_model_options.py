"""How a model is loaded, through the real commands: what the options say holds, and erasers know the difference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner
from worlds import quick, small_request

from mllmeraser.cli.app import app
from mllmeraser.erasure import fit
from mllmeraser.models.model import MultimodalModel

COMMANDS = (["erase"], ["ask"], ["evaluate"], ["serve"], ["models", "check"])


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_that_loads_a_model_has_the_options(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, said, _ = run(*command, "--help")
    assert code == 0
    for option in ("--revision", "--dtype", "--quantization", "--device", "--device-map", "--adapter"):
        assert option in said
    assert "--quantise" not in said


def test_what_the_options_say_holds(tiny_llava_path: Path) -> None:
    code, said, _ = run("models", "check", tiny_llava_path, "--dtype", "bfloat16", "--json")
    found = json.loads(said)
    assert (code, found["precision"], found["ok"]) == (0, "bfloat16", True)
    code, said, _ = run("models", "check", tiny_llava_path, "--json")
    assert json.loads(said)["precision"] == "float32"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--dtype", "int64"], "unknown dtype"),
        (["--quantization", "int3"], "known are int8, nf4"),
        (["--quantise", "int3"], "known are int8, nf4"),
        (["--device", "abacus"], "unknown device"),
        (["--device", "cpu", "--device-map", "auto"], "not both"),
        (["--adapter", "no-such/adapter"], "no-such/adapter"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_bad_options_are_one_line(tiny_llava_path: Path, options: list[str], said: str) -> None:
    code, out, err = run("ask", tiny_llava_path, "Who is this?", *options)
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1)
    assert said in err


def test_an_eraser_of_full_weights_is_refused_on_others(
    tiny_llava: MultimodalModel, tiny_llava_path: Path, tmp_path: Path
) -> None:
    folder = fit(tiny_llava, small_request(), quick()).eraser.save_pretrained(tmp_path / "jane.eraser")
    asked = ("ask", tiny_llava_path, "Who is this?", "--eraser", folder)
    assert run(*asked)[0] == 0
    code, out, err = run(*asked, "--dtype", "bfloat16")
    assert (code, out) == (2, "")
    assert "in float32, and this model is in bfloat16" in err
