"""The command line. It has no logic of its own: each command calls `mllmeraser.api`."""

from __future__ import annotations


def main() -> None:
    """Run `mllmeraser` with the arguments of this process."""
    from mllmeraser.cli.app import app

    app()
