"""Threads and seeds, set before any work."""

from __future__ import annotations

import os
import random

import torch


def set_threads(model: str, threads: int | None) -> int:
    """Set torch's threads and return their number.

    Default: as `OMP_NUM_THREADS` says, else one per CPU, at most 2 for the small embedded models. Processes that a
    launcher starts on this machine share its CPUs; torchrun sets that variable itself, so there it does not count.
    """
    launched, asked = os.environ.get("LOCAL_WORLD_SIZE"), os.environ.get("OMP_NUM_THREADS")
    share = max(1, (os.cpu_count() or 1) // int(launched or "1"))
    if model.startswith("embedded:"):
        share = min(share, 2)
    count = threads or (torch.get_num_threads() if asked and not launched else share)
    torch.set_num_threads(count)
    return count


def set_seed(seed: int) -> None:
    """Seed Python's and torch's generators."""
    random.seed(seed)
    torch.manual_seed(seed)
