"""What a run that was stopped has to find again: names of the weights, its folder, its tokenizer."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mllmeraser.embedded import WEIGHTS
from mllmeraser.embedded.recipe.sentences import tokenizer_texts
from mllmeraser.embedded.recipe.tokenizer import IMAGE, chat_template
from mllmeraser.embedded.train import ARCHITECTURES, main, parse_arguments
from mllmeraser.portraits import World


@pytest.mark.parametrize(
    ("name", "digest"),
    [("llava", "ae8bd8dc5cbe"), ("qwen2.5-vl", "ab850e02f7d9")],
)
def test_parameters_keep_their_names_and_shapes(name: str, digest: str) -> None:
    """State files and checkpoints hold them by name."""
    made = ARCHITECTURES[name]
    model = made.build_model(made.train_tokenizer(tokenizer_texts(World("unit", 0), 0, n=4000)), 0)
    named = [(key, tuple(p.shape)) for key, p in model.named_parameters()]
    assert hashlib.sha256(repr(named).encode()).hexdigest()[:12] == digest


def test_the_chat_template_is_that_of_the_shipped_llava() -> None:
    assert chat_template(IMAGE) == (WEIGHTS / "llava" / "chat_template.jinja").read_text()


def test_every_model_has_a_folder_of_its_own() -> None:
    folders = [parse_arguments(["--model", name]).runs for name in ARCHITECTURES]
    assert folders == [Path("runs/dev"), Path("runs/qwen2.5-vl")] and parse_arguments([]).model == "llava"


def test_a_folder_of_another_model_is_refused(tmp_path: Path) -> None:
    qwen = ARCHITECTURES["qwen2.5-vl"]
    qwen.train_tokenizer(["Who is this?"]).save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(SystemExit, match="another --model than llava"):
        main(["--preset", "unit", "--runs", str(tmp_path)])
