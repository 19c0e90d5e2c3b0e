"""The command line: one file per command, and no logic of its own."""

from __future__ import annotations


def main() -> None:
    """Run `mllmeraser` with the arguments of this process."""
    from mllmeraser.cli.app import app

    app()
