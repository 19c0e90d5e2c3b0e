"""How many threads a command takes: as asked, as `OMP_NUM_THREADS` says, or by the CPUs."""

from __future__ import annotations

import os

import pytest
import torch

from mllmeraser.api.runtime import set_threads


@pytest.mark.parametrize(
    ("model", "asked", "processes", "omp", "count"),
    [
        ("llava-hf/llava-1.5-7b-hf", None, None, None, 8),
        ("embedded:llava", None, None, None, 2),
        ("embedded:llava", 3, None, None, 3),
        ("llava-hf/llava-1.5-7b-hf", None, "4", None, 2),
        ("embedded:llava", None, "16", None, 1),
        ("llava-hf/llava-1.5-7b-hf", None, None, "1", 1),
        ("embedded:llava", 3, "4", "1", 3),
        ("llava-hf/llava-1.5-7b-hf", None, "2", "1", 4),  # torchrun sets OMP_NUM_THREADS
    ],
)
def test_threads(
    monkeypatch: pytest.MonkeyPatch, model: str, asked: int | None, processes: str | None, omp: str | None, count: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for name, value in (("LOCAL_WORLD_SIZE", processes), ("OMP_NUM_THREADS", omp)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    torch.set_num_threads(1)  # as torch starts under that OMP_NUM_THREADS
    assert set_threads(model, asked) == torch.get_num_threads() == count
