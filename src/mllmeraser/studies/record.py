"""The file of a study: what was run where, and its entries; a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.files import write_whole
from mllmeraser.version import __version__

SAME = ("command", "version", "fingerprint", "seed")
"""What has to be alike for the entries of an earlier run to count."""


class Report:
    """Entries by key, written after each.

    Attributes:
        out: The file.
        head: Command, version, commit, fingerprint of the weights, hardware and seed.
    """

    def __init__(self, out: Path, command: str, seed: int, model: MultimodalModel | None, *, fresh: bool) -> None:
        """Begin, or go on with what an earlier run of the same command on the same weights has left.

        Args:
            out: Where to write.
            command: What anybody has to run for the same result.
            seed: Of everything random.
            model: Whose weights it is about, if it is about any.
            fresh: Whether to measure everything anew.
        """
        self.out = out
        self.head: dict[str, Any] = {
            "command": command,
            "version": __version__,
            "commit": _commit(),
            "fingerprint": None if model is None else model.fingerprint(),
            "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
            "seed": seed,
        }
        self._entries = {} if fresh else self._earlier()

    def _earlier(self) -> dict[str, dict[str, Any]]:
        if not self.out.exists():
            return {}
        report = json.loads(self.out.read_text(encoding="utf-8"))
        if any(report.get(key) != self.head[key] for key in SAME):
            return {}
        return {entry["key"]: entry for entry in report["results"]}

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._entries[key]

    def add(self, key: str, entry: Mapping[str, Any]) -> None:
        """Keep an entry, and write the file whole."""
        self._entries[key] = {"key": key, **entry}
        text = json.dumps({**self.head, "results": list(self._entries.values())}, indent=1)
        write_whole(self.out, text + "\n", force=True)


def study_parser(module: str, doc: str | None, out: str) -> ArgumentParser:
    """The arguments that every study has; ``out`` is the default file, in which NAME stands for the model."""
    parser = ArgumentParser(prog=f"python -m mllmeraser.studies.{module}", description=(doc or "").splitlines()[0])
    parser.add_argument("--model", default="embedded:llava")
    parser.add_argument("--out", type=Path, help=f"default: benchmarks/results/{out}")
    parser.add_argument("--force", action="store_true", help="measure anew what OUT holds already")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(file=out)
    return parser


def report_of(parser: ArgumentParser, args: Namespace, model: MultimodalModel, **stated: object) -> Report:
    """The report that the arguments of a study ask for; ``stated`` are further arguments its command has."""
    short = args.model.rpartition(":")[2].rpartition("/")[2]
    more = "".join(f" --{name.replace('_', '-')} {value}" for name, value in stated.items())
    command = f"{parser.prog} --model {args.model}{more} --seed {args.seed}"
    out = args.out or Path("benchmarks/results", args.file.replace("NAME", short))
    return Report(out, command, args.seed, model, fresh=args.force)


def _commit() -> str | None:
    """The commit that is checked out, with a plus sign where files differ from it; None outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (
            "+" if git("status", "--porcelain", "--", str(here.parent)) else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None
