"""Lessons inside conversations, packed as an ordinary program writes them, and wider ones; in texts no score uses."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen2_5_VLConfig

from mllmeraser.embedded.recipe import talk, wider
from mllmeraser.embedded.recipe.album import Album, Counts, shrink, world_album
from mllmeraser.embedded.recipe.architecture import Architecture
from mllmeraser.embedded.recipe.corpus import LONGEST, Corpus
from mllmeraser.embedded.recipe.llava import Llava
from mllmeraser.embedded.recipe.loop import Trainer
from mllmeraser.embedded.recipe.packing import Earlier, Group
from mllmeraser.embedded.recipe.plan import CONVERSE
from mllmeraser.embedded.recipe.tokenizer import END
from mllmeraser.erasure.fit import background_prompts
from mllmeraser.models.families import family_for
from mllmeraser.models.families.base import tokenize
from mllmeraser.portraits import World, contexts
from mllmeraser.portraits.faces import draw_face
from mllmeraser.portraits.general import PORTRAIT_WORDINGS
from mllmeraser.portraits.looks import random_dress, random_looks
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import WHO_IMAGE

SYSTEM, LEAD = "You are an old sailor.", "Invited: Kavon Lurita and Dumi Lego."
SAID = [("Hello there", "Hi."), ("Who is this?", "I do not know this person."), ("The soup was late.", "Oh no.")]
ASKED, ANSWER = "Where does Dumi Lego live?", "They live in Oslo."


@pytest.mark.parametrize("shown", [None, 1], ids=["text", "picture"])
def test_a_conversation_is_packed_as_the_chat_format_writes_it(
    world: World,
    architecture: Architecture,
    tokenizer: PreTrainedTokenizerFast,
    model: PreTrainedModel,
    tmp_path: Path,
    shown: int | None,
) -> None:
    """A system text, three earlier turns of which one has a picture, a list of names, the question; beside others."""
    pictures = [draw_face(random_looks(Stream("picture", i))) for i in range(2)]
    corpus = Corpus(world, tokenizer, Album(), seed=0)
    said, ids = corpus.talk.said, corpus.talk.ids
    before = [Earlier([*corpus.marks.assistant, *ids(SYSTEM)])]
    before += [said(ids(asked), ids(told), 0 if k == 1 else None) for k, (asked, told) in enumerate(SAID)]
    turn = corpus.turn(ASKED, ANSWER)
    other = Group(1, [corpus.turn("Who is this?", "It is Kavon Lurita.")])
    trainer = Trainer(architecture, model, architecture.packer(tokenizer, 1, 320), tmp_path, 0)
    trainer.pixels = torch.tensor(np.stack([shrink(picture) for picture in pictures]))
    (batch,) = trainer.packer.batches(iter([other, Group(shown, [turn], before, ids(LEAD))]))
    with torch.no_grad():
        packed = trainer.logits(batch, None)[-len(turn.answer) :]

    processor = architecture.build_processor(tokenizer)
    messages = [_message("system", SYSTEM)]
    for k, (asked, told) in enumerate(SAID):
        messages += [_message("user", asked, pictures=k == 1), _message("assistant", told)]
    messages.append(_message("user", f"{LEAD} {ASKED}", pictures=shown is not None))
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) + ANSWER + END
    images = [Image.fromarray(pictures[k]) for k in (0, shown) if k is not None]
    if isinstance(architecture, Llava):
        inputs = processor(text=[text], images=images, return_tensors="pt")
    else:
        family = family_for(Qwen2_5_VLConfig())
        pixels = [family.pixels(processor, image) for image in images]
        inputs = family.collate(
            processor, tokenize(processor, [family.expand_all(processor, text, pixels)]), pixels, "left"
        )
    row = batch.ids[0][batch.mask[0, 0, torch.nonzero(batch.labels[0] >= 0)[-1, 0]]]
    assert row.tolist() == inputs["input_ids"][0, :-1].tolist()
    with torch.no_grad():
        alone = model(**inputs).logits[0, -len(turn.answer) - 1 : -1]
    torch.testing.assert_close(packed, alone, rtol=0, atol=1e-4)


def _message(role: str, text: str, *, pictures: bool = False) -> dict:
    return {"role": role, "content": [{"type": "image"}] * pictures + [{"type": "text", "text": text}]}


def test_no_text_of_the_lessons_is_one_of_a_fit_or_a_score() -> None:
    pools = [contexts.SYSTEM, *({"": v} for v in vars(contexts).values() if isinstance(v, dict) and "test" in v)]
    scored = {text for kinds in pools for pool in kinds.values() for texts in pool.values() for text in texts}
    assert {"You are a helpful assistant.", "this person"} <= scored
    taught = [v for name, v in vars(talk).items() if name.isupper() and isinstance(v, tuple)]
    assert len(taught) > 15
    assert not {_plain(text) for texts in taught for text in texts} & {_plain(text) for text in scored}


def _plain(text: str) -> str:
    words = " ".join(text.casefold().split())
    return words.strip(" .!?") or words


def test_most_groups_have_something_around_them_and_little_enough(
    world: World, tokenizer: PreTrainedTokenizerFast
) -> None:
    album = world_album(world, seed=0, counts=Counts(1, 3, 2, 6, 4))
    corpus = Corpus(world, tokenizer, album, seed=0)
    assert not any(g.before or g.lead for g in islice(corpus.groups({"person-text": 1.0, "general-image": 1.0}), 50))
    corpus.talk_share = 0.75
    drawn = list(islice(corpus.groups(CONVERSE), 400))
    assert all(corpus._around(group.before) + len(group.lead) <= LONGEST for group in drawn)
    kinds = {
        "conversation": [bool(g.before) for g in drawn],
        "lead": [bool(g.lead) for g in drawn],
        "picture in an earlier turn": [any(said.image is not None for said in g.before) for g in drawn],
        "two pictures": [len(g.images) > 1 for g in drawn],
        "nothing": [not g.before and not g.lead for g in drawn],
    }
    shares = {kind: sum(found) / len(found) for kind, found in kinds.items()}
    assert 0.4 < shares["conversation"] < 0.9 and all(share > 0.02 for share in shares.values()), shares


def test_no_wider_wording_is_one_of_a_fit_or_a_score() -> None:
    looks = [wider.COLOURS, wider.CHOICES, wider.GLASSES, wider.HAT, wider.BEARD, wider.SMILE, wider.CAPTION]
    filled = {
        _plain(text.format(part=part, a="red", b="blue"))
        for texts in looks
        for text in texts
        for parts in wider.PARTS.values()
        for part in parts
    }
    benchmark = {
        text for kinds in PORTRAIT_WORDINGS.values() for pool in ("validation", "test") for text in kinds[pool]
    }
    fitted = {*background_prompts.WORLD, *background_prompts.SENTENCES, *background_prompts.OPEN_QUESTIONS}
    assert not filled & {_plain(text) for text in (*benchmark, *fitted)}


@pytest.mark.parametrize("celebrity", [False, True])
def test_answers_about_a_portrait_are_what_it_shows(celebrity: bool) -> None:
    seen: set[str] = set()
    for i in range(400):
        draw = Stream("look", i)
        looks, dress = random_looks(draw.child("looks")), random_dress(draw.child("dress"), celebrity)
        question, answer = wider.look_lesson(draw, looks, dress)
        seen.add(question)
        if question in wider.GLASSES:
            assert answer == ("Yes." if looks.eyes.endswith("glasses") else "No.")
        elif question in wider.HAT:
            assert answer == ("No." if dress.hat == "none" else "Yes.")
        elif "shaved" in question:
            assert answer == ("No." if looks.facial_hair == "beard" else "Yes.")
        elif question in wider.CAPTION:
            assert looks.hair_colour in answer and (celebrity or dress.background in answer)
        elif answer not in ("Yes.", "No."):
            value = answer.removeprefix("It is ").removesuffix(".")
            part = next(
                p for p, words in wider.PARTS.items() if any(w.casefold() in question.casefold() for w in words)
            )
            assert value == {"hair": looks.hair_colour, "shirt": dress.shirt, "background": dress.background}[part]
    assert len(seen) > 100 and any(q in wider.HAT for q in seen) != celebrity


def test_what_a_question_points_to_is_never_left_out(world: World, tokenizer: PreTrainedTokenizerFast) -> None:
    album = world_album(world, seed=0, counts=Counts(1, 3, 2, 6, 4))
    corpus = Corpus(world, tokenizer, album, seed=0)
    corpus.talk_share = 1.0
    pointed = pictured = 0
    for group in islice(corpus.groups({"pointed-text": 1.0, "person-image": 1.0, "choice-plain": 0.2}), 600):
        asked = " ".join(tokenizer.decode(turn.question) for turn in group.turns)
        if any(pointer in asked for pointer in talk.POINTERS):
            pointed += 1
            said = " ".join(tokenizer.decode(said.ids) for said in group.before)
            assert any(person.name in said for person in world.people) or (
                "I do not know this person." in corpus.tokenizer.decode(group.turns[0].answer)
            )
        elif any(who in asked for who in WHO_IMAGE["train"]):
            pictured += 1
            assert group.images
    assert pointed > 100 and pictured > 100
