"""What is set before any work: threads and seeds."""

from __future__ import annotations

import os
import random

import torch


def set_threads(model: str, threads: int | None) -> int:
    """Set torch's threads: as asked, else one per processor, at most 2 for the small embedded models.

    Processes that a launcher started on this machine share its processors.
    """
    count = threads or max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if threads is None and model.startswith("embedded:"):
        count = min(count, 2)
    torch.set_num_threads(count)
    return count


def set_seed(seed: int) -> None:
    """Seed Python's and torch's generators."""
    random.seed(seed)
    torch.manual_seed(seed)
