"""The command itself, killed in the middle of its work and started again: nothing is lost, nothing is unsteered."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from server_kit import asked, free_port, install, loud_eraser, png, wait_for
from sets_kit import options

from mllmeraser.models.model import MultimodalModel
from mllmeraser.serving.ledger import Ledger
from tiny import brief, picture

BODY = {"model": "tiny", "messages": asked("Who?"), "max_tokens": 6}


EACH = """
import json, os, sys
from mllmeraser.__main__ import main
for variables, sys.argv[1:] in json.loads(sys.argv[1]):
    os.environ.update(variables)
    try:
        main()
    except SystemExit as ended:
        print(ended.code)
"""


class Process:
    """`mllmeraser serve` as a process of its own."""

    def __init__(self, model: Path, ledger: Path, key: str | None, *more: str) -> None:
        port = free_port()
        command = [sys.executable, "-m", "mllmeraser", "serve", str(model), "--name", "tiny", "--init", "--ledger",
                   f"sqlite:///{ledger}", "--port", str(port), "--threads", "1", "--max-tokens", "64",
                   *more]  # fmt: skip
        self.lines: list[str] = []
        self.process = subprocess.Popen(command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()
        self.url = f"http://127.0.0.1:{port}"
        wait_for(self._ready)
        self.key = key or self._printed()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError("".join(self.lines))
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        return False

    def _printed(self) -> str:
        found = re.search(r"mk_[0-9a-f]{8}_\S+", "".join(self.lines))
        assert found is not None, self.lines
        return found.group(0)

    def client(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=240, trust_env=False)

    def kill(self) -> None:
        """As the machine's owner does it: no goodbye."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


@contextmanager
def serving(model: Path, ledger: Path, key: str | None = None, *more: str) -> Iterator[Process]:
    """A process that is gone when the block ends."""
    found = Process(model, ledger, key, *more)
    try:
        yield found
    finally:
        with suppress(ProcessLookupError):
            os.kill(found.process.pid, signal.SIGKILL)
        found.process.wait(30)


def check(ledger: Path) -> None:
    with Ledger.open(str(ledger)) as book:
        report = book.verify_chain()
        assert report.ok, report.why


@pytest.mark.slow
@pytest.mark.timeout(600)  # three starts, two fits and two verifications
def test_what_was_killed_is_done_after_the_next_start(tiny_llava_path: Path, tmp_path: Path) -> None:
    """Killed while it fits, then while it verifies; the third process finishes."""
    ledger, key, id, folder = tmp_path / "l.db", None, "", brief(tiny_llava_path, tmp_path / "brief")
    sets = options(tmp_path / "sets")
    for during in ("fit", "verify"):
        with serving(folder, ledger, key, *sets) as server, server.client() as client:
            key = server.key
            if not id:
                files = [("images", ("1.png", png(picture(5)), "image/png"))]
                id = client.post("/v1/erasures", data={"name": "case", "person": "Vera Lund"}, files=files).json()["id"]
            stage = lambda: (client.get(f"/v1/erasures/{id}").json()["progress"] or {}).get("stage", "")  # noqa: B023, E731
            wait_for(lambda: stage().startswith(during), every=0.1)  # noqa: B023
            server.kill()
        check(ledger)
    with serving(folder, ledger, key, *sets) as last, last.client() as client:
        ends = ("verified", "checks_failed")  # a random model passes no check
        entry = wait_for(lambda: (e := client.get(f"/v1/erasures/{id}").json())["state"] in ends and e, every=0.3)
        assert entry["scores"]["checks"] and entry["failure"] is None
        done, begun = [event["action"] for event in entry["history"]], ["requested", "fitted"]
        assert done in ([*begun, "verified"], [*begun, "checks-failed"]), "a fit that was finished is not made again"
    check(ledger)
    with Ledger.open(str(ledger)) as book:
        assert book.inputs(id) is None, "what identifies the person is kept no longer than needed"


@pytest.mark.slow
def test_killed_among_changes_it_comes_back_with_what_the_ledger_says(
    tiny_llava: MultimodalModel, tiny_llava_path: Path, tmp_path: Path
) -> None:
    ledger, draw = tmp_path / "l.db", random.Random(3)
    with Ledger.open(str(ledger)) as book:
        id = install(book, loud_eraser(tiny_llava), "case", active=False)
    key = bare = None
    for _ in range(2):
        with serving(tiny_llava_path, ledger, key) as server, server.client() as client:
            key, stop = server.key, threading.Event()
            state = client.get(f"/v1/erasures/{id}").json()["state"]
            said = answered(client)
            if bare is None:
                bare = said
            assert (said != bare) == (state == "active"), "what is said is what the ledger stands at"
            churn = threading.Thread(target=change_on_and_on, args=(client, id, stop))
            churn.start()
            time.sleep(0.5 + draw.random())
            server.kill()
            stop.set()
            churn.join()
        check(ledger)


def answered(client: httpx.Client) -> str:
    return str(client.post("/v1/chat/completions", json=BODY).json()["choices"][0]["message"]["content"])


def change_on_and_on(client: httpx.Client, id: str, stop: threading.Event) -> None:
    changes: list[tuple[str, dict[str, Any]]] = [("activate", {"force": "x"}), ("suspend", {"reason": "x"})]
    with suppress(httpx.HTTPError):
        while not stop.is_set():
            for verb, body in changes:
                client.post(f"/v1/erasures/{id}/{verb}", json=body)


def test_a_request_to_end_ends_it_in_order(tiny_llava_path: Path, tmp_path: Path) -> None:
    with serving(tiny_llava_path, tmp_path / "l.db") as server, server.client() as client:
        assert answered(client) is not None
        server.process.terminate()
        assert server.process.wait(30) in (0, -signal.SIGTERM)
        assert not any("Traceback" in line for line in server.lines)
    check(tmp_path / "l.db")


def test_bad_settings_are_one_line_and_exit_code_2(tiny_llava_path: Path, tmp_path: Path) -> None:
    book = f"sqlite:///{tmp_path / 'x.db'}"
    wrong = {
        "ledger": ({}, "--ledger", "mysql://nowhere"),
        "unknown engine": ({}, "--engine", "magic"),
        "no ledger": ({}, "--ledger", book),
        "eraser": ({}, "--init", "--ledger", book, "--eraser", str(tmp_path)),
        "--verify-with": ({}, "--ledger", book, "--retain", str(tmp_path), "--strangers", str(tmp_path)),
        "mllmeraser_signing_key": ({"MLLMERASER_SIGNING_KEY": "no key"}, "--ledger", book),
    }
    # One process of its own for all: `serve` sets up logging for the whole process, and starting takes seconds.
    commands = [[variables, ["serve", str(tiny_llava_path), *more]] for variables, *more in wrong.values()]
    done = subprocess.run(
        [sys.executable, "-c", EACH, json.dumps(commands)], capture_output=True, text=True, timeout=240
    )
    lines = [line.lower() for line in done.stderr.splitlines() if line.startswith("mllmeraser:")]
    assert done.stdout.split() == ["2"] * len(wrong) and "Traceback" not in done.stderr, done.stderr
    assert all(part in line for part, line in zip(wrong, lines, strict=True)), lines
