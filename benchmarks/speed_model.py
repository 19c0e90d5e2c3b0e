"""Cost of an attached eraser end to end: prefill, decoding and `generate`, compared with the bare model.

Both sides run the same prompts for the same number of tokens, in interleaved pairs (A B, B A, ...). The overhead is
the median of the ratios of the pairs, with a bootstrap interval. Attaching and detaching do not count.

A shipped model uses the demo's eraser, on pictures, on texts, and on texts after two other turns. With ``--full-size``
the model has a published size and random weights, in bfloat16 on a GPU. It uses a random eraser of the same shape,
eagerly and compiled. ``--layers`` and ``--width`` make that model smaller, so that it runs anywhere: a dry run of the
same code.

*Empty hooks* are functions without content at the modules of the eraser's hooks: the least cost of any hook.
"""

from __future__ import annotations

import gc
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from full_size import NAMES, config_of, random_eraser, random_model, random_prompts
from timing import (
    Prepared,
    cuda_or_cpu,
    interleaved,
    ratio,
    refuse,
    speed_parser,
    speed_report,
    start,
    summary,
    synchronise,
    whole,
)
from torch import Tensor
from torch._dynamo.utils import counters

from mllmeraser import Eraser, MLLMEraserError, MultimodalModel, erase, load_benchmark, load_model
from mllmeraser.embedded import BENCHMARK
from mllmeraser.embedded.demo import SPLIT, forget_request
from mllmeraser.erasure.steering import attach
from mllmeraser.samples.conversation import Turn, after, question
from mllmeraser.studies.record import Report

TALK = (
    Turn("user", "Hello."), Turn("assistant", "Hello!"),
    Turn("user", "What colour is snow?"), Turn("assistant", "White."),
)  # fmt: skip
"""Turns before the question: then each turn is read by itself too."""

Attach = Callable[[], AbstractContextManager[object]]
Forward = Callable[..., Any]


def prefill(forward: Forward, inputs: Mapping[str, Tensor]) -> Any:
    """Run one forward pass over whole prompts and keep the cache, as for an answer."""
    return forward(**inputs, use_cache=True, logits_to_keep=1)


@contextmanager
def decoding(
    hf: Any, forward: Forward, inputs: Mapping[str, Tensor], steps: int, on: Attach
) -> Iterator[Callable[[], None]]:
    """Run a prefill that does not count; yield a run of `steps` greedy steps of one token per row."""
    with on():
        out = prefill(forward, inputs)
        cache, token = out.past_key_values, out.logits[:, -1:].argmax(-1)
        mask = inputs["attention_mask"]
        masks = [torch.cat([mask, mask.new_ones(mask.shape[0], n)], 1) for n in range(1, steps + 1)]
        places = [positions(hf, inputs, seen) for seen in masks]

        def run() -> None:
            last = token
            for seen, place in zip(masks, places, strict=True):
                made = forward(input_ids=last, attention_mask=seen, past_key_values=cache, use_cache=True, **place)
                last = made.logits[:, -1:].argmax(-1)

        yield run


