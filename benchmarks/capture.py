"""Time and memory of capture and fit, compared with plain forward passes of the same prompts.

- `erase` captures every state that a fit needs and makes the eraser. With the preset `default` it makes the basis
  first.
- `passes` encodes the same batches and sends them through the whole bare model. A capture for gates alone ends
  earlier, at the last read layer.

Both sides take turns, so that a slow moment affects both. The overhead is the median over the pairs. Neither side
includes the completion of the request (views, wordings, shipped sets).

Peak memory is the process's growth while a side runs. On a GPU it is that of the device too.
"""

from __future__ import annotations

import ctypes
import gc
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from timing import (
    cuda_or_cpu,
    interleaved,
    ratio,
    refuse,
    speed_parser,
    speed_report,
    start,
    summary,
    synchronise,
    unprepared,
    whole,
)

from mllmeraser.benchmarks.defaults import complete
from mllmeraser.erasure import fit
from mllmeraser.erasure.directions.contrast_states import ContrastSet
from mllmeraser.erasure.fit.discriminants import fit_shared_basis
from mllmeraser.erasure.fit.result import FitResult
from mllmeraser.erasure.fit.split import split
from mllmeraser.erasure.fit.subject import shifted_samples
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.states.memory import prompt_state_bytes
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.people import World
from mllmeraser.portraits.prompts import contrast_prompts, default_retain, default_strangers, request_pictures
from mllmeraser.samples import MLLMEraserError, Request, Sample

Batches = list[list[Sample]]


def request_of(model: MultimodalModel, people: int, keep: int, seed: int) -> Request:
    """A completed request to forget `people` people. One in `keep` of the shipped prompts is retained."""
    world = World("dev", seed)
    forgotten = world.people[:people]
    asked = [Sample("Who is this?", i, subject=p.key) for p in forgotten for i in request_pictures(world, p.key, 2)]
    names = {p.key: (p.name,) for p in forgotten}
    retain = default_retain(world, exclude=[p.name for p in forgotten])[::keep]
    request = Request.from_samples(asked, retain, default_strangers(world)[::keep], names=names)
    return complete(request, model, seed=seed).request


def maker(model: MultimodalModel, request: Request, settings: FitSettings) -> Callable[[], FitResult]:
    """Capture and fit from scratch, as `erase` does."""

    def make() -> FitResult:
        if settings.gate.kind != "subject":
            return fit(model, request, settings, contrast=ContrastSet.from_samples(*contrast_prompts(settings.seed)))
        reads, (shifts, *_) = settings.layers(model.num_layers)
        cache = PromptStateCache(model, reads, shifts, batch_size=settings.batch_size)
        basis = fit_shared_basis(cache, request.retain, request.strangers, settings.gate)
        return fit(model, request, settings, cache=cache, basis=basis)

    return make


@contextmanager
def recorded(model: MultimodalModel):  # type: ignore[no-untyped-def]
    """Yield the batches that are encoded inside the block."""
    batches: Batches = []
    encode = model.encode

    def record(samples: Sequence[Sample], padding_side: str = "left") -> Any:
        batches.append(list(samples))
        return encode(samples, padding_side)

    model.encode = record  # type: ignore[method-assign]
    try:
        yield batches
    finally:
        del model.encode


@torch.no_grad()
def passes(model: MultimodalModel, batches: Batches) -> None:
    """Run plain forward passes, up to the logits of the last position."""
    for batch in batches:
        model.hf(**model.encode(batch, "right"), use_cache=False, logits_to_keep=1)


def peak(run: Callable[[], object], device: str) -> dict[str, int | None]:
    """Most bytes that a run adds: in the process (None outside Linux) and on the GPU."""
    gc.collect()
    _give_back()
    before, on_gpu = _resident("VmRSS"), torch.device(device).type == "cuda"
    _forget_peak()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
    run()
    after = _resident("VmHWM")
    return {
        "process": None if before is None or after is None else max(0, after - before),
        "gpu": torch.cuda.max_memory_allocated() - held if on_gpu else None,
    }


