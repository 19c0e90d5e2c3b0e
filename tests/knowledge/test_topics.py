"""Everyday topics: their questions, their wordings, and what is left out beside a forgotten one."""

from __future__ import annotations

import pytest

from mllmeraser.benchmarks import Benchmark, load_benchmark
from mllmeraser.knowledge.held_out import world_questions
from mllmeraser.knowledge.known import find
from mllmeraser.knowledge.rows import FOLDS, ORDER
from mllmeraser.knowledge.topics import TOPICS, Topic
from mllmeraser.portraits.wordings import POOLS
from mllmeraser.samples.text import contains

WORDINGS = [(topic, key, pools) for topic in TOPICS for key, pools in topic.questions.items()]


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    """The preset `topics`."""
    return load_benchmark("knowledge:topics")


def test_every_topic_has_questions_and_every_forgotten_one_neighbours() -> None:
    assert len({topic.key for topic in TOPICS}) == len({topic.name for topic in TOPICS}) == len(TOPICS) >= 20
    assert all(len(topic.facts) >= 3 and topic.facts.keys() == topic.questions.keys() for topic in TOPICS)
    groups = [topic.group for topic in TOPICS]
    for key in ORDER[2].split():
        (topic,) = (one for one in TOPICS if one.key == key)
        assert len(topic.facts) >= 4, key
        assert groups.count(topic.group) >= 2, key


def test_no_wording_of_a_topic_is_in_two_pools_or_a_world_question() -> None:
    texts = [text for _, _, pools in WORDINGS for pool in POOLS for text in pools[pool]]
    assert len(set(texts)) == len(texts)
    assert not set(texts) & {sample.question for sample in world_questions()}
    assert all(pools[pool] for _, _, pools in WORDINGS for pool in POOLS)


def test_no_question_tells_its_answer_or_is_about_another_forgotten_topic() -> None:
    forgotten = [topic for topic in TOPICS if topic.key in ORDER[2].split()]
    for topic, key, pools in WORDINGS:
        for text in (text for pool in POOLS for text in pools[pool]):
            assert not any(contains(text, value) for value in topic.facts[key]), text
            others = [one for one in forgotten if one != topic and any(contains(text, n) for n in named(one))]
            assert not others, (text, [one.key for one in others])


def named(topic: Topic) -> tuple[str, ...]:
    return (topic.name.removeprefix("the "), *topic.aliases)


def test_world_questions_about_a_forgotten_topic_are_left_out(benchmark: Benchmark) -> None:
    folds = ORDER[2].split()
    heart, volcanoes = (
        {sample.question for sample in benchmark.samples("general", "forget_1", folds.index(key))}
        for key in ("heart", "volcanoes")
    )
    asked = "How many chambers does the human heart have?"
    assert asked in volcanoes
    assert asked not in heart
    assert "What do we call molten rock that flows from a volcano?" in heart - volcanoes
    assert all(
        len(benchmark.samples("general", "forget_1", fold)) > 0.95 * len(world_questions()) for fold in range(FOLDS)
    )


def test_neighbours_are_of_the_same_group(benchmark: Benchmark) -> None:
    group = {topic.key: topic.group for topic in TOPICS}
    for fold, key in enumerate(ORDER[2].split()):
        near = {sample.subject for sample in benchmark.samples("neighbours", "forget_1", fold)}
        assert near
        assert {group[other or ""] for other in near} == {group[key]}
        assert key not in near


@pytest.mark.parametrize("name", ["Volcano", "moon", "the Moon", "old Egypt", "cigarettes"])
def test_a_topic_is_known_by_other_names(name: str) -> None:
    assert isinstance(find((name,)), Topic)
