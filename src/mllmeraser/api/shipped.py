"""The demo, and what is known about models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mllmeraser.erasure.fit.hook_check import check_hooks
from mllmeraser.models import contract
from mllmeraser.models.families import families
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.people import World
from mllmeraser.portraits.prompts import request_pictures
from mllmeraser.samples import Sample
from mllmeraser.samples.files import whole_folder
from mllmeraser.samples.progress import Progress


def demo(
    model: str, out: Path, *, seed: int = 0, force: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Run the demo into a folder, whole or not at all; returns the lines to tell and where the report is."""
    from mllmeraser.embedded.demo import run_demo
    from mllmeraser.report.summary import headline

    with whole_folder(out, force=force) as folder:
        folder.mkdir()
        result = run_demo(model, folder, seed=seed, progress=progress)
    lines = [
        f"{figure.label}: {figure.value}" + (f" (before: {figure.before})" if figure.before else "")
        for figure in headline(result)
    ]
    return {
        "lines": lines,
        "report": str(out / "report.html"),
        "scores": str(out / "scores.json"),
        "eraser": str(out / "eraser"),
    }


def list_families() -> list[dict[str, Any]]:
    """The families that have an adapter, and the embedded models of each."""
    from mllmeraser.embedded import NAMES

    return [
        {
            "family": family.name,
            "model_types": list(family.model_types),
            "embedded": [f"embedded:{name}" for name in NAMES if family.name == name],
        }
        for family in families()
    ]


def check_model(model: str | MultimodalModel, *, thorough: bool = False) -> dict[str, Any]:
    """Load a model and test that erasers attach to it and leave no trace.

    Args:
        model: Name or loaded model.
        thorough: Also hold it to the contract of its family with pictures: three passes for each layer, and some dozen.
    """
    loaded = load_model(model) if isinstance(model, str) else model
    facts = check_hooks(loaded)
    if thorough:
        found = contract.run(loaded, _prompts()).items()
        facts["tests"] += [{"name": name, "ok": contract.holds(told), "detail": told} for name, told in found]
        facts["ok"] = all(test["ok"] for test in facts["tests"])
    return facts


def _prompts() -> list[Sample]:
    """Prompts with pictures of two sizes, and without any, of different lengths."""
    world = World("dev")
    first, second = (request_pictures(world, person.key, 1)[0] for person in world.people[:2])
    wide = second.resize((2 * second.width, second.height))
    return [
        Sample("Who is this?", first),
        Sample("Where was the person in this picture born, and what do they do for a living?", wide),
        Sample("Who is Jane Doe?"),
        Sample("Tell me in one sentence what the capital of the country next to yours is called."),
    ]