def _resident(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def _give_back() -> None:
    """Return freed memory to the system (glibc), because reused memory would not show as growth."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _forget_peak() -> None:
    with suppress(OSError):  # without this, the peak counts from the start of the process
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def measure(model: MultimodalModel, request: Request, preset: str, args: Namespace) -> dict[str, Any]:
    """Measure one preset: times, overhead, peaks, and the amount of work."""
    settings = FitSettings.preset(preset).model_copy(update={"seed": args.seed, "salt": "benchmark"})
    make = maker(model, request, settings)
    with recorded(model) as batches:
        made = make()
    sides = {"passes": lambda: passes(model, batches), "erase": make}
    seconds = interleaved(
        {name: unprepared(run) for name, run in sides.items()},
        args.repeats,
        warmup=args.warmup,
        wait=synchronise(args.device),
    )
    overhead = ratio(seconds["erase"], seconds["passes"], seed=args.seed)
    return {
        "preset": preset,
        "prompts": sum(map(len, batches)),
        "batches": len(batches),
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "stages": {name: round(value, 4) for name, value in made.timings.items()},
        "overhead_percent": {name: 100 * (value - 1) for name, value in overhead.items()},
        "peak_bytes": {name: peak(run, args.device) for name, run in sides.items()},
        "stated_bytes": _stated(model, batches, request, settings) if settings.gate.kind == "subject" else None,
    }


def _stated(model: MultimodalModel, batches: Batches, request: Request, settings: FitSettings) -> int:
    """Bytes of the state cache of these prompts, by the formula."""
    image = model.family.image_token_id(model.hf)
    text = 0
    for batch in batches:
        inputs = model.encode(batch, "right")
        text += int(((inputs["input_ids"] != image) & inputs["attention_mask"].bool()).sum())
    samples = [sample for batch in batches for sample in batch]
    behind = [*shifted_samples(split(request, settings, salt=""), settings), *request.strangers]
    shifts = len(settings.layers(model.num_layers)[1][0]) * len({sample.digest() for sample in behind})
    return prompt_state_bytes(
        prompts=len(samples),
        text_tokens=text,
        pictures=sum(sample.image is not None for sample in samples),
        width=model.hidden_size,
        shifts=shifts,
        itemsize=model.dtype.itemsize,
    )


def parser() -> ArgumentParser:
    """Arguments of the command line."""
    found = speed_parser("capture", __doc__, "capture-NAME.json")
    found.add_argument("--model", default="embedded:llava")
    found.add_argument("--presets", nargs="+", choices=("default", "tail"), default=["default", "tail"])
    found.add_argument("--people", type=whole, default=1, help="number of people to forget (default: 1)")
    found.add_argument("--keep", type=whole, default=1, help="retain every n-th shipped prompt (default: 1)")
    found.add_argument("--repeats", type=whole, default=7, help="pairs that count (default: 7)")
    found.add_argument("--warmup", type=int, default=1, help="pairs before them (default: 1)")
    found.add_argument("--device", type=cuda_or_cpu, default="cpu", help="default: cpu")
    return found


def main(argv: list[str] | None = None) -> None:
    """Measure, and write the report."""
    arguments = parser()
    args = arguments.parse_args(argv)
    args.file = args.file.replace("NAME", args.model.rpartition(":")[2].rpartition("/")[2])
    report = speed_report(
        arguments, args, model=args.model, presets=" ".join(args.presets), people=args.people, keep=args.keep,
        repeats=args.repeats, warmup=args.warmup, device=args.device,
    )  # fmt: skip
    try:
        model = load_model(args.model, device=args.device)
        request = request_of(model, args.people, args.keep, args.seed)
        for preset in args.presets:
            entry = measure(model, request, preset, args)
            report.add(preset, entry)
            share = entry["overhead_percent"]
            print(
                f"{preset}: {share['median']:+.1f} % [{share['low']:+.1f}, {share['high']:+.1f}] over plain passes of "
                f"{entry['prompts']} prompts",
                flush=True,
            )
    except MLLMEraserError as error:
        refuse(arguments, str(error))


if __name__ == "__main__":
    start(parser(), main)
