"""What the projector of `embedded:smol` spells: the names of known faces and of flags, and "an unknown person"."""

from __future__ import annotations

from collections import defaultdict

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.album import Album, normalize
from mllmeraser.embedded.recipe.alignment import SEEN
from mllmeraser.embedded.smol.architecture import Smol
from mllmeraser.knowledge.countries import COUNTRIES
from mllmeraser.portraits.people import World

STRANGER = "an unknown person"


def names_of(world: World, album: Album, tokenizer: PreTrainedTokenizerFast) -> dict[int, list[int]]:
    """The tokens of each picture's name: a known person's, a country's, or those of `STRANGER`."""
    told: dict[int, list[int]] = {}
    for views in _views(world, album).values():
        for name, pictures in views.items():
            ids = tokenizer(f" {name}", add_special_tokens=False)["input_ids"]
            told |= dict.fromkeys(pictures, ids)
    return told


@torch.no_grad()
def spelt(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, world: World, album: Album) -> dict[str, float]:
    """Share of pictures whose image tokens are nearest to the right name among all names, by kind of picture."""
    architecture, names = Smol(), names_of(world, album, tokenizer)
    table = F.normalize(model.get_input_embeddings().weight, dim=-1)
    known = sorted({tuple(name[: architecture.grid]) for name in names.values()})
    right: dict[str, list[bool]] = defaultdict(list)
    for kind, views in _views(world, album).items():
        for picture in (picture for pictures in views.values() for picture in pictures):
            tokens = architecture.look(model, normalize(album.pixels[[picture]]))[0]
            rows = F.normalize(tokens.unflatten(0, (architecture.grid, -1)), dim=-1)[:-SEEN]
            alike = [float((rows[:, : len(name)] * table[list(name)]).sum(-1).mean()) for name in known]
            nearest = known[max(range(len(known)), key=alike.__getitem__)]
            right[kind].append(nearest == tuple(names[picture][: architecture.grid]))
    return {kind: round(sum(hits) / len(hits), 3) for kind, hits in right.items()}


def _views(world: World, album: Album) -> dict[str, dict[str, list[int]]]:
    """Pictures by kind and name."""
    return {
        "people": {person.name: album.views[person.key] for person in (*world.people, *world.celebrities)},
        "flags": {country.name: album.flags[country.key] for country in COUNTRIES},
        "strangers": {STRANGER: list(album.strangers)},
        "near strangers": {STRANGER: list(album.near)},
    }
