"""Where a result comes from: the block `provenance` that every result file carries."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mllmeraser.version import __version__

BLOCK = "provenance"
"""Key of the block in a result file."""
ROOT = Path(__file__).parents[3]
MEASURED = ("src", "benchmarks", "tools", "recipes", ":!benchmarks/results")
"""Files that count for a clean tree: everything that can change a result, but not the results."""


def provenance(command: str, seed: int | Sequence[int], *, device: str = "cpu") -> dict[str, Any]:
    """Command, version, commit, hardware and seed of the present run.

    `clean` is False if the code differs from the commit. Outside a checkout both are None.
    """
    commit, clean = _commit()
    return {
        "command": command,
        "version": __version__,
        "commit": commit,
        "clean": clean,
        "hardware": hardware(device),
        "seed": seed if isinstance(seed, int) else list(seed),
        "recorded": "by the run",
    }


def hardware(device: str = "cpu") -> str:
    """Processor, architecture, threads and torch, in one line."""
    return f"{processor(device)}, {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def processor(device: str = "cpu") -> str:
    """Name of the GPU, or of the CPU with the number of its cores."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(torch.device(device))
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux, or a CPU without a name
    return f"{name} ({os.cpu_count()} cores)"


def _commit() -> tuple[str | None, bool | None]:
    """The checked-out commit, and whether the code equals it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # a package installed below another checkout has no commit
        return git("rev-parse", "--short", "HEAD"), not git("status", "--porcelain", "--", *MEASURED)
    except (OSError, subprocess.CalledProcessError):
        return None, None
