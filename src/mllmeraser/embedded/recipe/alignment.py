"""The projector's start, before the language model is trained with it (LLaVA's first stage, without text).

The language model's loss first teaches a projector the directions of most variance, such as colours of large areas.
Shapes of eyes and of small things lie in weaker directions; it learns them late or never. So the projector is first
fitted, in seconds, to three goals. From its output over noise one can restore the tower's tokens. A token names its
patches in the language model's own word embeddings. And a model that saw before still sees the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.album import Album, normalize
from mllmeraser.embedded.recipe.architecture import Architecture
from mllmeraser.embedded.recipe.vision import THING_TARGETS, UNSURE, patch_targets
from mllmeraser.portraits.looks import SHIRT

THINGS = tuple(word for values in THING_TARGETS.values() for word in values)
WORDS = (*THINGS, *(word for word in SHIRT if word not in THINGS), "shirt")
LEAST = 1e-3
"""Weaker directions are whitened as if they had this share of the mean variance."""
NOISE = 0.3
"""Standard deviation of the noise on outputs of mean square 1."""
RATE, BATCH = 2e-3, 2048


@dataclass(frozen=True)
class Sights:
    """Tower tokens at the projector's input, and the goals of its output.

    Attributes:
        tokens: (n, patches * width) of the tower.
        patches: Patches side by side in a token; the projector should carry their mean.
        shown: (n, words), 1 where a token shows a word.
        sure: (n,) True where `shown` is known.
        words: (words, text width) embeddings, less the mean of all embeddings.
        loud: Length of a word's part of an image token.
        before: (n, text width) image tokens of the trained model, if there was one.
    """

    tokens: torch.Tensor
    patches: int
    shown: torch.Tensor
    sure: torch.Tensor
    words: torch.Tensor
    loud: float
    before: torch.Tensor | None = None


def align(projector: nn.Module, sights: Sights, *, steps: int, seed: int = 0) -> dict[str, float]:
    """Fit `projector` in place. Return the share of each goal that it misses."""
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
        noisy = unit + NOISE * torch.randn(out.shape, generator=generator)
        losses = {"tower": (back(noisy) - white[pick]).pow(2).mean() / whole}
        losses["words"] = _word_loss(out @ read, sights.shown[pick], sights.sure[pick])
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
    """The earlier image tokens; where words are known, they replace the part along the words' directions."""
    if sights.before is None:
        return None
    span, _ = torch.linalg.qr(axes.T)
    along = (sights.before @ span) @ span.T
    return sights.before - sights.sure[:, None] * along + sights.loud * (sights.shown @ axes)


def _word_loss(scores: torch.Tensor, shown: torch.Tensor, sure: torch.Tensor) -> torch.Tensor:
    weight = torch.where(shown.sum(-1) > 0, 4.0, 1.0) * sure
    return ((scores - shown).pow(2).sum(-1) * weight).sum() / weight.sum().clamp(min=1.0)


@torch.no_grad()
def whitened(tokens: torch.Tensor) -> torch.Tensor:
    """C^(-1/2) (x - m) of tokens (n, width) with mean m and covariance C."""
    states = tokens.double()
    variance, axes = torch.linalg.eigh(torch.cov(states.T))
    transform = (axes * variance.clamp(min=LEAST * float(variance.mean())).rsqrt()) @ axes.T
    return ((states - states.mean(0)) @ transform).float()


@torch.no_grad()
def inputs(module: nn.Module, show: Callable[[], object]) -> torch.Tensor:
    """(n, width): all inputs of `module` while `show` runs."""
    parts: list[torch.Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, args: parts.append(args[0].flatten(0, -2)))
    try:
        show()
    finally:
        hook.remove()
    return torch.cat(parts)


def chosen(album: Album, scenes: int = 800, portraits: int = 1200) -> list[int]:
    """Pictures to align by: scenes, and some portraits of strangers and of each person in training."""
    faces = [*album.strangers, *album.near, *(view for views in album.views.values() for view in views)]
    every = max(1, len(faces) // portraits)
    flags = [view for views in album.flags.values() for view in views[:5]]
    return [*album.scenes[:scenes], *faces[::every], *album.emblems[:100], *flags]


def sights(
    architecture: Architecture,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    album: Album,
    before: torch.Tensor | None = None,
) -> Sights:
    """The goals for `model` on the chosen pictures; `before` is the result of `seen` for another tower."""
    labels = [_labels(architecture, album, picture) for picture in chosen(album)]
    table = model.get_input_embeddings().weight.detach()
    first = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0] for word in WORDS]
    lengths = table.norm(dim=-1) if before is None else before.norm(dim=-1) / 2
    return Sights(
        tokens=inputs(architecture.projector(model), lambda: seen(architecture, model, album)),
        patches=architecture.merge**2,
        shown=torch.cat([shown for shown, _ in labels]),
        sure=torch.cat([sure for _, sure in labels]),
        words=table[first] - table.mean(0),
        loud=float(lengths.mean()),
        before=before,
    )


@torch.no_grad()
def seen(architecture: Architecture, model: PreTrainedModel, album: Album) -> torch.Tensor:
    """(pictures * tokens, text width): the image tokens of the chosen pictures."""
    parts = [album.pixels[part] for part in torch.tensor(chosen(album)).split(128)]
    return torch.cat([architecture.look(model, normalize(part)).flatten(0, -2) for part in parts])


def _labels(architecture: Architecture, album: Album, picture: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(tokens, words) and (tokens,): the words of each image token, and whether they are known."""
    grid, side = architecture.grid, architecture.merge
    shown, sure = np.zeros((grid, grid, len(WORDS))), np.zeros((grid, grid), bool)
    if picture in album.things:
        goal = patch_targets(album.things[picture], grid).reshape(grid, grid, -1)
        sure = (goal != UNSURE).all(-1)
        for column, values in enumerate(THING_TARGETS.values()):
            for number, word in enumerate(values, start=1):
                shown[..., WORDS.index(word)] = np.maximum(shown[..., WORDS.index(word)], goal[..., column] == number)
    elif picture in album.portraits and not (dress := album.portraits[picture][1]).celebrity:  # who wear suits
        sure[:] = True
        for word in (dress.shirt, "shirt"):
            shown[-1, 1:-1, WORDS.index(word)] = 1  # the bottom of a portrait, without its corners
    blocks = (grid // side, side, grid // side, side)
    merged = shown.reshape(*blocks, -1).max((1, 3)).reshape(-1, len(WORDS))
    return torch.from_numpy(merged).float(), torch.from_numpy(sure.reshape(blocks).all((1, 3)).ravel())
