"""Capture and fit on a model of a published size with random weights, compared with plain forward passes.

A few prompts of a whole request for one person are timed and extrapolated to all of them in proportion. Three kinds
of passes are timed: plain ones, capture for gates and a direction, and capture for gates alone, which ends at the
last read layer. The linear algebra is not extrapolated: it runs on as many random states as the whole request has.

``--layers`` makes the model shallower, so that it fits into memory. Its times are extrapolated to the published depth
in proportion. ``--width`` too makes it a dry run of the same code.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import torch
from capture import passes, peak, request_of
from full_size import NAMES, behind_a_processor, config_of
from timing import (
    Prepared,
    cuda_or_cpu,
    interleaved,
    ratio,
    speed_parser,
    speed_report,
    start,
    summary,
    synchronise,
    unprepared,
    whole,
)
from torch import Tensor

from mllmeraser.erasure import fit
from mllmeraser.erasure.fit.discriminants import fit_shared_basis
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.states.memory import prompt_state_bytes
from mllmeraser.erasure.states.prompt_states import PromptStateCache, PromptStates
from mllmeraser.models.families.base import tokenize
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import Request, Sample
from mllmeraser.samples.progress import Progress


class RandomStates(PromptStateCache):
    """States of the right number and shape: a mean for each person, and noise around it."""

    def __init__(self, model: MultimodalModel, settings: FitSettings, seed: int) -> None:
        """Prepare for the layers of `settings`, without drawing states."""
        reads, (shifts, *_) = settings.layers(model.num_layers)
        super().__init__(model, reads, shifts)
        self._generator = torch.Generator().manual_seed(seed)
        self._means: dict[str | None, Tensor] = {}
        self._drawn: dict[int, tuple[Sample, PromptStates]] = {}
        self.text_tokens = 0
        self.behind_directions: set[int] = set()

    def of(
        self, samples: Sequence[Sample], progress: Progress | None = None, *, shifted: Sequence[Sample] = ()
    ) -> list[PromptStates]:
        """States of samples, drawn for new ones, all with states at the shifted layers."""
        self.behind_directions |= {id(sample) for sample in shifted}
        return [self._one(sample) for sample in samples]

    @property
    def prompts(self) -> list[Sample]:
        """All samples so far."""
        return [sample for sample, _ in self._drawn.values()]

    def _one(self, sample: Sample) -> PromptStates:
        if id(sample) not in self._drawn:
            self._drawn[id(sample)] = (sample, self._draw(sample))
        return self._drawn[id(sample)][1]

    def _draw(self, sample: Sample) -> PromptStates:
        token = self.model.family.image_token_id(self.model.hf)
        ids = torch.tensor(tokenize(self.model.processor, [self.model.prompts.text(sample)])[0])
        text = ids[ids != token].int()
        self.text_tokens += len(text)
        mean = self._means.setdefault(sample.subject, self._noise(1))
        dtype = self.model.dtype
        return PromptStates({
            "ids": text,
            "text": (mean + self._noise(len(text))).to(dtype),
            "last": (mean + self._noise(1))[0].to(dtype),
            "image": mean + 0.5 * self._noise(int(sample.image is not None)),
            "shifts": (mean + self._noise(len(self.shifts))).to(dtype),
        })  # fmt: skip

    def _noise(self, rows: int) -> Tensor:
        return torch.randn(rows, self.model.hidden_size, generator=self._generator)


def algebra(model: MultimodalModel, request: Request, settings: FitSettings, seed: int) -> dict[str, Any]:
    """Seconds of basis and fit from existing states, and the number of states."""
    cache = RandomStates(model, settings, seed)

    def make() -> None:
        basis = fit_shared_basis(cache, request.retain, request.strangers, settings.gate)
        fit(model, request, settings, cache=cache, basis=basis)

    make()  # draws the states and loads every library
    began = perf_counter()
    make()
    seconds, prompts = perf_counter() - began, cache.prompts
    pictures, shifted = sum(sample.image is not None for sample in prompts), len(cache.behind_directions)
    return {
        "seconds": seconds,
        "prompts": len(prompts),
        "behind_directions": shifted,
        "pictures": pictures,
        "text_tokens": cache.text_tokens,
        "prompt_state_bytes": prompt_state_bytes(
            prompts=len(prompts), text_tokens=cache.text_tokens, pictures=pictures, width=model.hidden_size,
            shifts=shifted * len(cache.shifts), itemsize=model.dtype.itemsize,
        ),
    }  # fmt: skip


def forward(model: MultimodalModel, request: Request, settings: FitSettings, args: Namespace) -> dict[str, Any]:
    """Seconds and peak memory of plain passes and of both kinds of capture, on the same few prompts."""
    few = drawn(request, args.prompts)
    reads, (shifts, *_) = settings.layers(model.num_layers)

    batches = [[few[row] for row in rows] for rows in model.prompts.plan(few, args.batch)]

    def capture(shifted: Sequence[Sample]) -> list[PromptStates]:
        return PromptStateCache(model, reads, shifts, batch_size=args.batch).of(few, shifted=shifted)

    sides: dict[str, Callable[[], object]] = {
        "passes": lambda: passes(model, batches),
        "gates and direction": lambda: capture(few),
        "gates alone": lambda: capture(()),
    }
    held: dict[str, dict[str, int | None]] = {}

    def watched(name: str) -> Prepared:
        return unprepared(lambda: held.update({name: peak(sides[name], args.device)}))

    seconds = interleaved(
        {name: watched(name) for name in sides}, args.repeats, warmup=0, wait=synchronise(args.device)
    )
    return {
        "prompts": len(few),
        "pictures": sum(sample.image is not None for sample in few),
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "overhead_percent": {
            name: {k: 100 * (v - 1) for k, v in ratio(seconds[name], seconds["passes"]).items()}
            for name in sides
            if name != "passes"
        },
        "peak_bytes": held,
    }


def drawn(request: Request, count: int) -> list[Sample]:
    """`count` prompts spread evenly over a request, with the request's share of pictures."""
    forget = [sample for subject in request.subjects for sample in subject.samples]
    everything = [*forget, *request.retain, *request.strangers]
    found: list[Sample] = []
    for shown in (True, False):
        rows = [sample for sample in everything if (sample.image is not None) == shown]
        wanted = max(1, round(count * len(rows) / len(everything)))
        found += rows[:: max(1, len(rows) // wanted)][:wanted]
    return found


def in_all(passed: dict[str, Any], linear: dict[str, Any], deeper: float) -> dict[str, float]:
    """Extrapolate to the whole request: passes by prompts and depth (``deeper``), linear algebra unchanged."""
    each = {name: deeper * times["median"] / passed["prompts"] for name, times in passed["seconds"].items()}
    whole, shifted = linear["prompts"], linear["behind_directions"]
    plain = whole * each["passes"]
    capture = shifted * each["gates and direction"] + (whole - shifted) * each["gates alone"]
    return {
        "prompts": linear["prompts"],
        "passes_seconds": plain,
        "erase_seconds": capture + linear["seconds"],
        "overhead_percent": 100 * ((capture + linear["seconds"]) / plain - 1),
        "linear_algebra_percent": 100 * linear["seconds"] / (capture + linear["seconds"]),
    }


def parser() -> ArgumentParser:
    """Arguments of the command line."""
    found = speed_parser("capture_full_size", __doc__, "capture-NAME.json")
    found.add_argument("name", choices=NAMES, help="the published size")
    found.add_argument("--layers", type=whole, help="fewer layers, extrapolated to all")
    found.add_argument("--width", type=whole, help="a smaller width: a dry run")
    found.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    found.add_argument("--prompts", type=whole, default=8, help="prompts that pass through the model (default: 8)")
    found.add_argument("--batch", type=whole, default=4, help="prompts in a batch (default: 4)")
    found.add_argument("--keep", type=whole, default=1, help="retain every n-th shipped prompt (default: 1)")
    found.add_argument("--repeats", type=whole, default=2, help="pairs of passes and capture (default: 2)")
    found.add_argument("--device", type=cuda_or_cpu, default="cpu", help="default: cpu")
    return found


def main(argv: list[str] | None = None) -> None:
    """Measure, and write the report."""
    arguments = parser()
    args = arguments.parse_args(argv)
    args.file = args.file.replace("NAME", args.name)
    names = ("layers", "width", "dtype", "prompts", "batch", "keep", "repeats", "device")
    arguments.prog += f" {args.name}"
    report = speed_report(arguments, args, **{name: getattr(args, name) for name in names})
    settings = FitSettings.preset("default").model_copy(update={"seed": args.seed, "salt": "benchmark"})
    model = behind_a_processor(args.name, args.layers, args.width, args.device, getattr(torch, args.dtype), args.seed)
    weights = sum(one.numel() * one.element_size() for one in model.hf.parameters())
    published = config_of(args.name).text_config.num_hidden_layers
    shape = {"layers": model.num_layers, "published_layers": published, "width": model.hidden_size}
    shape["weight_bytes"] = weights
    report.add("model", {**shape, "dtype": args.dtype})
    request = request_of(model, 1, args.keep, args.seed)
    linear = algebra(model, request, settings, args.seed)
    report.add("linear algebra, all prompts", linear)
    print(f"linear algebra: {linear['seconds']:.1f} s on {linear['prompts']} prompts", flush=True)
    passed = forward(model, request, settings, args)
    report.add("forward passes, a few prompts", passed)
    whole_request = in_all(passed, linear, published / model.num_layers)
    report.add("all prompts, extrapolated", whole_request)
    for name, share in passed["overhead_percent"].items():
        print(f"capture, {name}: {share['median']:+.1f} % over plain passes of {passed['prompts']} prompts")
    print(f"in all, extrapolated: {whole_request['overhead_percent']:+.1f} %")


if __name__ == "__main__":
    start(parser(), main)
