"""The result file of a study: provenance and entries. A stopped run continues where it ended."""

from __future__ import annotations

import json
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mllmeraser.benchmarks import Benchmark, load_benchmark
from mllmeraser.evaluation.provenance import BLOCK, provenance
from mllmeraser.models import MultimodalModel, load_model
from mllmeraser.portraits.taught import benchmark_of
from mllmeraser.samples.files import write_whole

SAME = ("command", "version", "seed")
"""What must be equal, beside the fingerprint, before the entries of an earlier run count."""


class Report:
    """Entries by key, written to `out` after each, under a head of provenance and the fingerprint of the weights."""

    def __init__(
        self, out: Path, command: str, seed: int, model: MultimodalModel | None, *, fresh: bool, device: str = "cpu"
    ) -> None:
        """Start, or (unless ``fresh``) continue after an earlier run of the same command on the same weights."""
        self.out = out
        self.head: dict[str, Any] = {
            BLOCK: provenance(command, seed, device=device),
            "fingerprint": None if model is None else model.fingerprint(),
        }
        self._entries = {} if fresh else self._earlier()

    def _earlier(self) -> dict[str, dict[str, Any]]:
        """The entries of an earlier run; the commits of those runs are added to the block."""
        if not self.out.exists():
            return {}
        report, now = json.loads(self.out.read_text(encoding="utf-8")), self.head[BLOCK]
        before = report.get(BLOCK, {})
        if report.get("fingerprint") != self.head["fingerprint"] or any(before.get(k) != now[k] for k in SAME):
            return {}
        commits = {*before.get("earlier_commits", ()), before["commit"]} - {now["commit"], None}
        if commits:
            now["earlier_commits"] = sorted(commits)
        return {entry["key"]: entry for entry in report["results"]}

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._entries[key]

    def add(self, key: str, entry: Mapping[str, Any]) -> None:
        """Keep an entry and write the file."""
        self._entries[key] = {"key": key, **entry}
        text = json.dumps({**self.head, "results": list(self._entries.values())}, indent=1)
        write_whole(self.out, text + "\n", force=True)


def study_parser(module: str, doc: str | None, out: str, *, split: bool = False, fold: bool = False) -> ArgumentParser:
    """The arguments of every study. ``out`` is the default file; NAME in it is replaced by the model's name,
    FOLD by the fold.

    ``split`` and ``fold`` add options for the people to forget.
    """
    parser = ArgumentParser(prog=f"python -m mllmeraser.studies.{module}", description=(doc or "").splitlines()[0])
    parser.add_argument("--model", default="embedded:llava")
    parser.add_argument("--out", type=Path, help=f"default: benchmarks/results/{out}")
    parser.add_argument("--force", action="store_true", help="measure again what OUT already holds")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, default=0)
    if split:
        parser.add_argument("--split", default="forget_5")
    if split or fold:
        parser.add_argument("--fold", type=int, default=0)
    parser.set_defaults(file=out)
    return parser


def begin(
    parser: ArgumentParser, argv: list[str] | None, *stated: str
) -> tuple[Namespace, MultimodalModel, Benchmark, Report]:
    """Parse the arguments, load model and benchmark, and open the report.

    The command in the report names the arguments ``stated``, beside model and seed.
    """
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model, benchmark = load_model(args.model), load_benchmark(benchmark_of(args.model))
    return args, model, benchmark, report_of(parser, args, model, *stated)


def report_of(parser: ArgumentParser, args: Namespace, model: MultimodalModel, *stated: str) -> Report:
    """The report for the arguments of a study."""
    more = "".join(f" --{name.replace('_', '-')} {getattr(args, name)}" for name in stated)
    command = f"{parser.prog} --model {args.model}{more} --seed {args.seed}"
    short = args.model.rpartition(":")[2].rpartition("/")[2]
    file = args.file.replace("NAME", short).replace("FOLD", str(getattr(args, "fold", "")))
    out = args.out or Path("benchmarks/results", file)
    return Report(out, command, args.seed, model, fresh=args.force)
