"""What is logged when something goes wrong says where, and nothing that anybody wrote."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging, structlog
from mllmeraser.serving.http.logs import log_as_json

log_as_json()

def fail(name):
    try:
        raise KeyError(name)
    except KeyError as error:
        raise MemoryError(f"no room for {name}") from error

try:
    fail("Jane Doe")
except MemoryError:
    structlog.get_logger("ours").exception("fit", entry="ab12")
    logging.getLogger("theirs").exception("a batch failed")
logging.getLogger("theirs").warning("careful")
"""


def test_errors_are_told_without_words_and_without_variables() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert "Jane" not in done.stderr + done.stdout
    ours, theirs, careful = map(json.loads, done.stderr.splitlines())
    assert (ours["event"], ours["entry"], ours["level"]) == ("fit", "ab12", "error")
    assert theirs["event"] == "a batch failed" and careful["event"] == "careful" and careful["level"] == "warning"
    for told in (ours, theirs):
        assert [link["exc_type"] for link in told["exception"]] == ["MemoryError", "KeyError"]
        assert all(
            set(frame) == {"filename", "lineno", "name"} for link in told["exception"] for frame in link["frames"]
        )
