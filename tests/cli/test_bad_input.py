"""Bad input through the real command line: one line on standard error, exit code 2, nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result
from worlds import quick, small_request

from mllmeraser.cli.app import app
from mllmeraser.erasure import fit
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.settings import PRESETS
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from tiny import build_llava, picture

Make = Callable[[Path], list[str]]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(result: Result, *words: str) -> None:
    """Exit code 2, nothing on standard output, one line that says these words."""
    assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, lines
    assert result.stdout == ""
    for word in words:
        assert word.casefold() in lines[0].casefold(), (word, lines[0])


@pytest.fixture(scope="module")
def eraser_folder(tiny_llava: MultimodalModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "jane.eraser"
    return fit(tiny_llava, small_request(), quick()).eraser.save_pretrained(folder)


@pytest.fixture
def jane(tmp_path: Path) -> Path:
    folder = tmp_path / "jane"
    folder.mkdir()
    picture(3).save(folder / "1.png")
    return folder


def test_a_missing_image(tiny_llava_path: Path) -> None:
    refused(run("ask", tiny_llava_path, "Who is this?", "--image", "nowhere.png"), "nowhere.png")


def test_an_unreadable_image(tiny_llava_path: Path, jane: Path, tmp_path: Path) -> None:
    (jane / "2.png").write_bytes(b"\x89PNG but not really")
    refused(run("erase", tiny_llava_path, "--forget", jane, "--out", tmp_path / "e"), "2.png")
    assert not (tmp_path / "e").exists()


def test_an_empty_forget_set(tiny_llava_path: Path, tmp_path: Path) -> None:
    (tmp_path / "nobody").mkdir()
    refused(run("erase", tiny_llava_path, "--forget", tmp_path / "nobody", "--out", tmp_path / "e"), "nobody")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nobody"]


def test_forget_and_retain_share_a_sample(tiny_llava_path: Path, jane: Path, tmp_path: Path) -> None:
    shutil.copytree(jane, tmp_path / "others")
    result = run("erase", tiny_llava_path, "--forget", jane, "--retain", tmp_path / "others", "--out", tmp_path / "e")
    refused(result, "share a sample")
    assert not (tmp_path / "e").exists()


def test_answerless_samples_where_answers_are_needed(tiny_llava_path: Path, tmp_path: Path) -> None:
    from mllmeraser.erasure.settings import DirectionSettings
    from mllmeraser.samples.errors import InputError

    request = small_request()
    bare = [s.__class__(s.question, s.image, subject=s.subject) for s in request.forget]
    request = request.from_samples(bare, request.retain, request.strangers)
    with pytest.raises(InputError, match="answers"):
        fit(load_model(str(tiny_llava_path)), request, quick(direction=DirectionSettings(kind="idk")))


def test_a_benchmark_without_answers(tiny_llava_path: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"ID": "1", "question": "Who?", "answer": None, "task": "generation", "modality": "text"}]
    for config in ("general", "holdout"):
        (tmp_path / "data" / config).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data" / config / "a.parquet")
    result = run("evaluate", tiny_llava_path, "--benchmark", tmp_path / "data", "--set", "general",
                 "--out", tmp_path / "s.json")  # fmt: skip
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "s.json").exists()


def test_an_unknown_model_family(tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    refused(run("models", "check", folder), "bert", "llava")


def test_an_unknown_embedded_model() -> None:
    refused(run("ask", "embedded:nothing", "Who is this?"), "nothing")


def test_a_model_that_is_not_there() -> None:
    refused(run("ask", "no/such/folder/at/all", "Who is this?"))


def test_an_eraser_made_for_another_model(eraser_folder: Path, tmp_path: Path) -> None:
    other = build_llava(tmp_path / "other", seed=7)
    refused(run("ask", other, "Who is this?", "--eraser", eraser_folder), "other weights")


def test_a_truncated_eraser(tiny_llava_path: Path, eraser_folder: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(eraser_folder, tmp_path / "broken.eraser"))
    file = broken / "eraser_model.safetensors"
    file.write_bytes(file.read_bytes()[:-40])
    refused(run("ask", tiny_llava_path, "Who is this?", "--eraser", broken), "truncated")


def test_a_corrupt_checkpoint(tmp_path: Path) -> None:
    folder = build_llava(tmp_path / "model")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    refused(run("ask", folder, "Who is this?"))


@pytest.mark.parametrize(
    ("change", "word"),
    [({"format_version": 99}, "upgrade mllmeraser"), ({"shift_layers": [3, 40]}, "was changed after it was written")],
)
def test_a_manifest_of_the_future_or_of_another_depth(
    tiny_llava_path: Path, eraser_folder: Path, tmp_path: Path, change: dict[str, object], word: str
) -> None:
    folder = Path(shutil.copytree(eraser_folder, tmp_path / "odd.eraser"))
    config = json.loads((folder / "eraser_config.json").read_text())
    (folder / "eraser_config.json").write_text(json.dumps({**config, **change}))
    refused(run("ask", tiny_llava_path, "Who is this?", "--eraser", folder), word)


def test_a_folder_that_is_no_eraser(tiny_llava_path: Path, jane: Path) -> None:
    refused(run("ask", tiny_llava_path, "Who is this?", "--eraser", jane))


@pytest.mark.slow
def test_states_that_are_not_numbers(tmp_path: Path, jane: Path) -> None:
    folder = build_llava(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    name = next(n for n in weights if "layers.1" in n and "down_proj" in n and "vision" not in n)
    weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    result = run("erase", folder, "--forget", jane, "--name", "Jane Doe", "--out", tmp_path / "e", "--shipped-retain")
    assert result.exit_code == 2
    *notes, error = result.stderr.strip().splitlines()
    assert "NaN or infinite" in error
    assert all("the shipped" in line for line in notes), "the default sets are announced, and nothing else"
    assert not (tmp_path / "e").exists()


def test_an_output_that_stands_already(tiny_llava_path: Path, jane: Path, tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "thesis.txt").write_text("years of work")
    refused(run("erase", tiny_llava_path, "--forget", jane, "--out", tmp_path / "e"), "exists already")
    refused(run("erase", tiny_llava_path, "--forget", jane, "--out", tmp_path / "e", "--force"), "not a result")
    assert (tmp_path / "e" / "thesis.txt").read_text() == "years of work"


def test_an_unknown_preset_split_and_benchmark(tiny_llava_path: Path, jane: Path, tmp_path: Path) -> None:
    refused(run("erase", tiny_llava_path, "--forget", jane, "--out", tmp_path / "e", "--preset", "best"), "best")
    out = tmp_path / "s.json"
    refused(run("evaluate", tiny_llava_path, "--benchmark", "portraits:huge", "--out", out), "huge")
    result = run("evaluate", tiny_llava_path, "--benchmark", "portraits:unit", "--split", "forget_7", "--out", out)
    refused(result, "forget_7")
    assert not out.exists()


def test_an_empty_question(tiny_llava_path: Path) -> None:
    refused(run("ask", tiny_llava_path, "   "), "question")


def test_usage_errors_are_one_line_too() -> None:
    refused(run("erase", "embedded:llava"), "--forget")
    refused(run("fly"), "fly")


def test_an_eraser_answers_and_reads_its_gate(tiny_llava_path: Path, eraser_folder: Path) -> None:
    result = run("ask", tiny_llava_path, "Who is this?", "--eraser", eraser_folder, "--json", "--max-new-tokens", 3)
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    (reading,) = answer["readings"]
    assert reading["eraser"] == "jane.eraser"
    assert reading["fired"] == (reading["score"] > reading["threshold"])
    assert Eraser.from_pretrained(eraser_folder).config.read_layers == tuple(int(k) for k in reading["layers"])


@pytest.mark.parametrize(
    "command",
    ["demo", "erase", "ask", "evaluate", "models list", "models check", "compare", "search", "exhibit", "serve",
     "gradio", "certificate check", "certificate print", "certificate key", "ledger add", "ledger keys list"],
)  # fmt: skip
def test_help_has_examples_everywhere(command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    examples = " ".join(result.stdout.split("Examples:")[1].split())
    assert f"mllmeraser {command}" in examples


def test_help_names_every_preset_and_keeps_brackets() -> None:
    assert all(f"{preset}" in run("erase", "--help").stdout for preset in PRESETS)
    assert "pip install 'mllmeraser[demo]'" in run("gradio", "--help").stdout
    assert "pip install 'mllmeraser[telemetry]'" in run("serve", "--help").stdout
