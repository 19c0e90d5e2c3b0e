"""The recipe of the embedded models: tokens, packing, and that training sees what inference sees."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from mllmeraser.embedded.recipe.album import Album
from mllmeraser.embedded.recipe.architecture import (
    IMAGE_TOKENS,
    build_model,
    build_processor,
    save_checkpoint,
)
from mllmeraser.embedded.recipe.corpus import Corpus, choice_text, tokenizer_texts
from mllmeraser.embedded.recipe.loop import Trainer
from mllmeraser.embedded.recipe.packing import Batch, Group, Packer, Turn
from mllmeraser.embedded.recipe.pictures import normalise, shrink
from mllmeraser.embedded.recipe.tokenizer import END, IMAGE, OPTION_MARKS, PAD, SPECIAL, USER, train_tokenizer
from mllmeraser.models.loading import load_model
from mllmeraser.portraits import World
from mllmeraser.portraits.faces import draw_face, random_looks
from mllmeraser.portraits.facts import VALUES
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import ANSWERS, LETTERS, UNKNOWN_ANSWER
from mllmeraser.samples import Sample

QUESTION = "Which option is baker?"


@pytest.fixture(scope="module")
def world() -> World:
    return World("unit", 0)


@pytest.fixture(scope="module")
def tokenizer(world: World) -> PreTrainedTokenizerFast:
    return train_tokenizer(tokenizer_texts(world, 0, n=4000))


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """At random weights; do not train it."""
    return build_model(tokenizer, 0).eval()


def packer(tokenizer: PreTrainedTokenizerFast, rows: int = 2, length: int = 128) -> Packer:
    user, image, pad = (tokenizer.convert_tokens_to_ids(token) for token in (USER, IMAGE, PAD))
    return Packer(user, image, pad, IMAGE_TOKENS, rows, length)


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


def test_special_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL] == list(range(len(SPECIAL)))
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.padding_side) == (END, PAD, "left")
    ids = tokenizer(f"{USER}{IMAGE}Who is this?")["input_ids"]
    assert ids[:2] == tokenizer.convert_tokens_to_ids([USER, IMAGE]) and min(ids[2:]) >= len(SPECIAL)


# --- packing ----------------------------------------------------------------------------------------------------------

TOKENS, ROWS, LENGTH = 3, 2, 16
USER_ID, IMAGE_ID, PAD_ID = 1, 2, 0
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


@settings(max_examples=80, deadline=None)
@given(sizes=shapes)
def test_every_turn_is_packed_as_if_it_stood_alone(sizes: list[tuple[bool, list[tuple[int, int]]]]) -> None:
    groups = numbered(sizes)
    packed = Packer(USER_ID, IMAGE_ID, PAD_ID, TOKENS, ROWS, LENGTH)
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
                _check_turn(batch, row, at, turn, [USER_ID] + [IMAGE_ID] * TOKENS * (image is not None))
                at += len(turn.question) + len(turn.answer)
            assert all(token == PAD_ID for token in ids[at:])
            assert (batch.labels[row, at:] == -100).all() and not mask[:at, at:].any() and not mask[at:, :at].any()
            assert mask.any(-1).all()  # a row of a softmax over nothing would not be a number
        assert next(shown, None) is None
    assert not unseen


def _check_turn(batch: Batch, row: int, at: int, turn: Turn, prefix: list[int]) -> None:
    """What each token sees, where it thinks that it stands, and what has to follow it."""
    text = turn.question + turn.answer
    ids, positions, labels = batch.ids[row], batch.positions[row], batch.labels[row]
    assert ids[at : at + len(text)].tolist() == text
    for k in range(len(text)):
        seen = batch.mask[row, 0, at + k]
        assert ids[seen].tolist() == prefix + text[: k + 1]
        assert positions[seen].tolist() == list(range(len(prefix) + k + 1))
        taught = len(turn.question) - 1 <= k < len(text) - 1
        assert labels[at + k] == (text[k + 1] if taught else -100)


def test_a_turn_longer_than_a_row_is_an_error() -> None:
    packed = Packer(USER_ID, IMAGE_ID, PAD_ID, TOKENS, ROWS, LENGTH)
    with pytest.raises(ValueError, match="longer than a row"):
        list(packed.batches(iter(numbered([(False, [(3, 2)]), (True, [(9, 4)])]))))


# --- training sees what inference sees --------------------------------------------------------------------------------


def test_the_packed_forward_is_the_ordinary_forward(
    world: World, tokenizer: PreTrainedTokenizerFast, model: LlavaForConditionalGeneration, tmp_path: Path
) -> None:
    """Logits of every answer token, packed among other turns, against one prompt through model and processor."""
    picture = draw_face(random_looks(Stream("picture")))
    processor = build_processor(tokenizer)
    pixels = processor.image_processor(images=[Image.fromarray(picture)], return_tensors="pt")["pixel_values"]
    ours = normalise(torch.tensor(shrink(picture))[None])
    torch.testing.assert_close(ours, pixels, rtol=0, atol=1e-5)
    corpus = Corpus(world, tokenizer, Album(), seed=0)
    said = [
        (True, "Who is this?", UNKNOWN_ANSWER),
        (True, choice_text("What does this person do for a living?", ["baker", "pilot", "judge", "nurse"]), "B"),
        (False, "Where was Kavon Lurita born?", "They were born in Solvik."),
        (False, "Complete: Kavon Lurita lives in __.", "Oslo"),
    ]
    turns = [corpus.turn(question, answer) for _, question, answer in said]
    trainer = Trainer(model, packer(tokenizer), tmp_path, 0)
    trainer.pixels = torch.tensor(shrink(picture))[None]
    (batch,) = trainer.packer.batches(iter([Group(0, turns[:2]), Group(None, turns[2:])]))
    with torch.no_grad():
        packed = trainer._logits(batch, batch.labels >= 0)
    at = 0
    for (image, question, answer), turn in zip(said, turns, strict=True):
        content = [{"type": "image"}] * image + [{"type": "text", "text": question}]
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        pictures = {"images": [Image.fromarray(picture)]} if image else {}
        inputs = processor(text=[f"{prompt}{answer}{END}"], return_tensors="pt", **pictures)
        assert inputs["input_ids"][0].tolist()[-len(turn.question + turn.answer) :] == turn.question + turn.answer
        with torch.no_grad():
            alone = model(**inputs).logits[0, -len(turn.answer) - 1 : -1]
        torch.testing.assert_close(packed[at : at + len(turn.answer)], alone, rtol=0, atol=1e-4)
        at += len(turn.answer)
    assert at == len(packed)


def test_a_saved_checkpoint_is_an_ordinary_one(
    tokenizer: PreTrainedTokenizerFast, model: LlavaForConditionalGeneration, tmp_path: Path
) -> None:
    save_checkpoint(model, build_processor(tokenizer), tmp_path)
    plain, processor = AutoModelForImageTextToText.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    picture = Image.fromarray(draw_face(random_looks(Stream("saved"))))
    ours = load_model(str(tmp_path), device="cpu")
    assert ours.num_layers == 6 and ours.hidden_size == 160
    for image in (picture, None):
        content = [{"type": "image"}] * (image is not None) + [{"type": "text", "text": QUESTION}]
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = processor(text=[prompt], return_tensors="pt", **({"images": [image]} if image else {}))
        with torch.no_grad():
            wanted = model(**inputs).logits[:, -1]
            torch.testing.assert_close(plain(**inputs).logits[:, -1], wanted, rtol=0, atol=1e-5)
        found = ours.next_token_logits([Sample(QUESTION, image)])
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    for name, weight in model.state_dict().items():
        assert torch.equal(plain.state_dict()[name], weight), name
    assert np.array_equal(plain.generation_config.eos_token_id, tokenizer.eos_token_id)
