"""How a projector begins: it carries what the tower sees, names it, and goes on saying what it said before."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.album import Album, Counts, world_album
from mllmeraser.embedded.recipe.alignment import (
    SEEN,
    WORDS,
    Names,
    Sights,
    align,
    chosen,
    inputs,
    seen,
    sights,
    whitened,
)
from mllmeraser.embedded.recipe.architecture import IMAGE_SIZE, Architecture
from mllmeraser.portraits import World

WIDTH = 12


def lesson(before: bool) -> Sights:
    """A tower whose weakest direction says which of two words is shown."""
    draw = torch.Generator().manual_seed(0)
    kind = torch.randint(3, (4000,), generator=draw)
    tokens = torch.randn(4000, WIDTH, generator=draw) * torch.linspace(8.0, 1.0, WIDTH)
    tokens[:, -1] = 0.5 * (kind - 1) + 0.02 * torch.randn(4000, generator=draw)
    shown = torch.stack([kind == 0, kind == 2], 1).float()
    told = tokens @ torch.randn(WIDTH, WIDTH, generator=draw) if before else None
    sure, words = torch.ones(4000, dtype=torch.bool), torch.randn(2, WIDTH, generator=draw)
    return Sights(tokens, 1, shown, sure, words, 4.0, told)


def projector() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 3 * WIDTH), nn.GELU(), nn.Linear(3 * WIDTH, WIDTH))


@pytest.mark.parametrize("before", [False, True])
def test_a_token_says_what_it_shows_however_faint_it_is(before: bool) -> None:
    made, given = projector(), lesson(before)
    missed = align(made, given, steps=800)
    said = made(given.tokens) @ torch.linalg.pinv(nn.functional.normalize(given.words, dim=-1)) / given.loud
    sure = given.shown.sum(1) > 0
    right = (said.argmax(1) == given.shown.argmax(1))[sure].float().mean()
    assert right > 0.95 and missed["words"] < 0.2
    assert missed["tower"] < 0.6 and set(missed) == {"tower", "words"} | ({"before"} if before else set())


def test_it_goes_on_saying_what_it_said() -> None:
    made, given = projector(), lesson(before=True)
    assert align(copy.deepcopy(made), given, steps=5)["before"] > 0.6
    assert align(made, given, steps=800)["before"] < 0.45


def test_a_token_spells_its_part_of_a_name_where_there_is_one() -> None:
    made, given = projector(), lesson(before=False)
    draw = torch.Generator().manual_seed(1)
    words, where = torch.randn(3, WIDTH, generator=draw), (given.tokens[:, 2] > 4).nonzero()[:, 0]
    spelt = (given.tokens[where, 0] > 0).long() + (given.tokens[where, 1] > 0).long()
    names = Names(where, spelt, torch.ones(len(where)), words)
    missed = align(made, replace(given, names=names), steps=800)
    said = made(given.tokens[where])
    nearest = torch.cdist(said, words).argmin(1)
    assert (nearest == spelt).float().mean() > 0.8
    assert set(missed) == {"tower", "words", "names"}


def test_the_same_seed_gives_the_same_projector() -> None:
    first, again = projector(), projector()
    torch.manual_seed(5)
    align(first, lesson(before=False), steps=3, seed=1)
    torch.manual_seed(6)
    align(again, lesson(before=False), steps=3, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_whitened_tokens_have_unit_covariance_but_where_there_is_nothing() -> None:
    states = torch.randn(4000, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([10.0, 3.0, 1.0, 0.0]) + 7
    found = torch.cov(whitened(states).T)
    torch.testing.assert_close(found, torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0])), rtol=0, atol=1e-3)


def test_nothing_is_left_behind_when_looking_fails() -> None:
    linear = nn.Linear(4, 4)
    with pytest.raises(RuntimeError):
        inputs(linear, lambda: linear(torch.ones(2, 3)))
    assert not linear._forward_pre_hooks


@pytest.fixture(scope="module")
def album(world: World) -> Album:
    made = world_album(world, seed=0, counts=Counts(1, 3, 3, 12, 4))
    made.draw()
    return made


@pytest.fixture(scope="module")
def model(architecture: Architecture, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    return architecture.build_model(tokenizer, 0).eval()


def test_what_image_tokens_show(
    architecture: Architecture, tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel, album: Album
) -> None:
    given = sights(architecture, model, tokenizer, album)
    cells = (architecture.grid // architecture.merge) ** 2
    pictures = chosen(album)
    assert len(given.tokens) == len(given.shown) == len(given.sure) == cells * len(pictures)
    assert given.words.shape == (len(WORDS), 160) and seen(architecture, model, album).shape == (len(given.tokens), 160)
    by_picture = given.shown.reshape(len(pictures), cells, -1)
    for shown, sure, picture in zip(by_picture, given.sure.reshape(len(pictures), cells), pictures, strict=True):
        said = {WORDS[i] for i in shown.sum(0).nonzero().flatten().tolist()}
        if picture in album.things:  # whatever covers the middle of a patch
            assert said <= {w for t in album.things[picture].objects for w in (t.shape, t.colour, t.size)}
        elif picture in album.portraits:
            dress = album.portraits[picture][1]
            assert (
                said == (set() if dress.celebrity else {"shirt", dress.shirt}) and bool(sure.any()) != dress.celebrity
            )
        else:
            assert not said and not sure.any()
    assert by_picture[:12].sum() > 0


def test_each_word_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    """Or a token of an image could not say it."""
    for word in WORDS:
        assert len(tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) == 1, word


def test_what_the_projector_meets_makes_the_image_tokens(architecture: Architecture, model: PreTrainedModel) -> None:
    pixels = torch.randn(2, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    part = architecture.projector(model)
    with torch.no_grad():
        met = inputs(part, lambda: architecture.look(model, pixels))
        torch.testing.assert_close(part(met), architecture.look(model, pixels).flatten(0, -2), rtol=0, atol=1e-5)


def test_names_stand_in_one_row_and_rare_ones_are_drawn_as_often(
    architecture: Architecture, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, album: Album
) -> None:
    faces = [view for views in album.views.values() for view in views][:3]
    told = {faces[0]: [5, 6], faces[1]: [7], faces[2]: [7]}
    names = sights(architecture, model, tokenizer, album, names=told).names
    side = architecture.grid // architecture.merge
    assert names is not None
    starts = [row * side for row in range(side - SEEN)]
    assert sorted((names.where % side**2).tolist()) == sorted([*starts * 3, *(start + 1 for start in starts)])
    assert torch.equal(names.words, model.get_input_embeddings().weight.detach()[[5, 6, 7]])
    drawn = dict.fromkeys(range(3), 0.0)
    for number, often in zip(names.spelt.tolist(), names.often.tolist(), strict=True):
        drawn[number] += often
    assert list(drawn.values()) == pytest.approx([side - SEEN] * 3)
