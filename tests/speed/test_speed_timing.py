"""What the speed benchmarks share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import timing
from speed_kit import SCRIPTS

from mllmeraser.version import __version__

NAMES = ("speed_algebra", "speed_shift", "speed_model")


def test_rounds_turn_around_and_only_the_call_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now, said = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def side(name: str, seconds: float) -> timing.Prepared:
        @contextmanager
        def opened() -> Iterator[object]:
            now[0] += 100.0
            yield run
            now[0] += 100.0

        def run() -> None:
            said.append(name)
            now[0] += seconds

        return opened  # type: ignore[return-value]

    waits: list[None] = []
    sides = {"a": side("a", 1.0), "b": side("b", 2.0)}
    found = timing.interleaved(sides, 3, warmup=1, wait=lambda: waits.append(None))
    assert found == {"a": [1.0] * 3, "b": [2.0] * 3}
    assert "".join(said) == "baabbaab", "the warm-up, then A B, B A, A B"
    assert len(waits) == 2 * len(said), "the device is waited for before and after every call"


def test_the_ratio_is_that_of_pairs() -> None:
    slow_spell = [1.0, 1.0, 10.0, 1.0, 1.0]
    found = timing.ratio([3.0 * s for s in slow_spell], slow_spell)
    assert found == pytest.approx({"median": 3.0, "low": 3.0, "high": 3.0})
    noisy = timing.ratio([1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5)
    assert noisy["low"] < noisy["median"] == 3.0 < noisy["high"]
    assert noisy == timing.ratio([1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5), "seeded"
    for above, below in (([], []), ([1.0], [1.0, 2.0])):
        with pytest.raises(ValueError, match="pairs"):
            timing.ratio(above, below)


@pytest.mark.parametrize("name", NAMES)
def test_help_says_what_is_measured(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = __import__(name)
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    assert f"benchmarks/{name}.py" in told and module.__doc__.splitlines()[0] in told
    assert {"--out", "--threads", "--seed", "--repeats"} <= set(told.replace("[", " ").split())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [["--threads", "0"], ["--repeats", "none"], ["--nothing"]])
def test_wrong_arguments_end_with_code_2(name: str, wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        __import__(name).main(wrong)
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_a_script_starts_anew_with_its_threads(tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    arguments = ["--widths", "16", "--repeats", "1", "--threads", "1", "--out", str(out)]
    environment = {k: v for k, v in os.environ.items() if k not in timing.POOLS}
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "speed_algebra.py"), *arguments],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text(encoding="utf-8"))["provenance"]
    assert report["version"] == __version__ and ", 1 threads" in report["hardware"]
    assert done.stdout.startswith("d = 16: ")
    wanted = "python benchmarks/speed_algebra.py --widths 16 --repeats 1 --warmup 1 --threads 1 --seed 0"
    assert report["command"] == wanted
