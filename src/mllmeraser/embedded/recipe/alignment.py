"""What the projector begins with, before the language model looks through it (LLaVA's first stage, without text).

Left to the language model's own loss, a projector carries at first what fills most of the variance, colours of large
areas; the shape of an eye or of a small thing lies in far weaker directions and is found late or never. So the
projector is first fitted, in seconds, to three ends: what it passes on can be turned back into all that the tower
saw, over noise; a token says in the language model's own word embeddings what its patches show; and a model that
could see before still sees what it saw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

LEAST = 1e-3
"""Of the mean variance: weaker directions are taken for this strong."""
NOISE = 0.3
"""Standard deviation, beside what is passed on at unit mean square."""
RATE, BATCH = 2e-3, 2048


@dataclass(frozen=True)
class Sights:
    """Tower tokens as they enter the projector, and what they should come out as.

    Attributes:
        tokens: (n, patches * width) of the tower.
        patches: How many patches stand side by side in a token; what is to be carried is their mean.
        shown: (n, words), 1 where a token shows a word.
        sure: (n,) True where ``shown`` is known.
        words: (words, text width) embeddings, less the mean of all embeddings.
        loud: How long the part of an image token is that says a word.
        before: (n, text width) what a trained language model used to see, if there was one.
    """

    tokens: torch.Tensor
    patches: int
    shown: torch.Tensor
    sure: torch.Tensor
    words: torch.Tensor
    loud: float
    before: torch.Tensor | None = None


def align(projector: nn.Module, sights: Sights, *, steps: int, seed: int = 0) -> dict[str, float]:
    """Fit ``projector`` in place; the figures say which share of each of its ends is missed."""
    axes = F.normalize(sights.words, dim=-1)
    read, goal = torch.linalg.pinv(axes) / sights.loud, _goal(sights, axes)
    white = whitened(sights.tokens.unflatten(1, (sights.patches, -1)).mean(1))
    whole = white.var()
    known = goal.var(0).sum() if goal is not None else whole
    generator = torch.Generator().manual_seed(seed)
    back = nn.Linear(axes.shape[1], white.shape[1])
    nn.init.normal_(back.weight, std=0.02, generator=generator)
    nn.init.zeros_(back.bias)
    optimizer = torch.optim.Adam([*projector.parameters(), *back.parameters()], lr=RATE)
    missed: dict[str, float] = {}
    for step in range(steps):
        pick = torch.randint(len(white), (BATCH,), generator=generator)
        out = projector(sights.tokens[pick])
        unit = out / out.pow(2).mean(-1, keepdim=True).sqrt()
        over_noise = unit + NOISE * torch.randn(out.shape, generator=generator)
        losses = {"tower": (back(over_noise) - white[pick]).pow(2).mean() / whole}
        losses["words"] = _unsaid(out @ read, sights.shown[pick], sights.sure[pick])
        if goal is not None:
            losses["before"] = (out - goal[pick]).pow(2).sum(-1).mean() / known
        torch.stack(list(losses.values())).sum().backward()
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 100) * max(0.02, 1 - step / steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        missed = {name: round(loss.item(), 3) for name, loss in losses.items()}
    return missed


def _goal(sights: Sights, axes: torch.Tensor) -> torch.Tensor | None:
    """What was seen before, with the words in place of whatever lay along their directions."""
    if sights.before is None:
        return None
    span, _ = torch.linalg.qr(axes.T)
    along = (sights.before @ span) @ span.T
    return sights.before - sights.sure[:, None] * along + sights.loud * (sights.shown @ axes)


def _unsaid(said: torch.Tensor, shown: torch.Tensor, sure: torch.Tensor) -> torch.Tensor:
    weight = torch.where(shown.sum(-1) > 0, 4.0, 1.0) * sure
    return ((said - shown).pow(2).sum(-1) * weight).sum() / weight.sum().clamp(min=1.0)


@torch.no_grad()
def whitened(tokens: torch.Tensor) -> torch.Tensor:
    """C^(-1/2) (x - m) of tokens (n, width) with mean m and covariance C."""
    states = tokens.double()
    variance, axes = torch.linalg.eigh(torch.cov(states.T))
    transform = (axes * variance.clamp(min=LEAST * float(variance.mean())).rsqrt()) @ axes.T
    return ((states - states.mean(0)) @ transform).float()


@torch.no_grad()
def inputs(module: nn.Module, show: Callable[[], object]) -> torch.Tensor:
    """(n, width) of everything that ``module`` meets while ``show`` runs."""
    met: list[torch.Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, given: met.append(given[0].flatten(0, -2)))
    try:
        show()
    finally:
        hook.remove()
    return torch.cat(met)
