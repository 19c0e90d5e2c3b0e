"""Load test of the service: errors, wrong answers, memory, and the cost of erasers and batches.

Servers (`mllmeraser serve`) are separate processes, and threads of this process are the clients. Each answer is
compared with the answer to the same request alone; a wrong set of erasers would give another answer. Throughput is
measured with the same requests at servers with erasers in force, without erasers, and with batches of one.

    python benchmarks/load.py --minutes 10
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from timing import speed_parser, speed_report, start, whole

from mllmeraser.api import erase, forget_split
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.models.loading import load_model
from mllmeraser.samples import Request
from mllmeraser.serving.ledger import Ledger
from mllmeraser.serving.ledger.erasers import add, artifact_from_folder

SELECTED = ("", "@one", "@two", "@one+two")
TOKENS = 16
WARM_SECONDS = 10.0
MINUTE = 60.0
UNITS = ("answers", "tokens")


def parser() -> argparse.ArgumentParser:
    """Arguments of the command line."""
    found = speed_parser("load", __doc__, "load.json")
    found.add_argument("--model", default="embedded:llava")
    found.add_argument("--clients", type=whole, default=32)
    found.add_argument("--minutes", type=float, default=10.0)
    found.add_argument("--ratio-seconds", type=float, default=60.0, help="seconds of each throughput")
    found.add_argument("--rounds", type=whole, default=2, help="measurements of each throughput, in turn")
    return found


@contextlib.contextmanager
def served(model: str, ledger: Path, *more: str) -> Iterator[tuple[str, str, int]]:
    """Start a server; yield its address, an admin's key and its process id."""
    port = 20000 + os.getpid() % 20000
    command = [sys.executable, "-m", "mllmeraser", "serve", model, "--init", "--ledger", f"sqlite:///{ledger}",
               "--port", str(port), "--rate", "1000000", "--max-queue", "256", *more]  # fmt: skip
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stderr=output, stdout=output)
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(1200):
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                        break
                if process.poll() is not None:
                    break
                time.sleep(0.1)
            output.seek(0)
            text = output.read()
            key = re.search(r"mk_[0-9a-f]{8}_\S+", text)
            if process.poll() is not None or key is None:
                raise SystemExit(f"the server did not start: {text[-2000:]}")
            yield url, key.group(0), process.pid
        finally:
            process.terminate()
            process.wait(60)


def bodies(model: str, selected: Sequence[str]) -> list[dict[str, Any]]:
    """Requests about people to forget and about others, by picture and by name."""
    benchmark = load_benchmark(BENCHMARK)
    gone = set(benchmark.forget_ids("forget_5", 0))
    rows = [s for s in benchmark.samples("test", "forget_5", 0) if s.task == "generation"]
    rows += [s for s in benchmark.samples("retain_heldout", "forget_5", 0) if s.task == "generation"][:200]
    chosen = [s for s in rows if s.subject in gone][::9][:8] + [s for s in rows if s.subject not in gone][::25][:8]
    found = []
    for sample in chosen:
        content: list[dict[str, Any]] = [{"type": "text", "text": sample.prompt}]
        if sample.image is not None:
            data = io.BytesIO()
            sample.image.save(data, "PNG")
            url = "data:image/png;base64," + b64encode(data.getvalue()).decode()
            content.insert(0, {"type": "image_url", "image_url": {"url": url}})
        messages = [{"role": "user", "content": content}]
        found += [{"model": model + names, "messages": messages, "max_tokens": TOKENS} for names in selected]
    return found


def alone(url: str, key: str, asked: Sequence[dict[str, Any]]) -> list[Any]:
    """The answer to each request without other load."""
    with _client(url, key) as client:
        return [client.post("/v1/chat/completions", json=body).json()["choices"] for body in asked]


