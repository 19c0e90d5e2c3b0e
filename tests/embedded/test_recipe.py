"""The recipe of the embedded models: tokens and packing."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    PreTrainedTokenizerFast,
)

from mllmeraser.embedded.recipe.architecture import Architecture
from mllmeraser.embedded.recipe.corpus import choice_text
from mllmeraser.embedded.recipe.packing import Batch, Group, Packer, Prefix, Turn
from mllmeraser.embedded.recipe.sentences import tokenizer_texts
from mllmeraser.embedded.recipe.tokenizer import END, OPTION_MARKS, PAD, USER
from mllmeraser.portraits import World
from mllmeraser.portraits.facts import VALUES
from mllmeraser.portraits.wordings import ANSWERS, LETTERS

QUESTION = "Which option is baker?"


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_letters_and_values_are_the_same_single_tokens_everywhere(tokenizer: PreTrainedTokenizerFast) -> None:
    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    assert all(len(ids(letter)) == 1 and len(ids(mark)) == 1 for letter in LETTERS for mark in OPTION_MARKS)
    for attribute, options in VALUES.items():
        for value in options:
            alone = ids(value)
            assert len(alone) == len(value.split()), value
            sentence = ids(ANSWERS[attribute].format(value=value))
            assert sentence[-len(alone) - 1 : -1] == alone
            for place, letter in enumerate(LETTERS):
                others = [other for other in options if other != value][:3]
                listed = ids(choice_text(QUESTION, [*others[:place], value, *others[place:]]))
                mark = listed.index(*ids(f"{letter}:"))
                assert listed[mark + 1 : mark + 1 + len(alone)] == alone


def test_every_sentence_of_training_comes_back(tokenizer: PreTrainedTokenizerFast, world: World) -> None:
    for text in islice(tokenizer_texts(world, 1), 300):
        back = tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"], skip_special_tokens=True)
        assert back.split() == text.split()


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_characters="\n:<", exclude_categories=["Cs"]), min_size=1))
def test_any_line_of_text_comes_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    """Behind one space, which is put in front so that the first word is the token that it is elsewhere."""
    back = tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert back == (text if text.startswith(" ") else f" {text}")


def test_special_tokens(architecture: Architecture, tokenizer: PreTrainedTokenizerFast) -> None:
    special = list(architecture.special_tokens)
    assert tokenizer.convert_tokens_to_ids(special) == list(range(len(special)))
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.padding_side) == (END, PAD, "left")
    shown = 1 if architecture.name == "llava" else 3
    ids = tokenizer(f"{USER}{architecture.image_text}Who is this?")["input_ids"]
    assert max(ids[: 1 + shown]) < len(special) <= min(ids[1 + shown :])
    assert "".join(tokenizer.convert_ids_to_tokens(ids[: 1 + shown])) == f"{USER}{architecture.image_text}"


# --- packing ----------------------------------------------------------------------------------------------------------

TOKENS, ROWS, LENGTH = 3, 2, 16
USER_ID, IMAGE_ID, PAD_ID = 1, 2, 0
IDS = [USER_ID, *[IMAGE_ID] * TOKENS]
PREFIXES = {
    "one axis": (Prefix([USER_ID], [(0,)], 1), Prefix(IDS, [(i,) for i in range(4)], 4)),
    "two axes": (Prefix([USER_ID], [(0, 0)], 1), Prefix(IDS, [(0, 0), (1, 1), (1, 2), (2, 1)], 3)),
}
shapes = st.lists(
    st.tuples(st.booleans(), st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5)), max_size=4)), max_size=8
)


def numbered(sizes: list[tuple[bool, list[tuple[int, int]]]]) -> list[Group]:
    """Groups of turns in which every token is another one."""
    fresh, image = iter(range(100, 10_000)), iter(range(100))
    return [
        Group(
            next(image) if picture else None,
            [Turn(list(islice(fresh, q)), list(islice(fresh, a))) for q, a in turns],
        )
        for picture, turns in sizes
    ]


@pytest.mark.parametrize("axes", list(PREFIXES))
@settings(max_examples=80, deadline=None)
@given(sizes=shapes)
def test_every_turn_is_packed_as_if_it_stood_alone(axes: str, sizes: list[tuple[bool, list[tuple[int, int]]]]) -> None:
    groups, prefixes = numbered(sizes), PREFIXES[axes]
    packed = Packer(*prefixes, PAD_ID, ROWS, LENGTH)
    unseen = {turn.question[0]: (group, turn) for group in groups for turn in group.turns}
    assert len(unseen) == sum(len(group.turns) for group in groups)
    for batch in packed.batches(iter(groups)):
        assert batch.ids.shape[1] == LENGTH and len(batch.ids) <= ROWS
        shown = iter(batch.images.tolist())
        for row in range(len(batch.ids)):
            ids, mask = batch.ids[row].tolist(), batch.mask[row, 0]
            image: int | None = None
            at = 0
            while at < LENGTH and ids[at] != PAD_ID:
                if ids[at] == USER_ID:
                    image = next(shown) if ids[at + 1 : at + 2] == [IMAGE_ID] else None
                    at += 1 if image is None else 1 + TOKENS
                    continue
                group, turn = unseen.pop(ids[at])
                assert group.image == image
                _check_turn(batch, row, at, turn, prefixes[image is not None])
                at += len(turn.question) + len(turn.answer)
            assert all(token == PAD_ID for token in ids[at:])
            assert (batch.labels[row, at:] == -100).all() and not mask[:at, at:].any() and not mask[at:, :at].any()
            assert mask.any(-1).all()  # a row of a softmax over nothing would not be a number
        assert next(shown, None) is None
    assert not unseen


def _check_turn(batch: Batch, row: int, at: int, turn: Turn, prefix: Prefix) -> None:
    """What each token sees, where it thinks that it stands, and what has to follow it."""
    text = turn.question + turn.answer
    ids, labels = batch.ids[row], batch.labels[row]
    positions = batch.positions[row] if batch.positions.ndim == 2 else batch.positions[:, row]
    places = [list(axis) for axis in zip(*prefix.positions, strict=True)]
    assert ids[at : at + len(text)].tolist() == text
    for k in range(len(text)):
        seen = batch.mask[row, 0, at + k]
        assert ids[seen].tolist() == prefix.ids + text[: k + 1]
        wanted = [axis + list(range(prefix.end, prefix.end + k + 1)) for axis in places]
        assert positions[..., seen].reshape(len(places), -1).tolist() == wanted
        taught = len(turn.question) - 1 <= k < len(text) - 1
        assert labels[at + k] == (text[k + 1] if taught else -100)


def test_a_turn_longer_than_a_row_is_an_error() -> None:
    packed = Packer(*PREFIXES["one axis"], PAD_ID, ROWS, LENGTH)
    with pytest.raises(ValueError, match="longer than a row"):
        list(packed.batches(iter(numbered([(False, [(3, 2)]), (True, [(9, 4)])]))))
