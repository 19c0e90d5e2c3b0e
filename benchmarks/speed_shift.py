"""Time and bytes of the rank-one shift per token, compared with a dense matrix per layer and with no shift.

A pass carries one decoded token of each sequence through the layers. Each layer reads its gate at that token: h + s
(h g) v.

- The rank-one sides run the package's steering: a `SteeringPass` over a `PlanStack` of plans, one per pass as in a
  model.
- `dense` computes h + s (h W) with the matrix W = g v^T of every layer.
- `none` passes the states on.
- `formula` is h + ((h G^T) * s * mask) V alone: K erasers without any bookkeeping.

For the first eraser all matrices equal its two vectors, and the report has the difference of the outcomes. With
several erasers, a random half of them is on in every row.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timing import (
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

from mllmeraser.erasure.gates import LinearGate
from mllmeraser.erasure.policy import Policy
from mllmeraser.erasure.steering.forward_pass import SteeringPass
from mllmeraser.erasure.steering.plan import SteeringPlan
from mllmeraser.erasure.steering.plan_group import PlanStack
from mllmeraser.erasure.steering.prompt_tracker import PromptTracker, Span

POLICY = Policy("per token", read="per-layer", positions="last", decode=True, phi="linear")
STRENGTH = 0.01
PROMPT = 16
"""Columns before the token of a pass. They cost nothing."""


@dataclass(frozen=True)
class World:
    """Erasers and states.

    Attributes:
        gates: (layers, K, d) float32, G.
        directions: (layers, K, d) float32, V.
        states: (tokens, 1, d) float32.
        chosen: (tokens, K) bool, which erasers a row has; None for one eraser.
    """

    gates: Tensor
    directions: Tensor
    states: Tensor
    chosen: Tensor | None

    @property
    def plans(self) -> tuple[SteeringPlan, ...]:
        """One plan for each eraser. Their tensors are views."""
        layers = tuple(range(self.gates.shape[0]))
        return tuple(
            SteeringPlan(
                f"eraser {k}",
                layers,
                layers,
                {layer: self.directions[layer, k] for layer in layers},
                {layer: LinearGate({"weight": self.gates[layer, k : k + 1]}) for layer in layers},
                POLICY,
                STRENGTH,
            )
            for k in range(self.gates.shape[1])
        )


def world(width: int, layers: int, erasers: int, tokens: int, device: str, seed: int) -> World:
    """Random erasers with unit directions, random states, and for several erasers a random choice per row."""
    generator = torch.Generator().manual_seed(seed)

    def unit(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).div_(width**0.5).to(device)

    gates, directions = unit(layers, erasers, width), unit(layers, erasers, width)
    chosen = torch.rand(tokens, erasers, generator=generator) < 0.5 if erasers > 1 else None
    return World(gates, directions, torch.randn(tokens, 1, width, generator=generator).to(device), chosen)


def steered(found: World) -> tuple[Callable[[], Tensor], PlanStack]:
    """One pass through the package's steering, and the stack with its tensors."""
    stack, tracker = PlanStack(found.plans), PromptTracker(whole_prompt=False)
    rows, layers = found.states.shape[0], found.gates.shape[0]
    span = Span(rows, PROMPT, PROMPT + 1, (PROMPT,) * rows, 0, fresh=False)
    inputs = {"input_ids": torch.zeros(rows, 1, dtype=torch.long, device=found.states.device)}
    chosen = None if found.chosen is None else found.chosen.to(found.states.device)

    @torch.no_grad()
    def run() -> Tensor:
        one, states = SteeringPass(stack, tracker, span, inputs, chosen), found.states
        for layer in range(layers):
            states = one.after_block(layer, states)
        return states

    return run, stack


def formula(found: World) -> Callable[[], Tensor]:
    """One pass of h + ((h G^T) * s * mask) V."""
    mask = 1.0 if found.chosen is None else found.chosen[:, None].to(found.states)

    @torch.no_grad()
    def run() -> Tensor:
        states = found.states
        for gates, directions in zip(found.gates, found.directions, strict=True):
            states = states + ((states @ gates.T) * STRENGTH * mask) @ directions
        return states

    return run


def dense(found: World) -> Callable[[], Tensor]:
    """One pass of h + s (h W), W = g v^T of the first eraser as a (d, d) matrix of every layer."""
    matrices = [torch.outer(g[0], v[0]) for g, v in zip(found.gates, found.directions, strict=True)]

    @torch.no_grad()
    def run() -> Tensor:
        states = found.states
        for matrix in matrices:
            states = states + STRENGTH * (states @ matrix)
        return states

    return run


