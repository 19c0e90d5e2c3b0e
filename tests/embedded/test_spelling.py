"""What the projector of `embedded:smol` should spell, and how well it does."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.album import Album, Counts, world_album
from mllmeraser.embedded.smol.architecture import Smol
from mllmeraser.embedded.smol.spelling import STRANGER, names_of, spelt
from mllmeraser.knowledge.countries import COUNTRIES
from mllmeraser.portraits import World
from mllmeraser.portraits.stream import Stream


class Embeddings:
    """As much of a model as is read here."""

    def __init__(self, size: int) -> None:
        self.table = nn.Embedding(size, 24)
        nn.init.normal_(self.table.weight, generator=torch.Generator().manual_seed(0))

    def get_input_embeddings(self) -> nn.Embedding:
        return self.table


@pytest.fixture(scope="module")
def pictures(world: World) -> Album:
    album = world_album(world, seed=0, counts=Counts(1, 3, 2, 2, 2))
    album.add_flags(Stream("spelling"), 1)
    album.draw()
    return album


def test_every_face_and_flag_has_a_name(world: World, pictures: Album, tokenizer: PreTrainedTokenizerFast) -> None:
    names = names_of(world, pictures, tokenizer)
    told = {picture: tokenizer.decode(ids).strip() for picture, ids in names.items()}
    assert {told[view] for view in (*pictures.strangers, *pictures.near)} == {STRANGER}
    person, country = world.people[0], COUNTRIES[0]
    assert told[pictures.views[person.key][0]] == person.name
    assert told[pictures.flags[country.key][0]] == country.name
    assert not set(names) & set(pictures.things)


def test_a_picture_counts_if_its_rows_together_spell_its_name(
    world: World, pictures: Album, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, names = Embeddings(len(tokenizer)), names_of(world, pictures, tokenizer)
    shown = iter(names)

    def look(self: Smol, model: Embeddings, pixels: torch.Tensor) -> torch.Tensor:
        """The right name in four rows of seven; of every second flag another one in all rows."""
        picture = next(shown)
        flags = [views[0] for views in pictures.flags.values()]
        named = picture if picture not in flags[::2] else flags[1]
        rows = torch.randn(7, 7, 24, generator=torch.Generator().manual_seed(picture))
        ids = names[named][:7]
        rows[:4, : len(ids)] = model.table.weight.detach()[ids]
        return rows.flatten(0, 1)[None]

    monkeypatch.setattr(Smol, "look", look)
    found = spelt(model, tokenizer, world, pictures)  # type: ignore[arg-type]
    assert found == {"people": 1.0, "flags": 0.5, "strangers": 1.0, "near strangers": 1.0}
