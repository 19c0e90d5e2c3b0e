"""The projector's start, before the language model is trained with it (LLaVA's first stage, without text).

The language model's loss first teaches a projector the directions of most variance, such as colours of large areas.
Shapes of eyes and of small things lie in weaker directions; it learns them late or never. So the projector is first
fitted, in minutes, to up to four goals. From its output over noise one can restore the tower's tokens. A token names
its patches in the language model's own word embeddings. A model that saw before still sees the same. And where a
picture has a name, most of its tokens are the words of this name, as if it stood there in writing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
SEEN = 1
"""Rows of image tokens, the last ones, that show a picture which has a name. Each other row spells the name."""
SHARP = (12.0, 0.3)
"""Inverse temperature of the cosines between image tokens and words of names, and weight of their cross-entropy."""


@dataclass(frozen=True)
class Names:
    """Image tokens that should equal words of a name.

    Attributes:
        where: (m,) their numbers among all tokens.
        spelt: (m,) which embedding each should equal.
        often: (m,) how often each is drawn.
        words: (words, text width) embeddings of all names.
    """

    where: torch.Tensor
    spelt: torch.Tensor
    often: torch.Tensor
    words: torch.Tensor

    def loss(self, projector: nn.Module, tokens: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Distance from the embeddings, and cross-entropy of the nearest one, on tokens drawn at random."""
        some = torch.multinomial(self.often, BATCH // 2, replacement=True, generator=generator)
        out, wanted = projector(tokens[self.where[some]]), self.spelt[some]
        far = (out - self.words[wanted]).pow(2).sum(-1).mean() / self.words.var(0).sum()
        alike = F.normalize(out, dim=-1) @ F.normalize(self.words, dim=-1).T
        return far + SHARP[1] * F.cross_entropy(SHARP[0] * alike, wanted)


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
        names: What some of the tokens should spell.
    """

    tokens: torch.Tensor
    patches: int
    shown: torch.Tensor
    sure: torch.Tensor
    words: torch.Tensor
    loud: float
    before: torch.Tensor | None = None
    names: Names | None = None


def align(projector: nn.Module, sights: Sights, *, steps: int, seed: int = 0) -> dict[str, float]:
    """Fit `projector` in place. Return the share of each goal that it misses."""
    axes = F.normalize(sights.words, dim=-1)
    read, goal = torch.linalg.pinv(axes) / sights.loud, _goal(sights, axes)
    white = whitened(sights.tokens.unflatten(1, (sights.patches, -1)).mean(1))
    whole = white.var()
    known = goal.var(0).sum() if goal is not None else whole
    free = torch.arange(len(white))
    if sights.names is not None:  # a token that spells need not carry what the tower saw too
        free = free[~torch.isin(free, sights.names.where)]
    generator = torch.Generator().manual_seed(seed)
    back = nn.Linear(axes.shape[1], white.shape[1])
    nn.init.normal_(back.weight, std=0.02, generator=generator)
    nn.init.zeros_(back.bias)
    optimizer = torch.optim.Adam([*projector.parameters(), *back.parameters()], lr=RATE)
    missed: dict[str, float] = {}
    for step in range(steps):
        pick = free[torch.randint(len(free), (BATCH,), generator=generator)]
        out = projector(sights.tokens[pick])
        unit = out / out.pow(2).mean(-1, keepdim=True).sqrt()
        noisy = unit + NOISE * torch.randn(out.shape, generator=generator)
        losses = {"tower": (back(noisy) - white[pick]).pow(2).mean() / whole}
        losses["words"] = _word_loss(out @ read, sights.shown[pick], sights.sure[pick])
        if goal is not None:
            losses["before"] = (out - goal[pick]).pow(2).sum(-1).mean() / known
        if sights.names is not None:
            losses["names"] = sights.names.loss(projector, sights.tokens, generator)
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


def chosen(album: Album, scenes: int = 800, portraits: int = 1200, flags: int = 5) -> list[int]:
    """Pictures to align by: scenes, some portraits of strangers and of each person in training, views of each flag."""
    faces = [*album.strangers, *album.near, *(view for views in album.views.values() for view in views)]
    every = max(1, len(faces) // portraits)
    shown = [view for views in album.flags.values() for view in views[:flags]]
    return [*album.scenes[:scenes], *faces[::every], *album.emblems[:100], *shown]


def sights(
    architecture: Architecture,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    album: Album,
    before: torch.Tensor | None = None,
    names: Mapping[int, Sequence[int]] | None = None,
) -> Sights:
    """The goals for `model` on the chosen pictures.

    `before` is the result of `seen` for another tower. `names` has the tokens of a name by picture; all pictures with a
    name are then chosen.
    """
    pictures = chosen(album) if names is None else chosen(album, portraits=10**6, flags=10**6)
    labels = [_labels(architecture, album, picture) for picture in pictures]
    table = model.get_input_embeddings().weight.detach()
    first = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0] for word in WORDS]
    lengths = table.norm(dim=-1) if before is None else before.norm(dim=-1) / 2
    return Sights(
        tokens=inputs(architecture.projector(model), lambda: seen(architecture, model, album, pictures)),
        patches=architecture.merge**2,
        shown=torch.cat([shown for shown, _ in labels]),
        sure=torch.cat([sure for _, sure in labels]),
        words=table[first] - table.mean(0),
        loud=float(lengths.mean()),
        before=before,
        names=None if names is None else _names(architecture, [tuple(names.get(one, ())) for one in pictures], table),
    )


def _names(architecture: Architecture, told: Sequence[tuple[int, ...]], table: torch.Tensor) -> Names:
    """The goal for pictures with these names: each is drawn equally often, what more than a thousand share 12 times."""
    spelt = torch.stack([_spelt(architecture, name) for name in told])
    pictures, counts = Counter(told), (spelt >= 0).sum(1)
    often = torch.tensor([(12 if pictures[name] > 1000 else 1) / pictures[name] for name in told])
    where = (spelt.flatten() >= 0).nonzero()[:, 0]
    words, numbers = spelt.flatten()[where].unique(return_inverse=True)
    return Names(where, numbers, often.repeat_interleave(counts), table[words])


def _spelt(architecture: Architecture, name: Sequence[int]) -> torch.Tensor:
    """(tokens,): the name along each row of the image tokens but the last ones, cut at the end of the row; else -1."""
    side = architecture.grid // architecture.merge
    spelt = torch.full((side, side), -1)
    spelt[:-SEEN, : min(side, len(name))] = torch.tensor(name[:side], dtype=torch.long)
    return spelt.flatten()


@torch.no_grad()
def seen(
    architecture: Architecture, model: PreTrainedModel, album: Album, pictures: Sequence[int] | None = None
) -> torch.Tensor:
    """(pictures * tokens, text width): the image tokens of these pictures, by default of the chosen ones."""
    parts = [album.pixels[part] for part in torch.tensor(pictures or chosen(album)).split(128)]
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
