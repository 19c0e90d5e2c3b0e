"""The demo, the list of model families, and the check of a model."""

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
    """Run the demo into a folder, whole or not at all. Return its main figures and the paths of its files."""
    from mllmeraser.embedded.demo import run_demo
    from mllmeraser.report.summary import headline

    with whole_folder(out, force=force) as folder:
        folder.mkdir()
        result = run_demo(model, folder, seed=seed, progress=progress)
    figures = ((figure, f" (before: {figure.before})" if figure.before else "") for figure in headline(result))
    lines = [f"{figure.label}: {figure.value}{before}" for figure, before in figures]
    files = {"report": "report.html", "scores": "scores.json", "eraser": "eraser"}
    return {"lines": lines, **{name: str(out / file) for name, file in files.items()}}


def example(folder: Path, *, pictures: int = 4) -> dict[str, Any]:
    """Write pictures of a person of the shipped world, and a `request.yaml`, to a new folder.

    Returns:
        The folder, the name, the number of pictures, and commands to try.
    """
    world = World("dev")
    person = world.people[0]
    with whole_folder(folder) as fresh:
        fresh.mkdir()
        for number, image in enumerate(request_pictures(world, person.key, pictures), start=1):
            image.save(fresh / f"{number}.png")
        (fresh / "request.yaml").write_text(f"name: {person.name}\n", encoding="utf-8")
    model, eraser = "embedded:llava", f"{folder.name}.eraser"
    commands = [
        f'mllmeraser ask {model} "Where does {person.name} live?"',
        f"mllmeraser erase {model} --forget {folder} --out {eraser}",
        f'mllmeraser ask {model} "Where does {person.name} live?" --eraser {eraser}',
    ]
    return {"folder": str(folder), "name": person.name, "pictures": pictures, "try": commands}


def list_families() -> list[dict[str, Any]]:
    """The supported model families, and the embedded models of each."""
    from mllmeraser.embedded import FAMILIES

    shipped: dict[str, list[str]] = {}
    for name, family in FAMILIES.items():
        shipped.setdefault(family, []).append(f"embedded:{name}")
    return [
        {"family": one.name, "model_types": list(one.model_types), "embedded": shipped.get(one.name, [])}
        for one in families()
    ]


def check_model(model: str | MultimodalModel, *, thorough: bool = False) -> dict[str, Any]:
    """Load a model and test that erasers attach to it and detach without a trace.

    A `thorough` check also tests the contract of model families with pictures: three passes per layer, and some more.
    """
    loaded = load_model(model) if isinstance(model, str) else model
    facts = check_hooks(loaded)
    if thorough:
        results = contract.run(loaded, _prompts())
        facts["tests"] += [{"name": n, "ok": result.holds, "detail": result.detail} for n, result in results.items()]
        facts["ok"] = all(test["ok"] for test in facts["tests"])
    return facts


def _prompts() -> list[Sample]:
    """Prompts of different lengths, with pictures of two sizes and without."""
    world = World("dev")
    first, second = (request_pictures(world, person.key, 1)[0] for person in world.people[:2])
    wide = second.resize((2 * second.width, second.height))
    return [
        Sample("Who is this?", first),
        Sample("Where was the person in this picture born, and what do they do for a living?", wide),
        Sample("Who is Jane Doe?"),
        Sample("Tell me in one sentence what the capital of the country next to yours is called."),
    ]
