"""Shared by the speed benchmarks: interleaved timing, ratios of pairs with an interval, and a report file."""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median
from typing import NoReturn

import numpy as np
import torch

from mllmeraser.studies.record import Report

RESULTS = Path("benchmarks/results")
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that set the number of threads of linear algebra in torch and numpy when they load."""


def speed_parser(script: str, doc: str | None, out: str) -> ArgumentParser:
    """The arguments of every speed benchmark. `out` is the default file under ``benchmarks/results/``."""
    parser = ArgumentParser(prog=f"python benchmarks/{script}.py", description=(doc or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help=f"default: {RESULTS / out}")
    parser.add_argument("--threads", type=whole, default=1, help="threads of all linear algebra (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(file=out)
    return parser


def whole(text: str) -> int:
    """A number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def cuda_or_cpu(text: str) -> str:
    """An existing device, for argparse."""
    kind = text.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ArgumentTypeError(f"{text}: cpu or cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ArgumentTypeError(f"{text}: there is no CUDA device")
    return text


def refuse(parser: ArgumentParser, reason: str) -> NoReturn:
    """Exit with code 2 and one line that says why."""
    parser.exit(2, f"{parser.prog}: {reason}\n")


def start(parser: ArgumentParser, main: Callable[[], None]) -> None:
    """Run `main` in a process that set ``--threads`` before its BLAS libraries were loaded."""
    threads = str(parser.parse_args().threads)
    if any(os.environ.get(pool) != threads for pool in POOLS):
        os.environ.update(dict.fromkeys(POOLS, threads))
        os.execv(sys.executable, [sys.executable, *sys.argv])
    main()


def speed_report(parser: ArgumentParser, args: Namespace, **stated: object) -> Report:
    """A new report for the parsed arguments. `stated` are further arguments of its command."""
    torch.set_num_threads(args.threads)
    more = "".join(f" --{name.replace('_', '-')} {value}" for name, value in stated.items() if value is not None)
    command = f"{parser.prog}{more} --threads {args.threads} --seed {args.seed}"
    device = str(stated.get("device", "cpu"))
    return Report(args.out or RESULTS / args.file, command, args.seed, None, fresh=True, device=device)


def synchronise(device: str) -> Callable[[], None]:
    """A function that waits for `device`. On a CPU it does nothing."""
    return torch.cuda.synchronize if torch.device(device).type == "cuda" else _nothing


def _nothing() -> None:
    """Do nothing: a CPU is done when the call returns."""


Prepared = Callable[[], AbstractContextManager[Callable[[], object]]]
"""A context that yields the function to time. Entering and leaving it do not count."""


def interleaved(
    sides: Mapping[str, Prepared], repeats: int, *, warmup: int = 1, wait: Callable[[], None] = _nothing
) -> dict[str, list[float]]:
    """Seconds of every repeat of every side, in rounds: A B, B A, A B, ... so that a slow moment affects all sides.

    Args:
        sides: What to time, by name.
        repeats: Rounds that count.
        warmup: Rounds before them, which do not count.
        wait: Waits for the device before the clock starts and before it stops.
    """
    names = list(sides)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warmup, repeats):
        for name in names if number % 2 == 0 else reversed(names):
            with sides[name]() as run:
                wait()
                began = time.perf_counter()
                run()
                wait()
                seconds = time.perf_counter() - began
            if number >= 0:
                found[name].append(seconds)
    return found


def unprepared(run: Callable[[], object]) -> Prepared:
    """A side without preparation."""
    return lambda: nullcontext(run)


def ratio(above: Sequence[float], below: Sequence[float], *, seed: int = 0, draws: int = 4000) -> dict[str, float]:
    """Median of the ratios above/below of each round, with its 95 % bootstrap percentile interval over rounds."""
    if len(above) != len(below) or not above:
        raise ValueError(f"{len(above)} and {len(below)} repeats make no pairs")
    pairs = np.asarray(above) / np.asarray(below)
    drawn = np.random.default_rng(seed).choice(pairs, (draws, len(pairs)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return {"median": float(np.median(pairs)), "low": float(low), "high": float(high)}


def summary(seconds: Sequence[float]) -> dict[str, object]:
    """Times for a result file: median and every repeat, in seconds."""
    return {"median": median(seconds), "repeats": [round(s, 7) for s in seconds]}
