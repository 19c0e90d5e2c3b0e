"""Erasers on the hub: the real client against a local stand-in of the hub, in a process that knows no other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_stand_in import Hub, hub
from test_artifact import make

from mllmeraser.erasure.artifact.eraser import CONFIG_FILE, TENSOR_FILE
from mllmeraser.erasure.artifact.model_card import card_of

TOKEN = "hf_local"


@pytest.fixture
def local_hub() -> Iterator[Hub]:
    with hub(TOKEN) as found:
        yield found


def told(local: Hub, home: Path, code: str, *, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    """Run code in a process whose hub is the stand-in, with a cache of its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = {
        **kept, "HF_ENDPOINT": local.address, "HF_HOME": str(home), "HF_TOKEN": token, "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)


def pushed(local: Hub, folder: Path, home: Path, repo: str, *, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    code = f"from mllmeraser import Eraser; print(Eraser.from_pretrained({str(folder)!r}).push_to_hub({repo!r}))"
    return told(local, home, code, token=token)


def test_an_eraser_comes_back_from_the_hub_as_it_went(local_hub: Hub, tmp_path: Path) -> None:
    eraser = make()
    folder = eraser.save_pretrained(tmp_path / "e")
    done = pushed(local_hub, folder, tmp_path / "home", "me/jane")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{local_hub.address}/me/jane/commit/{local_hub.sha('me/jane')}"
    assert local_hub.private["me/jane"] and len(local_hub.repos["me/jane"]) == 2, "one commit after the first"
    files = local_hub.files("me/jane")
    assert files is not None and {CONFIG_FILE, TENSOR_FILE, "README.md"} <= files.keys()
    assert b"library_name: mllmeraser" in files["README.md"] and b'from_pretrained("me/jane")' in files["README.md"]

    files["evil.bin"] = b"not wanted"
    local_hub.fetched.clear()
    back = told(
        local_hub,
        tmp_path / "other",
        "from mllmeraser import Eraser; print(Eraser.from_pretrained('me/jane').digest())",
    )
    assert back.returncode == 0, back.stderr
    assert back.stdout.strip() == eraser.digest()
    assert set(local_hub.fetched) == {CONFIG_FILE, TENSOR_FILE}, "nothing else is fetched"


def test_a_revision_is_the_one_that_was_asked_for(local_hub: Hub, tmp_path: Path) -> None:
    first, second = make(), make(subjects=2)
    for number, eraser in enumerate((first, second)):
        folder = eraser.save_pretrained(tmp_path / str(number))
        assert pushed(local_hub, folder, tmp_path / "home", "me/jane").returncode == 0
        if number == 0:
            revision = local_hub.sha("me/jane")
    code = (
        "from mllmeraser import Eraser\n"
        f"print(Eraser.from_pretrained('me/jane', revision={revision!r}).digest())\n"
        "print(Eraser.from_pretrained('me/jane').digest())"
    )
    found = told(local_hub, tmp_path / "other", code)
    assert found.stdout.split() == [first.digest(), second.digest()], found.stderr


def test_what_the_hub_refuses_is_one_clear_line(local_hub: Hub, tmp_path: Path) -> None:
    folder = make().save_pretrained(tmp_path / "e")
    wrong = pushed(local_hub, folder, tmp_path / "home", "me/jane", token="hf_wrong")
    assert wrong.returncode != 0 and not local_hub.repos
    assert wrong.stderr.strip().splitlines()[-1].startswith("mllmeraser.samples.errors.InputError: me/jane: cannot be ")
    code = "from mllmeraser import Eraser; Eraser.from_pretrained('me/nobody')"
    missing = told(local_hub, tmp_path / "home", code)
    last = missing.stderr.strip().splitlines()[-1]
    assert missing.returncode != 0 and "me/nobody: neither a folder nor a repository of the hub" in last


def test_the_card_states_what_was_measured_and_names_nobody() -> None:
    eraser = make()
    card = card_of(eraser.config, "me/jane")
    assert card.startswith("---\n") and "base_model" not in card, "a folder is no repository of the hub"
    assert "| forgotten prompts recognised | 90.0 % |" in card and "6 subjects" in card
    assert not any(key in card for key in eraser.config.subjects)
    other = card_of(eraser.config.model_copy(update={"base_model": "llava-hf/llava-1.5-7b-hf"}), "me/jane")
    assert "base_model: llava-hf/llava-1.5-7b-hf" in other
