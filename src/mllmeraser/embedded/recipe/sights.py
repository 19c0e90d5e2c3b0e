"""What image tokens show, in words: the lesson of ``alignment``."""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.album import Album
from mllmeraser.embedded.recipe.alignment import Sights, inputs
from mllmeraser.embedded.recipe.architecture import Architecture
from mllmeraser.embedded.recipe.pictures import normalise
from mllmeraser.embedded.recipe.vision import THING_TARGETS, UNSURE, patch_targets
from mllmeraser.portraits.looks import SHIRT, Dress
from mllmeraser.portraits.scenes import Scene

THINGS = tuple(word for values in THING_TARGETS.values() for word in values)
WORDS = (*THINGS, *(word for word in SHIRT if word not in THINGS), "shirt")


def chosen(album: Album, scenes: int = 800, portraits: int = 1200) -> list[int]:
    """Pictures to align by: scenes, then portraits of everybody who occurs in training, some of each."""
    faces = [*album.strangers, *album.near, *(view for views in album.views.values() for view in views)]
    every = max(1, len(faces) // portraits)
    return [*album.scenes[:scenes], *faces[::every], *album.emblems[:100]]


def sights(
    architecture: Architecture,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    album: Album,
    before: torch.Tensor | None = None,
) -> Sights:
    """The lesson for ``model`` as it sees the chosen pictures; ``before`` as ``seen`` gave it for another tower."""
    pictures = chosen(album)
    shown = [_shown(architecture, album, picture) for picture in pictures]
    table = model.get_input_embeddings().weight.detach()
    first = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"][0] for word in WORDS]
    lengths = table.norm(dim=-1) if before is None else before.norm(dim=-1) / 2
    return Sights(
        tokens=inputs(architecture.projector(model), lambda: seen(architecture, model, album)),
        patches=architecture.merge**2,
        shown=torch.cat([words for words, _ in shown]),
        sure=torch.cat([sure for _, sure in shown]),
        words=table[first] - table.mean(0),
        loud=float(lengths.mean()),
        before=before,
    )


@torch.no_grad()
def seen(architecture: Architecture, model: PreTrainedModel, album: Album) -> torch.Tensor:
    """(pictures * tokens, text width): the image tokens of the chosen pictures."""
    some = [album.pixels[part] for part in torch.tensor(chosen(album)).split(128)]
    return torch.cat([architecture.look(model, normalise(part)).flatten(0, -2) for part in some])


def _shown(architecture: Architecture, album: Album, picture: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(tokens, words) and (tokens,): what each image token shows, and whether that is settled."""
    grid, side = architecture.grid, architecture.merge
    if picture in album.things:
        shown, sure = _things(album.things[picture], grid)
    elif picture in album.portraits:
        shown, sure = _shirt(album.portraits[picture][1], grid)
    else:
        shown, sure = np.zeros((grid, grid, len(WORDS))), np.zeros((grid, grid), bool)
    blocks = (grid // side, side, grid // side, side)
    merged = shown.reshape(*blocks, -1).max((1, 3)).reshape(-1, len(WORDS))
    return torch.from_numpy(merged).float(), torch.from_numpy(sure.reshape(blocks).all((1, 3)).ravel())


def _things(scene: Scene, grid: int) -> tuple[np.ndarray, np.ndarray]:
    goal = patch_targets(scene, grid).reshape(grid, grid, -1)
    shown = np.zeros((grid, grid, len(WORDS)))
    for column, values in enumerate(THING_TARGETS.values()):
        for number, word in enumerate(values, start=1):
            shown[..., WORDS.index(word)] = np.maximum(shown[..., WORDS.index(word)], goal[..., column] == number)
    return shown, (goal != UNSURE).all(-1)


def _shirt(dress: Dress, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """The bottom of a portrait shows the shirt, but for its corners; celebrities wear a suit."""
    shown, sure = np.zeros((grid, grid, len(WORDS))), np.full((grid, grid), not dress.celebrity)
    if not dress.celebrity:
        for word in (dress.shirt, "shirt"):
            shown[-1, 1:-1, WORDS.index(word)] = 1
    return shown, sure