def positions(hf: Any, inputs: Mapping[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    """Position of the last column, for families that need it while decoding."""
    if not hasattr(hf.model, "rope_deltas"):
        return {}
    shift = hf.model.rope_deltas if "image_grid_thw" in inputs else 0
    return {"position_ids": (mask.sum(1, keepdim=True) - 1 + shift).expand(3, -1, -1)}


def stages(
    hf: Any, forward: Forward, inputs: Mapping[str, Tensor], tokens: int, *, generate: bool
) -> dict[str, Callable[[Attach], Prepared]]:
    """The timed stages, by name. Each takes a way to attach and returns a side."""

    def one(run: Callable[[], object]) -> Callable[[Attach], Prepared]:
        return lambda on: lambda: _while(on, run, lambda: prefill(forward, inputs))

    found = {
        "prefill": one(lambda: prefill(forward, inputs)),
        "decoding": lambda on: lambda: decoding(hf, forward, inputs, tokens, on),
    }
    if generate:
        options = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "num_beams": 1}
        found["generate"] = one(lambda: hf.generate(**inputs, **options))
    return found


@contextmanager
def _while(on: Attach, run: Callable[[], object], first: Callable[[], object]) -> Iterator[Callable[[], object]]:
    """Attach and run one pass, because the first pass after attaching moves the eraser's tensors."""
    with on():
        first()
        yield run


@torch.no_grad()
def compare(
    found: Mapping[str, Callable[[Attach], Prepared]], erasers: Mapping[str, Attach], args: Namespace, rows: int
) -> dict[str, Any]:
    """Seconds of every stage, bare and with each eraser, and each eraser's overhead in per cent."""
    entry: dict[str, Any] = {"rows": rows, "tokens": args.new_tokens, "seconds": {}, "overhead_percent": {}}
    for stage, side in found.items():
        sides = {"bare": side(nullcontext), **{name: side(on) for name, on in erasers.items()}}
        times = interleaved(sides, args.repeats, warmup=args.warmup, wait=synchronise(args.device))
        entry["seconds"][stage] = {name: summary(values) for name, values in times.items()}
        entry["overhead_percent"][stage] = {
            name: {k: 100 * (v - 1) for k, v in ratio(times[name], times["bare"], seed=args.seed).items()}
            for name in erasers
        }
    return entry


def shipped(args: Namespace, report: Report) -> None:
    """Measure a shipped model with the demo's eraser. Half of the prompts are about forgotten people."""
    model = load_model(args.model, device=args.device)
    report.head["fingerprint"] = model.fingerprint()
    eraser = Eraser.from_pretrained(args.eraser) if args.eraser else _fitted(model, args.seed)
    attached = {"attached": lambda: eraser.attached(model), "empty hooks": lambda: empty_hooks(model, eraser)}
    image, text = (_prompts(modality, args.batch) for modality in ("image", "text"))
    talks = [after(TALK, question(sample.prompt)) for sample in text]
    encoded = {"image": model.encode(image), "text": model.encode(text), "turns": model.encode_conversations(talks)}
    for kind, batch in encoded.items():
        found = stages(model.hf, model.hf, dict(batch), args.new_tokens, generate=True)
        _keep(report, f"{kind}, eager", compare(found, attached, args, args.batch))


@contextmanager
def empty_hooks(model: MultimodalModel, eraser: Eraser) -> Iterator[None]:
    """Attach empty hooks at every module where the eraser has one."""
    plan, hf = eraser.plan(model), model.hf
    with ExitStack() as undo:
        undo.callback(hf.register_forward_pre_hook(_nothing, with_kwargs=True).remove)
        undo.callback(hf.register_forward_hook(_nothing, with_kwargs=True, always_call=True).remove)
        for layer in sorted({*plan.reads, *plan.shift_layers}):
            undo.callback(model.layers[layer].register_forward_hook(_nothing).remove)
        if plan.policy.masks_prompt:
            undo.callback(model.family.decoder(hf).register_forward_pre_hook(_nothing, with_kwargs=True).remove)
        yield


def _nothing(*_args: object) -> None:
    """An empty hook."""


def _fitted(model: MultimodalModel, seed: int) -> Eraser:
    return erase(model, forget_request(load_benchmark(BENCHMARK), SPLIT), seed=seed)


def _prompts(modality: str, rows: int) -> list[Any]:
    benchmark = load_benchmark(BENCHMARK)
    halves = [[s for s in benchmark.samples(name, SPLIT, 0) if s.modality == modality] for name in ("test", "retain")]
    return [*halves[0][: (rows + 1) // 2], *halves[1][: rows // 2]]


def full_size(args: Namespace, report: Report) -> None:
    """Measure a random model of a published size with random erasers: each batch size, eager and compiled."""
    dtype = torch.bfloat16 if args.device.startswith("cuda") else torch.float32
    hf = random_model(config_of(args.full_size, args.layers, args.width), args.device, dtype, args.seed)
    plans = {name: random_eraser(hf, name, args.seed) for name in args.presets}
    erasers = {name: _attaching(hf, plan) for name, plan in plans.items()}
    for rows in args.batches:
        inputs = random_prompts(hf, rows, args.seed)
        found = stages(hf, hf, inputs, args.new_tokens, generate=False)
        _keep(
            report,
            f"{rows} rows, eager",
            {**compare(found, erasers, args, rows), "length": inputs["input_ids"].shape[1]},
        )
        if not args.eager_only:
            _keep(report, f"{rows} rows, compiled", compiled(hf, inputs, erasers, args, rows))


def _attaching(hf: Any, plan: Any) -> Attach:
    return lambda: attach(hf, plan)


@torch.no_grad()
def compiled(
    hf: Any, inputs: Mapping[str, Tensor], erasers: Mapping[str, Attach], args: Namespace, rows: int
) -> dict[str, Any]:
    """The same with `torch.compile`, compiled separately for each side, and whether it does the same.

    An entry also has the number of graph breaks of a prefill, and how far its logits are from the same run eagerly.
    `moved` compares them with the bare model run eagerly: without a shift both would be equal.
    """
    entry: dict[str, Any] = {"rows": rows, "tokens": args.new_tokens, "seconds": {}, "graph_breaks": {}, "logits": {}}
    bare = prefill(hf, inputs).logits.float()
    for name, on in {"bare": nullcontext, **erasers}.items():
        # Attached during all repeats, because new hooks would cause a new compilation.
        with on():
            eager = prefill(hf, inputs).logits.float()
            gc.collect()  # caches of earlier passes that die while the graph is made would spoil its guards
            torch._dynamo.reset()
            counters.clear()
            forward = torch.compile(hf, backend=args.backend)
            logits = prefill(forward, inputs).logits.float()
            reasons = {reason.splitlines()[0]: count for reason, count in counters["graph_break"].items()}
            entry["graph_breaks"][name] = {"prefill": sum(reasons.values()), "reasons": reasons}
            entry["logits"][name] = {"from_eager": _apart(logits, eager), "moved": _apart(logits, bare)}
            sides = {
                stage: side(nullcontext)
                for stage, side in stages(hf, forward, inputs, args.new_tokens, generate=False).items()
            }
            times = interleaved(sides, args.repeats, warmup=max(args.warmup, 2), wait=synchronise(args.device))
            entry["seconds"][name] = {stage: summary(values) for stage, values in times.items()}
    torch._dynamo.reset()
    return entry


def _apart(one: Tensor, other: Tensor) -> float:
    """Largest difference, relative to the largest entry."""
    return float((one - other).abs().max() / other.abs().max())


def _keep(report: Report, key: str, entry: dict[str, Any]) -> None:
    report.add(key, entry)
    for stage, found in entry.get("overhead_percent", {}).items():
        for name, share in found.items():
            interval = f"[{share['low']:+.1f}, {share['high']:+.1f}]"
            print(f"{key}: {stage}, {name}: {share['median']:+.2f} % {interval}", flush=True)
    for name, found in entry.get("graph_breaks", {}).items():
        logits = entry["logits"][name]
        differs = (
            f"logits differ from eager by {logits['from_eager']:.1e}, from the bare model by {logits['moved']:.1e}"
        )
        print(f"{key}: {name}: {found['prefill']} graph breaks, {differs}", flush=True)


def parser() -> ArgumentParser:
    """Arguments of the command line."""
    found = speed_parser("speed_model", __doc__, "speed-model-NAME.json")
    found.add_argument("--model", default="embedded:llava")
    found.add_argument("--eraser", type=Path, help="folder of an eraser of MODEL; without it, one is fitted")
    found.add_argument("--batch", type=whole, default=8, help="rows of a batch (default: 8)")
    found.add_argument("--new-tokens", type=whole, default=24, help="length of every answer (default: 24)")
    found.add_argument("--repeats", type=whole, default=60, help="pairs that count (default: 60)")
    found.add_argument("--warmup", type=int, default=5, help="pairs before them (default: 5)")
    found.add_argument("--device", type=cuda_or_cpu, default=None, help="default: cuda with --full-size, else cpu")
    full = found.add_argument_group("a random model of a published size, on a GPU")
    full.add_argument("--full-size", choices=NAMES)
    full.add_argument("--batches", type=whole, nargs="+", default=[1, 32], help="rows (default: 1 32)")
    full.add_argument("--presets", nargs="+", choices=("default", "paper"), default=["default", "paper"])
    full.add_argument("--eager-only", action="store_true", help="leave torch.compile out")
    full.add_argument("--backend", default="inductor", help="of torch.compile (default: inductor)")
    full.add_argument("--layers", type=whole, help="dry run: number of layers")
    full.add_argument("--width", type=whole, help="dry run: width, a multiple of 16")
    return found


def main(argv: list[str] | None = None) -> None:
    """Measure, and write the report."""
    arguments = parser()
    args = arguments.parse_args(argv)
    dry = args.layers is not None and args.width is not None
    if args.full_size and not dry and not torch.cuda.is_available():
        refuse(arguments, "--full-size needs a CUDA device, and there is none (a dry run takes --layers and --width)")
    cuda = args.full_size and torch.cuda.is_available()
    args.device = args.device or ("cuda" if cuda else "cpu")
    args.file = args.file.replace("NAME", args.full_size or args.model.rpartition(":")[2].rpartition("/")[2])
    sizes = " ".join(map(str, args.batches))
    stated = {"full_size": args.full_size, "batches": sizes, "presets": " ".join(args.presets), "layers": args.layers,
              "width": args.width} if args.full_size else {"model": args.model, "batch": args.batch}  # fmt: skip
    report = speed_report(arguments, args, **stated, new_tokens=args.new_tokens, repeats=args.repeats,
                          warmup=args.warmup, device=args.device)  # fmt: skip
    try:
        (full_size if args.full_size else shipped)(args, report)
    except MLLMEraserError as error:
        refuse(arguments, str(error))


if __name__ == "__main__":
    start(parser(), main)
