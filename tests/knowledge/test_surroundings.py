"""Conversations that fits see: the question stays the one that is asked, and no score uses any of their texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllmeraser.benchmarks.in_contexts import forget_in_contexts, retain_in_contexts
from mllmeraser.erasure.fit.split import split_subject
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.knowledge import surroundings
from mllmeraser.knowledge.known import KNOWN, find
from mllmeraser.portraits import contexts
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples.frames import FRAMES, LISTS, SHOTS, framed, unframed
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.subject import Subject

NEAR = surroundings.Nearby([("Who was Homer?", "poet.")], [one.name for one in KNOWN])
ASKED = Sample("What is the capital of Japan?", subject="jp")


def _texts(sample: Sample) -> list[str]:
    return [*(turn.text for turn in sample.before), sample.question]


@given(seed=st.integers(0, 10**6), question=st.text(min_size=1).filter(lambda text: not text.isspace()))
def test_the_question_can_be_read_from_what_surrounds_it(seed: int, question: str) -> None:
    sample = Sample(question, subject="x", attribute="capital")
    made = surroundings.surrounded(sample, NEAR, Stream("test", seed))
    assert made.before or made.question != question, "there is something around it"
    assert made.before or unframed(made.question) == question
    assert (made.subject, made.attribute) == ("x", "capital")
    assert made.digest() != sample.digest()


@pytest.mark.parametrize("frame", [*LISTS, *SHOTS])
def test_a_name_in_a_frame_does_not_hide_the_question(frame: str) -> None:
    for one in KNOWN:
        text = frame.format(q=ASKED.question, one=one.name, two="Brazil", three=one.name, q1="Who was Homer?",
                            a1="A poet.", q2="What is ice made of?", a2="Water.")  # fmt: skip
        assert unframed(text) == ASKED.question


def test_no_score_uses_these_texts() -> None:
    pools = [
        contexts.GREETINGS, contexts.REPLIES, contexts.TALK, contexts.TALK_REPLIES, contexts.NAMED,
        contexts.NAMED_REPLIES, contexts.ASKED_WHO, contexts.BY_ASSISTANT, contexts.DOCUMENT, contexts.SHOTS,
        *contexts.SYSTEM.values(),
    ]  # fmt: skip
    scored = {text.casefold().strip(" .!?") for pool in pools for some in pool.values() for text in some} - {""}
    pairs = (*surroundings.SMALL_TALK, *surroundings.SMALL_FACTS, *surroundings.NAMED)
    fitted = [*surroundings.SYSTEMS, *(part for pair in pairs for part in pair.split(" | ")), *LISTS, *SHOTS, *FRAMES]
    assert not scored & {text.casefold().strip(" .!?") for text in fitted}


def test_a_wording_that_is_held_out_is_held_out_in_every_conversation() -> None:
    asked = [f"{verb} Japan {number} times." for verb in ("Name", "Describe") for number in range(4)]
    samples = tuple(Sample(text, subject="jp") for question in asked for text in framed(question))
    subject = Subject("jp", ("Japan",), samples, kind="entity")
    retain = [Sample("Who was Homer?", keywords=("poet",))]
    made = forget_in_contexts(subject, find(["Japan"]), retain, Stream("test", 3))
    fit, held = split_subject(made, FitSettings.preset("knowledge"))
    assert held
    assert not {unframed(s.question) for s in fit} & {unframed(s.question) for s in held}


def test_what_stays_is_also_asked_after_the_forgotten() -> None:
    subject = Subject("jp", ("Japan",), (ASKED,), kind="entity")
    japan = find(["Japan"])
    assert japan is not None
    retain = [Sample(f"What is {one.name} known for?", keywords=("much",)) for one in KNOWN if one != japan]
    made = retain_in_contexts(retain, [subject], [japan], Stream("test", 0), shipped=True)
    texts = [_texts(sample) for sample in made]
    assert any(ASKED.question in text[:-1] for text in texts), "a question about Japan came before"
    assert any("Japan" in text[-1] and unframed(text[-1]) != text[-1] for text in texts), "Japan stands beside"
    assert not any("Japan" in unframed(text[-1]) for text in texts), "no question is about Japan"
