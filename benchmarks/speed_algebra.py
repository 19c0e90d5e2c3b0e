"""Time of the fit algebra of one layer, compared with the published procedure on the same states.

The published procedure (arXiv 2510.04217, after AlphaSteer) starts with the singular value decomposition of the d x d
matrix of the retain states. It builds the projection P on the low-energy directions. A pseudo-inverse then gives a
dense d x d matrix: W = P (X^T X + gamma P^T P)^+ X^T (1 r^T), X = H_f P. The `hard` gate is the same function as two
vectors, W = g r^T. The `soft` gate is another function, a ridge. All is in float64.

Number of states: the published fit on 10 % of MLLMU-Bench has 9 prompts with a picture of each person (5 to choose
from, 2 to answer, 2 to complete). That gives 9 (450 + 153 celebrities) = 5427 retain states and 9 x 50 = 450 forget
states. At the width 3584 of Qwen2.5-VL-7B this is about 1.5 d and d/8. Every width uses these shares.

Each side is timed twice. `given` starts from the sums of h^T h, which both sides need for the retain states. Our side
also needs those of the forget states; the published side needs the forget states. `formed` starts from float32
states.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from timing import interleaved, ratio, speed_parser, speed_report, start, summary, unprepared, whole
from torch import Tensor

from mllmeraser.erasure.gates import hard_gate, soft_gate
from mllmeraser.erasure.states.moments import Moments

RATIO, GAMMA = 0.4, 1.0
"""Share of the width that counts as null space, and ridge, as published for Qwen2.5-VL-7B."""
DENSE_BYTES = 4
"""Bytes of a number (float32) in the published dense matrix and in an eraser."""


@dataclass(frozen=True)
class Layer:
    """Random states of one layer.

    Attributes:
        retain: (n_r, d) float32.
        forget: (n_f, d) float32.
        direction: (d,) float64, r.
    """

    retain: Tensor
    forget: Tensor
    direction: Tensor


def made_up(width: int, seed: int) -> Layer:
    """Random states around a mean: energy by a power law in a random basis, forget states moved away."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    scale = torch.arange(1, width + 1, dtype=torch.float64) ** -0.5
    mixing = scale[:, None] * torch.linalg.qr(noise(width, width))[0]
    middle, aside = 2.0 * noise(width) @ mixing, noise(width) @ mixing
    retain = noise(3 * width // 2, width) @ mixing + middle
    forget = noise(width // 8, width) @ mixing + middle + aside
    return Layer(retain.float(), forget.float(), noise(width))


def gram(states: Tensor) -> Tensor:
    """(d, d) float64 sum of h^T h, formed as in the published code."""
    rows = states.double()
    return rows.T @ rows


def published(retain_gram: Tensor, forget: Tensor, direction: Tensor) -> Tensor:
    """(d, d) float64 matrix W of the published procedure: an SVD, then a pseudo-inverse."""
    width = retain_gram.shape[0]
    basis = torch.linalg.svd(retain_gram)[2][-int(width * RATIO) :].T
    projection = basis @ basis.T
    rows = forget.double() @ projection
    inner = rows.T @ rows + GAMMA * (projection.T @ projection)
    targets = direction.double().repeat(rows.shape[0], 1)
    return projection @ (torch.linalg.pinv(inner) @ (rows.T @ targets))


def sides(layer: Layer) -> dict[str, Callable[[], object]]:
    """The timed functions, by name."""
    retain, forget = Moments.from_states(layer.retain), Moments.from_states(layer.forget)
    given = gram(layer.retain)

    def formed() -> tuple[Moments, Moments]:
        return Moments.from_states(layer.retain), Moments.from_states(layer.forget)

    return {
        "published, given": lambda: published(given, layer.forget, layer.direction),
        "hard, given": lambda: hard_gate(retain, forget, ratio=RATIO, gamma=GAMMA),
        "soft, given": lambda: soft_gate(retain, forget),
        "published, formed": lambda: published(gram(layer.retain), layer.forget, layer.direction),
        "hard, formed": lambda: hard_gate(*formed(), ratio=RATIO, gamma=GAMMA),
        "soft, formed": lambda: soft_gate(*formed()),
    }


def disagreement(layer: Layer) -> float:
    """Largest entry of g r^T - W, relative to the largest entry of the published W."""
    weight = hard_gate(
        Moments.from_states(layer.retain), Moments.from_states(layer.forget), ratio=RATIO, gamma=GAMMA
    ).tensors["weight"][0]
    dense = published(gram(layer.retain), layer.forget, layer.direction)
    return float((torch.outer(weight, layer.direction) - dense).abs().max() / dense.abs().max())


def measure(width: int, repeats: int, warmup: int, seed: int) -> dict[str, Any]:
    """Measure one width: times, ratios to the published procedure, agreement with it, bytes."""
    layer = made_up(width, seed)
    seconds = interleaved({name: unprepared(run) for name, run in sides(layer).items()}, repeats, warmup=warmup)
    faster = {
        name: ratio(seconds[f"published, {name.split(', ')[1]}"], seconds[name], seed=seed)
        for name in seconds
        if not name.startswith("published")
    }
    return {
        "width": width,
        "retain_states": layer.retain.shape[0],
        "forget_states": layer.forget.shape[0],
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "times_faster": faster,
        "hard_from_published": disagreement(layer),
        "bytes": {"vectors": 2 * width * DENSE_BYTES, "dense": width * width * DENSE_BYTES},
    }


def parser() -> ArgumentParser:
    """Arguments of the command line."""
    found = speed_parser("speed_algebra", __doc__, "speed-algebra.json")
    found.add_argument(
        "--widths", type=whole, nargs="+", default=[1024, 2048, 3584], help="d (default: 1024 2048 3584)"
    )
    found.add_argument("--repeats", type=whole, default=3, help="rounds that count (default: 3)")
    found.add_argument("--warmup", type=int, default=1, help="rounds before them (default: 1)")
    return found


def main(argv: list[str] | None = None) -> None:
    """Measure every width, and write the report."""
    arguments = parser()
    args = arguments.parse_args(argv)
    if min(args.widths) < 8:
        arguments.error("a width of less than 8 leaves no forget state")
    widths = " ".join(map(str, args.widths))
    report = speed_report(arguments, args, widths=widths, repeats=args.repeats, warmup=args.warmup)
    for width in args.widths:
        entry = measure(width, args.repeats, args.warmup, args.seed)
        report.add(f"d = {width}", entry)
        times = ", ".join(f"{name} {found['median']:.1f}x" for name, found in entry["times_faster"].items())
        print(f"d = {width}: {times}; hard differs by {entry['hard_from_published']:.1e}", flush=True)


if __name__ == "__main__":
    start(parser(), main)
