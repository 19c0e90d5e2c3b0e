"""What must still be answered beside the forgotten: which questions are asked."""

from __future__ import annotations

import pytest

from mllmeraser.benchmarks import Benchmark, load_benchmark
from mllmeraser.embedded.recipe import wider
from mllmeraser.erasure.fit import background_prompts
from mllmeraser.portraits.contexts import PASSING, SEEN
from mllmeraser.portraits.wordings import POOLS
from mllmeraser.studies.beside import PICTURES, QUESTIONS, passing, perception


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    return load_benchmark("portraits:unit")


@pytest.mark.parametrize("pool", ["validation", "test"])
def test_each_wording_is_asked_over_pictures_and_beside_names_of_the_forgotten(benchmark: Benchmark, pool) -> None:
    shown, named = perception(benchmark, "forget_5", 0, pool), passing(benchmark, "forget_5", 0, pool)
    gone = benchmark.forget_ids("forget_5", 0)
    names = {benchmark.names[key][0] for key in gone}
    pictures = len(shown) // len(SEEN[pool])
    assert len({one.kind for one in shown}) == len(SEEN[pool]) >= 20 and 0 < pictures <= PICTURES
    assert all(one.sample.subject in gone and len(one.conversation.images) == 1 for one in shown)
    assert len({one.kind for one in named}) == len(PASSING[pool])
    assert len(named) <= len(PASSING[pool]) * len(names) * QUESTIONS
    for one in named:
        text = one.conversation.text
        assert one.sample.question in text and sum(name in text for name in names) == 1 and not one.conversation.images


def test_no_wording_of_a_fit_or_of_the_lessons_is_asked() -> None:
    asked = {pool: {*SEEN[pool], *PASSING[pool]} for pool in POOLS if pool != "train"}
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
