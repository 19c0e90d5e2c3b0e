"""The sentences that the tokenizer learns from."""

from __future__ import annotations

from collections.abc import Iterator

from mllmeraser.embedded.recipe.corpus import choice_text
from mllmeraser.portraits import general
from mllmeraser.portraits.facts import VALUES
from mllmeraser.portraits.looks import random_dress, random_looks
from mllmeraser.portraits.people import World, strangers
from mllmeraser.portraits.refusals import refusal_prompt
from mllmeraser.portraits.scenes import random_things
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import ANSWERS, IDENTITY, UNKNOWN_ANSWER, WHO_IMAGE, clozes, fill, questions


def _seen_texts(stream: Stream) -> Iterator[str]:
    """Two questions with answers about a scene and a portrait, so that a visible thing is one word, one token."""
    looks, dress, scene = random_looks(stream), random_dress(stream), random_things(stream)
    asked = [
        general.scene_question(stream, scene, stream.choice(general.SCENE_TOPICS), "train"),
        general.portrait_question(stream, looks, dress, stream.choice(general.PORTRAIT_TOPICS), "train"),
    ]
    for q in asked:
        if q is not None:
            yield from (q.text, q.answer)


def tokenizer_texts(world: World, seed: int, n: int = 12_000) -> Iterator[str]:
    """Sentences for the tokenizer: every wording, value, general fact and refusal, and random names."""
    stream, seen = Stream("tokenizer", seed), Stream("tokenizer-seen", seed)
    crowd = strangers(stream.child("names"), world, drawn=False)
    facts = general.text_facts()
    for i in range(n):
        person = next(crowd)
        attribute = stream.choice(tuple(VALUES))
        who = stream.choice(WHO_IMAGE["train"]) if stream.chance(0.5) else person.name
        value = stream.choice(VALUES[attribute])
        yield fill(stream.choice(questions(attribute, "train")), who)
        yield fill(stream.choice(clozes(attribute, "train")), who)
        yield from (ANSWERS[attribute].format(value=value), value, UNKNOWN_ANSWER)
        q = general.text_question(stream, stream.choice(facts), "train")
        yield from (q.text, q.answer)
        yield from _seen_texts(seen)
        if i % 4 == 0:
            p = refusal_prompt(stream, restricted=stream.chance(0.5), image=stream.chance(0.5), pool="train")
            yield from (p.text, p.answer, stream.choice(IDENTITY["train"]), choice_text("Which option?", [value] * 4))
            star = stream.choice(world.celebrities).name
            yield fill(stream.choice(questions("work", "train")), star)
