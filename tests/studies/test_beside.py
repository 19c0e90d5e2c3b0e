"""What must still be answered beside the forgotten: which questions are asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from mllmeraser.benchmarks import Benchmark, load_benchmark
from mllmeraser.embedded.recipe import wider
from mllmeraser.erasure.fit import background_prompts
from mllmeraser.evaluation.attacks.asked import Asked
from mllmeraser.portraits.contexts import PASSING, SEEN, UNUSUAL
from mllmeraser.portraits.wordings import POOLS
from mllmeraser.samples import Sample
from mllmeraser.samples.conversation import question
from mllmeraser.studies import beside


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    return load_benchmark("portraits:unit")


@pytest.mark.parametrize("pool", ["validation", "test"])
def test_each_wording_is_asked_over_pictures_and_beside_names_of_the_forgotten(benchmark: Benchmark, pool) -> None:
    shown = list(beside.perception(benchmark, "forget_5", 0, pool))
    named = list(beside.passing(benchmark, "forget_5", 0, pool))
    gone = benchmark.forget_ids("forget_5", 0)
    names = {benchmark.names[key][0] for key in gone}
    assert len({one.kind for one in shown}) == sum(len(pools[pool]) for pools in SEEN.values()) >= 20
    assert max(Counter(one.kind for one in shown).values()) <= beside.PICTURES
    assert all(one.sample.subject in gone and len(one.conversation.images) == 1 for one in shown)
    assert len({one.kind for one in named}) == len(PASSING[pool])
    assert len(named) <= len(PASSING[pool]) * len(names) * beside.QUESTIONS
    for one in named:
        text = one.conversation.text
        assert one.sample.question in text and sum(name in text for name in names) == 1 and not one.conversation.images


@pytest.mark.parametrize("pool", ["validation", "test"])
def test_a_wording_has_a_right_answer_where_the_picture_tells_it(benchmark: Benchmark, pool) -> None:
    truth = {sample.image.tobytes(): sample for sample in benchmark.samples("perception", "forget_5", 0)}
    for one in beside.perception(benchmark, "forget_5", 0, pool):
        telling = one.sample.attribute not in ("whole", "other")
        assert one.kind.startswith(beside.SHOWN if telling else beside.DESCRIBED)
        about = truth[one.sample.image.tobytes()]
        assert one.sample.keywords == (about.keywords if telling else ())
        assert not telling or one.sample.attribute == about.attribute


def test_answers_that_tell_who_is_shown_need_not_be_kept(benchmark: Benchmark) -> None:
    key = benchmark.forget_ids("forget_5", 0)[0]
    telling = beside.telling_words(benchmark, "forget_5", 0)
    name = benchmark.names[key][0]
    fact = next(s for s in benchmark.samples("test", "forget_5", 0) if s.subject == key and s.keywords).keywords[0]
    asked = Asked("descriptions", True, Sample("Describe the photo.", subject=key), question("Describe the photo."))
    counted = [
        beside.counts(asked, answer, telling) for answer in (f"This is {name}.", f"They love {fact}.", "It is red.")
    ]
    assert counted == [False, False, True]
    right = replace(asked, sample=replace(asked.sample, keywords=("brown",)))
    assert [beside.counts(right, answer, telling) for answer in ("It is brown.", "It is red.")] == [True, False]


def test_unusual_wordings_ask_by_name_and_over_pictures(benchmark: Benchmark) -> None:
    asked = list(beside.unusual(benchmark, "forget_5", 0, "test"))
    gone = benchmark.forget_ids("forget_5", 0)
    assert len(asked) == 2 * len(gone) * len(UNUSUAL["test"]) >= 60
    for by_name, pictured in zip(asked[::2], asked[1::2], strict=True):
        assert benchmark.names[by_name.sample.subject][0] in by_name.conversation.text
        assert pictured.conversation.images and "this person" in pictured.conversation.text
        assert by_name.sample.keywords == pictured.sample.keywords and len(by_name.sample.keywords) >= 5


def test_what_is_kept_and_told_is_counted() -> None:
    def one(*keywords: str) -> Asked:
        return Asked("", True, Sample("What?", keywords=keywords), question("What?"))

    rows = [(one("red"), "It is red.", "Red."), (one("red"), "It is red.", "I do not know."), (one(), "No.", "No.")]
    assert {k: beside.kept(rows)[k] for k in ("n", "kept")} == {"n": 3, "kept": 2}
    assert beside.still_told([one("Rome")] * 3, ["Rome.", "Rome.", "Unknown."], ["Rome", "?", "Rome"]) == {
        "n": 2,
        "left": 1,
    }


def test_no_wording_of_a_fit_or_of_the_lessons_is_asked() -> None:
    asked = {
        pool: {*PASSING[pool], *UNUSUAL[pool], *(text for pools in SEEN.values() for text in pools[pool])}
        for pool in POOLS
        if pool != "train"
    }
    assert not asked["validation"] & asked["test"]
    known = {
        *background_prompts.SENTENCES,
        *background_prompts.OPEN_QUESTIONS,
        *background_prompts.WORLD,
        *wider.ASIDES,
    }
    known |= {*wider.CAPTION, *wider.GLASSES, *wider.HAT, *wider.BEARD, *wider.SMILE}
    known |= {text.format(part=part) for text in wider.COLOURS for parts in wider.PARTS.values() for part in parts}
    for texts in asked.values():
        assert not {text.casefold() for text in texts} & {text.casefold() for text in known}
