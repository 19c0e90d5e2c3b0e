"""docs/runbook.md, replayed: every command, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from server_kit import free_port

from mllmeraser.embedded import NAMES

PAGE = Path(__file__).parents[1] / "docs" / "runbook.md"


def commands() -> list[str]:
    """The blocks of the page."""
    return re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.embedded
@pytest.mark.slow
@pytest.mark.timeout(900)  # a fit and a verification on the shipped model, and two starts of a server
def test_the_runbook_does_what_it_says(tmp_path: Path) -> None:
    missing = [tool for tool in ("bash", "curl", "openssl") if shutil.which(tool) is None]
    if missing or "llava" not in NAMES:
        pytest.skip(f"needs {', '.join(missing) or 'the embedded weights'}")
    assert len(commands()) >= 12
    steps = "\n".join(f"echo 'step {n}' >&2\n{block}" for n, block in enumerate(commands(), start=1))
    port = str(free_port())
    script = f"set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{steps}".replace("8000", port)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "NO_PROXY": "*"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=840
    )
    log = (tmp_path / "server.log").read_text() if (tmp_path / "server.log").exists() else ""
    assert done.returncode == 0, f"{done.stderr[-3000:]}\n{log[-2000:]}"
    assert '"passed":true' in done.stdout and "I do not know this person" in done.stdout
    assert "the eraser passed" in done.stdout and (tmp_path / "case-17.pdf").stat().st_size > 1000
    assert "mk_" not in log, "the key is not in the log"