def storm(
    url: str, key: str, asked: Sequence[dict[str, Any]], expected: Sequence[Any], clients: int, seconds: float, pid: int
) -> dict[str, Any]:
    """Run all clients at once for `seconds`."""
    statuses: Counter[str] = Counter()
    wrong: list[int] = []
    latencies: list[float] = []
    tokens: list[int] = []
    memory = [(0.0, resident(pid))]
    began = time.perf_counter()
    end = began + seconds

    def go(number: int) -> None:
        turn = number
        with _client(url, key) as client:
            while time.perf_counter() < end:
                turn = (turn + 7) % len(asked)
                at = time.perf_counter()
                try:
                    response = client.post("/v1/chat/completions", json=asked[turn])
                except httpx.HTTPError as error:
                    statuses[type(error).__name__] += 1
                    continue
                statuses[str(response.status_code)] += 1
                if response.status_code == 200:
                    latencies.append(time.perf_counter() - at)
                    answered = response.json()
                    tokens.append(answered["usage"]["completion_tokens"])
                    if answered["choices"] != expected[turn]:
                        wrong.append(turn)
                elif response.status_code == 429:
                    time.sleep(min(1.0, float(response.headers.get("retry-after", "1"))))

    threads = [threading.Thread(target=go, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    while time.perf_counter() < end:
        time.sleep(min(5.0, max(0.0, end - time.perf_counter())))
        memory.append((time.perf_counter() - began, resident(pid)))
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - began
    latencies.sort()
    quantile = lambda share: latencies[min(len(latencies) - 1, int(share * len(latencies)))]  # noqa: E731
    return {
        "seconds": spent, "answers": statuses["200"], "statuses": dict(statuses), "wrong": len(wrong),
        "answers_per_second": statuses["200"] / spent, "tokens_per_second": sum(tokens) / spent,
        "latency_seconds": {"median": quantile(0.5), "p95": quantile(0.95), "p99": quantile(0.99)},
        "resident_bytes": [{"at": at, "bytes": held} for at, held in memory[:: max(1, len(memory) // 60)]],
    }  # fmt: skip


def resident(pid: int) -> int:
    """Resident memory of a process in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory(readings: Sequence[dict[str, float]]) -> dict[str, float]:
    """Growth from the first minute to the last, by their medians, and at the highest moment.

    Short peaks are no growth: once a minute the server checks a key again, with a hash that takes 64 MiB.
    """
    end = readings[-1]["at"]
    first = median(one["bytes"] for one in readings if one["at"] <= MINUTE)
    last = median(one["bytes"] for one in readings if one["at"] >= end - MINUTE)
    return {"memory_growth": last / first - 1, "memory_highest": max(one["bytes"] for one in readings) / first - 1}


def _client(url: str, key: str) -> httpx.Client:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False)


def erasers(model: str, folder: Path) -> list[Path]:
    """One eraser for all six people of a split, and one each for two of them."""
    loaded, request = load_model(model), forget_split(BENCHMARK, "forget_5", 0)
    parts = {"default": request.subjects, "one": request.subjects[:1], "two": request.subjects[1:2]}
    found = []
    for name, subjects in parts.items():
        made = erase(loaded, Request(subjects))
        made.save_pretrained(folder / name)
        found.append(folder / name)
    return found


def main() -> None:
    """Measure, and write the results."""
    arguments = parser()
    args = arguments.parse_args()
    report = speed_report(arguments, args, model=args.model, clients=args.clients, minutes=args.minutes,
                          ratio_seconds=args.ratio_seconds, rounds=args.rounds)  # fmt: skip
    threads = ["--threads", str(args.threads)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made = erasers(args.model, folder)
        select(folder / "select.db", made[1:])
        with served(args.model, folder / "select.db", *threads) as (url, key, pid):
            asked = bodies(args.model, SELECTED)
            expected = alone(url, key, asked)
            storm(url, key, asked, expected, args.clients, WARM_SECONDS, pid)
            found = storm(url, key, asked, expected, args.clients, 60 * args.minutes, pid)
        different = len({json.dumps(answer) for answer in expected})
        report.add("storm", {**found, "different_answers": different, **memory(found["resident_bytes"])})
        print("storm", {k: v for k, v in report["storm"].items() if k != "resident_bytes"}, flush=True)
        report.add("throughput", throughput(args, made[0], folder, threads))
    print(json.dumps(report["throughput"]["ratios"], indent=1))


def throughput(args: argparse.Namespace, eraser: Path, folder: Path, threads: Sequence[str]) -> dict[str, Any]:
    """Answers and tokens per second of the same requests at servers of three kinds, in turn.

    Answers about a forgotten person are longer than the bare model's. This lowers answers per second, but not tokens
    per second.
    """
    ways = {
        "with erasers": ["--eraser", str(eraser)],
        "without": [],
        "one by one": ["--eraser", str(eraser), "--max-batch", "1"],
    }
    plain, rates = bodies(args.model, SELECTED[:1]), {way: [] for way in ways}
    for turn in range(args.rounds):
        for way, more in ways.items():
            ledger = folder / f"{turn}-{way.replace(' ', '-')}.db"
            with served(args.model, ledger, *threads, *more) as (url, key, pid):
                expected = alone(url, key, plain)
                storm(url, key, plain, expected, args.clients, WARM_SECONDS, pid)
                found = storm(url, key, plain, expected, args.clients, args.ratio_seconds, pid)
            rates[way].append({k: v for k, v in found.items() if k != "resident_bytes"})
            print(way, {unit: round(found[f"{unit}_per_second"], 1) for unit in UNITS}, flush=True)
    return {"rounds": rates, "ratios": {unit: _ratios(rates, f"{unit}_per_second") for unit in UNITS}}


def _ratios(rates: dict[str, list[dict[str, Any]]], what: str) -> dict[str, float]:
    middle = {way: median(one[what] for one in found) for way, found in rates.items()}
    return {
        "with_erasers_to_without": middle["with erasers"] / middle["without"],
        "batched_to_one_by_one": middle["with erasers"] / middle["one by one"],
    }


def select(ledger: Path, folders: Sequence[Path]) -> None:
    """Make a ledger with erasers that apply only to requests that select them by name."""
    with Ledger.open(str(ledger)) as book:
        for folder in folders:
            artifact = artifact_from_folder(folder)
            entry = add(book, artifact, folder.name, by="benchmark", tenant=None, default=False)
            book.activate(entry.id, by="benchmark", force="to be timed")


if __name__ == "__main__":
    start(parser(), main)
