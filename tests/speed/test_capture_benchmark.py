"""Capture and fit beside plain passes: both sides do the same passes, and the report is complete."""

from __future__ import annotations

from pathlib import Path

import capture
import pytest
from speed_kit import Run, is_ratio, is_timing
from test_identity_fit import identity_request, identity_settings
from worlds import quick, small_request

from mllmeraser.erasure.settings import FitSettings
from mllmeraser.models.model import MultimodalModel

SETTINGS = {"default": identity_settings(batch_size=16), "tail": quick(batch_size=16)}

pytestmark = pytest.mark.usefixtures("no_conversations")


def shapes(model: MultimodalModel, run: object) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    hook = model.hf.register_forward_pre_hook(
        lambda _m, _a, named: found.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    try:
        run()  # type: ignore[operator]
    finally:
        hook.remove()
    return found


@pytest.mark.parametrize("preset", ["default", "tail"])
def test_both_sides_make_the_same_passes(tiny_llava: MultimodalModel, preset: str) -> None:
    request = identity_request() if preset == "default" else small_request()
    make = capture.maker(tiny_llava, request, SETTINGS[preset])
    with capture.recorded(tiny_llava) as batches:
        made = shapes(tiny_llava, make)
    assert made == shapes(tiny_llava, lambda: capture.passes(tiny_llava, batches))
    assert "encode" not in vars(tiny_llava), "the recorder is gone"


def test_the_report(tiny_llava: MultimodalModel, report: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "load_model", lambda *_a, **_k: tiny_llava)
    monkeypatch.setattr(capture, "request_of", lambda *_a: identity_request())
    monkeypatch.setattr(FitSettings, "preset", SETTINGS.__getitem__)
    default, tail = report(capture.main, "--repeats", 2, "--warmup", 0)["results"]
    for entry, preset in ((default, "default"), (tail, "tail")):
        assert entry["preset"] == preset and entry["prompts"] > entry["batches"] > 0
        assert all(is_timing(entry["seconds"][name], 2) for name in ("passes", "erase"))
        assert is_ratio(entry["overhead_percent"])
        on_linux = Path("/proc/self/status").exists()
        assert all((peak["process"] is not None) == on_linux for peak in entry["peak_bytes"].values())
    assert default["stated_bytes"] > 0 and tail["stated_bytes"] is None