def none(found: World) -> Callable[[], Tensor]:
    """One pass without any shift: the cost of the loop over the layers."""

    def run() -> Tensor:
        states = found.states
        for _ in range(found.gates.shape[0]):
            states = states.view_as(states)
        return states

    return run


def held_bytes(root: object) -> int:
    """Bytes of all tensors that an object reaches, with shared memory counted once."""
    seen: set[int] = set()
    storages: dict[int, int] = {}
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            storage = one.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(one, Mapping):
            waiting += one.values()
        elif isinstance(one, (list, tuple)):
            waiting += one
        else:
            waiting += vars(one).values() if hasattr(one, "__dict__") else ()
    return sum(storages.values())


def timed(sides: Mapping[str, Callable[[], Tensor]], args: Namespace) -> dict[str, list[float]]:
    """Seconds of a pass, by side."""
    prepared = {name: unprepared(run) for name, run in sides.items()}
    return interleaved(prepared, args.repeats, warmup=args.warmup, wait=synchronise(args.device))


def one_eraser(args: Namespace, tokens: int) -> dict[str, Any]:
    """Measure one eraser, the dense matrix and no shift, for a number of tokens."""
    found = world(args.width, args.layers, 1, tokens, args.device, args.seed)
    run, _ = steered(found)
    sides = {"none": none(found), "rank-one": run, "formula": formula(found), "dense": dense(found)}
    apart = float((sides["rank-one"]() - sides["dense"]()).abs().max() / found.states.abs().max())
    seconds = timed(sides, args)
    vectors, matrix = 2 * args.width * 4, args.width**2 * 4
    return {
        "tokens": tokens,
        "erasers": 1,
        "seconds_per_token": {name: summary([s / tokens for s in values]) for name, values in seconds.items()},
        "rank_one_of_dense": {
            "time": ratio(seconds["rank-one"], seconds["dense"], seed=args.seed),
            "bytes": vectors / matrix,
        },
        "formula_of_dense": ratio(seconds["formula"], seconds["dense"], seed=args.seed),
        "bytes": {"rank-one": args.layers * vectors, "dense": args.layers * matrix},
        "rank_one_from_dense": apart,
    }


def several(args: Namespace, erasers: int, tokens: int) -> dict[str, Any]:
    """Measure K erasers at once: time per token, and bytes."""
    found = world(args.width, args.layers, erasers, tokens, args.device, args.seed)
    run, stack = steered(found)
    written = formula(found)
    apart = float((run() - written()).abs().max() / found.states.abs().max())
    held = held_bytes(stack)
    seconds = timed({"rank-one": run, "formula": written}, args)
    return {
        "tokens": tokens,
        "erasers": erasers,
        "seconds_per_token": {name: summary([s / tokens for s in values]) for name, values in seconds.items()},
        "bytes": {
            "artifacts": erasers * args.layers * 2 * args.width * 4,
            "held": held,
            "held_per_eraser": held / erasers,
        },
        "rank_one_from_formula": apart,
    }


def parser() -> ArgumentParser:
    """Arguments of the command line."""
    found = speed_parser("speed_shift", __doc__, "speed-shift.json")
    found.add_argument("--width", type=whole, default=3584, help="d (default: 3584)")
    found.add_argument("--layers", type=whole, default=28)
    found.add_argument("--erasers", type=whole, nargs="+", default=[1, 100, 1000], help="K (default: 1 100 1000)")
    found.add_argument("--tokens", type=whole, nargs="+", default=[1, 8], help="rows of a pass (default: 1 8)")
    found.add_argument("--repeats", type=whole, default=20, help="rounds that count (default: 20)")
    found.add_argument("--warmup", type=int, default=3, help="rounds before them (default: 3)")
    found.add_argument("--device", type=cuda_or_cpu, default="cpu", help="cpu or cuda")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the report."""
    arguments = parser()
    args = arguments.parse_args(argv)
    stated = {"width": args.width, "layers": args.layers, "erasers": " ".join(map(str, args.erasers)),
              "tokens": " ".join(map(str, args.tokens)), "repeats": args.repeats, "device": args.device}  # fmt: skip
    report = speed_report(arguments, args, **stated)
    for erasers in args.erasers:
        for tokens in args.tokens:
            entry = one_eraser(args, tokens) if erasers == 1 else several(args, erasers, tokens)
            report.add(f"K = {erasers}, {tokens} tokens", entry)
            print(_line(entry), flush=True)


def _line(entry: dict[str, Any]) -> str:
    times = ", ".join(f"{name} {found['median'] * 1e6:.0f} us" for name, found in entry["seconds_per_token"].items())
    return f"K = {entry['erasers']}, {entry['tokens']} tokens, per token: {times}"


if __name__ == "__main__":
    start(parser(), main)
