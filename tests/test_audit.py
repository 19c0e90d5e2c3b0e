"""`make audit` fails unless a service vouched for everything, and the workflows run what there is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from server_kit import free_port

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


class Advisories(BaseHTTPRequestHandler):
    """A service of OSV's kind, which knows one vulnerability."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked[asked["package"]["name"]] = asked["version"]  # type: ignore[attr-defined]
        bad = asked["package"]["name"] == self.server.bad  # type: ignore[attr-defined]
        affected = [{"package": asked["package"], "ranges": []}]
        body = json.dumps({"vulns": [{"id": "TEST-2026-1", "affected": affected}]} if bad else {}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def service() -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Advisories)
    server.bad, server.asked = "", {}  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def audit(tmp_path: Path, port: int) -> subprocess.CompletedProcess[str]:
    """The very target, on the environment that runs this test, with another service."""
    if shutil.which("make") is None or not (Path(sys.prefix) / "bin" / "pip-audit").exists():
        pytest.skip("make or pip-audit is not installed here")
    arguments = f"-s osv --osv-url http://127.0.0.1:{port}/v1/query --cache-dir {tmp_path}/cache"
    return subprocess.run(
        ["make", "-o", f"{sys.prefix}/.installed", "audit", f"VENV={sys.prefix}",
         f"AUDITED={tmp_path}/audited.txt", f"AUDIT_ARGS={arguments}"],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_PROXY": "127.0.0.1"}, timeout=240,
    )  # fmt: skip


def test_everything_installed_is_asked_about(tmp_path: Path, service: Any) -> None:
    result = audit(tmp_path, service.server_port)
    assert result.returncode == 0, result.stdout + result.stderr
    assert {"torch", "transformers", "fastapi", "starlette", "pillow"} <= set(service.asked), "transitive ones too"
    assert "mllmeraser" not in service.asked and not any("+" in version for version in service.asked.values())


def test_a_vulnerability_fails_and_is_named(tmp_path: Path, service: Any) -> None:
    service.bad = "starlette"
    result = audit(tmp_path, service.server_port)
    assert result.returncode != 0 and "TEST-2026-1" in result.stdout and "NOT PASSED" in result.stderr


def test_a_service_out_of_reach_does_not_pass(tmp_path: Path) -> None:
    result = audit(tmp_path, free_port())
    assert result.returncode != 0 and "could not be asked" in result.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_targets_that_exist_with_pinned_actions(path: Path) -> None:
    flow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert flow["permissions"] == {"contents": "read"}
    steps = [step for job in flow["jobs"].values() for step in job["steps"]]
    assert all(re.search(r"@[0-9a-f]{40}$", step["uses"]) for step in steps if "uses" in step)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    runs = " ".join(step.get("run", "") for step in steps)
    assert set(re.findall(r"\bmake (\w+)", runs)) <= targets
    assert all((ROOT / file).exists() for file in re.findall(r"\btests/\S+", runs))


def test_the_audit_is_weekly_and_the_offline_runner_leaves_it_out() -> None:
    flow = yaml.safe_load((ROOT / ".github/workflows/audit.yml").read_text(encoding="utf-8"))
    (cron,) = flow[True]["schedule"]  # YAML reads the key `on` as true
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", cron["cron"])
    assert [step["run"] for step in flow["jobs"]["audit"]["steps"] if "run" in step] == ["make audit"]
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if not line.lstrip().startswith("#")]
    assert not any("audit" in line for line in commands)
