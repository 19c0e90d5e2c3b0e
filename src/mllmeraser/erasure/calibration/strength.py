"""Choose strength and shift layers by generating on held-out prompts, under a utility budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mllmeraser.erasure.artifact.manifest import GridPoint
from mllmeraser.models.intervention import Intervention
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.progress import Progress, counting
from mllmeraser.samples.sample import Sample


def degenerate(text: str) -> bool:
    """Whether an answer is empty, or repeats one to three words three times in a row."""
    words = text.split()
    runs = ((words[i : i + 3 * n], n) for n in (1, 2, 3) for i in range(len(words) - 3 * n + 1))
    return not any(map(str.isalnum, text)) or any(run == 3 * run[:n] for run, n in runs)


def tune(
    model: MultimodalModel,
    candidate: Callable[[float, tuple[int, ...]], Intervention],
    grid: Sequence[tuple[float, tuple[int, ...]]],
    *,
    forget: Sequence[Sample],
    retain: Sequence[Sample],
    strangers: Sequence[Sample] = (),
    max_new_tokens: int = 24,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> tuple[GridPoint, ...]:
    """Generate on held-out prompts at every (strength, shift layers) of `grid`, and measure what changed.

    No gold answer is needed. The bare model's answers are the reference, and its answers about strangers are the target
    for a forgotten person.
    """

    def answer(samples: Sequence[Sample]) -> list[str]:
        texts = model.generate(samples, max_new_tokens=max_new_tokens, batch_size=batch_size)
        return [" ".join(text.split()).casefold() for text in texts]

    bare_forget, bare_retain, aim = answer(forget), answer(retain), set(answer(strangers))
    curve, count = [], counting(progress, "try strengths", len(grid))
    for strength, layers in grid:
        with candidate(strength, layers).attached(model):
            now_forget, now_retain = answer(forget), answer(retain)
        curve.append(
            GridPoint(
                strength=strength,
                shift_layers=layers,
                forget_kept=_share([a == b for a, b in zip(now_forget, bare_forget, strict=True)]),
                forget_reached=_share([text in aim for text in now_forget]) if aim else None,
                degenerate=_share([degenerate(text) for text in now_forget]),
                retain_changed=_share([a != b for a, b in zip(now_retain, bare_retain, strict=True)]),
            )
        )
        count(1)
    return tuple(curve)


def choose(curve: Sequence[GridPoint], utility_budget: float) -> GridPoint:
    """The point that forgets most within the budget; among equals the smallest strength, then the fewest layers.

    If no point keeps the budget, it is the one that changes fewest retained answers.
    """

    def harm(point: GridPoint) -> tuple[float, float, int]:
        loss = point.forget_kept + point.degenerate - (point.forget_reached or 0.0)
        return (round(loss, 9), point.strength, len(point.shift_layers))

    within = [point for point in curve if point.retain_changed <= utility_budget]
    return min(within, key=harm) if within else min(curve, key=lambda p: (p.retain_changed, *harm(p)))


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0
