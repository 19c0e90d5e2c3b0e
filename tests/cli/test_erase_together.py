"""`erase` on the shipped model, through the real command: killed and started again, alone and in two processes.

All five runs make the same eraser from the same request, to the bit.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sets_kit import table
from typer.testing import CliRunner

from mllmeraser.cli.app import app
from mllmeraser.portraits import World
from mllmeraser.portraits.prompts import default_retain, default_strangers, request_pictures
from mllmeraser.samples.sample import IMPERSONAL

pytestmark = [pytest.mark.embedded, pytest.mark.slow]

TOGETHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
FACTS, FACES = 480, 8
"""So many prompts in text that a threshold can be set, and pictures of so many people that faces can be told apart."""


@pytest.fixture(scope="module")
def request_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one person; some of the shipped retain prompts and strangers as tables."""
    folder, world = tmp_path_factory.mktemp("request"), World("dev")
    person = world.people[0]
    (folder / "jane").mkdir()
    for number, image in enumerate(request_pictures(world, person.key, 2)):
        image.save(folder / f"jane/{number}.png")
    facts = [s for s in default_retain(world, exclude=[person.name]) if s.attribute not in IMPERSONAL]
    text = [s for s in facts if s.image is None][:FACTS]
    people = list(dict.fromkeys(s.subject for s in facts if s.image is not None))[:FACES]
    shown = [[s for s in facts if s.image is not None and s.subject == who][:3] for who in people]
    table(folder / "retain.jsonl", [*text, *(s for some in shown for s in some)])
    table(folder / "strangers.jsonl", default_strangers(world)[:24])
    return folder


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def start(request_folder: Path) -> Iterable[Start]:
    """Starts the command on the request; nothing it started outlives the tests."""
    from mllmeraser.embedded import checkpoint_path

    try:
        checkpoint_path("llava")
    except ValueError as error:
        pytest.skip(f"the embedded weights are missing: {error}")
    running = []

    def begin(out: Path, *more: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = [
            sys.executable, *launcher, "-m", "mllmeraser", "erase", "embedded:llava", "--out", str(out), "--json",
            "--forget", "jane", "--name", "Jane Doe", "--retain", "retain.jsonl", "--strangers", "strangers.jsonl",
            "--threads", "1", "--accept", *more,
        ]  # fmt: skip
        found = subprocess.Popen(
            command,
            cwd=request_folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        running.append(found)
        return found

    yield begin
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="module")
def whole(start: Start, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """What one process makes that nobody disturbs and that keeps nothing on disk."""
    out = tmp_path_factory.mktemp("whole") / "eraser"
    summary, _ = ended(start(out))
    assert summary["processes"] == 1
    return load_file(out / "eraser_model.safetensors")


def ended(process: subprocess.Popen[str]) -> tuple[dict[str, object], str]:
    said, told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    return json.loads(said), told


def checkpoint(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.states.safetensors")) if folder.exists() else []


def wait_for(number: int, folder: Path, process: subprocess.Popen[str]) -> None:
    """Until so many batches are captured."""
    until = time.monotonic() + 240
    while len(checkpoint(folder)) < number:
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.02)


def worker_of(launcher: subprocess.Popen[str], rank: int) -> int:
    """Process id of one of the processes that a launcher has started."""
    for child in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    raise AssertionError(f"no process of rank {rank}")


def same(out: Path, expected: dict[str, torch.Tensor]) -> bool:
    found = load_file(out / "eraser_model.safetensors")
    assert found.keys() == expected.keys()
    return all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_killed_in_the_middle_and_started_again(start: Start, whole: dict[str, torch.Tensor], tmp_path: Path) -> None:
    out, work = tmp_path / "eraser", tmp_path / "work"
    first = start(out, "--work", str(work))
    wait_for(5, work, first)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    kept = {path: path.stat().st_mtime_ns for path in checkpoint(work)}
    assert first.returncode == -signal.SIGKILL and not out.exists() and len(kept) >= 5
    summary, told = ended(start(out, "--work", str(work), "--keep-work"))
    found = re.findall(rf"(\d+) of (\d+) batches are in {re.escape(str(work))} already", told)
    assert [sum(map(int, column)) for column in zip(*found, strict=True)] == [len(kept), len(checkpoint(work))]
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items()), "finished batches are not made anew"
    assert same(out, whole) and summary["processes"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="finds a worker through /proc")
def test_two_processes_one_of_which_dies(start: Start, whole: dict[str, torch.Tensor], tmp_path: Path) -> None:
    out, work = tmp_path / "eraser", tmp_path / "work"
    first = start(out, "--work", str(work), launcher=TOGETHER)
    wait_for(4, work, first)
    os.kill(worker_of(first, 1), signal.SIGKILL)
    _, told = first.communicate(timeout=120)
    lines = [line for line in told.splitlines() if line.startswith("mllmeraser: ")]
    assert first.returncode != 0 and not out.exists()
    assert len(lines) == 1 and "another of the 2 processes" in lines[0] and "start the same command again" in lines[0]
    kept = len(checkpoint(work))
    assert kept >= 4
    summary, told = ended(start(out, "--work", str(work), "--processes", "2", launcher=TOGETHER))
    assert told.count("2 processes capture states") == 1 and summary["processes"] == 2
    assert same(out, whole)
    assert not work.exists(), "states are deleted once the eraser is made"


def test_a_launcher_that_starts_one_process_is_found_out(
    request_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    told = CliRunner().invoke(
        app,
        ["erase", "embedded:llava", "--forget", str(request_folder / "jane"), "--out", str(tmp_path / "eraser"),
         "--threads", str(torch.get_num_threads()), "--processes", "2"],
    )  # fmt: skip
    assert told.exit_code == 2 and "2 processes were asked for, and 1 started" in told.stderr
