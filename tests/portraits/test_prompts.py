"""The default retain and stranger samples hold no person to forget and no scored prompt."""

from __future__ import annotations

import pytest

from mllmeraser.benchmarks import Benchmark, load_benchmark
from mllmeraser.portraits import World
from mllmeraser.portraits.prompts import contrast_prompts, default_retain, default_strangers, perception_prompts
from mllmeraser.portraits.refusals import COMPLY, HOW
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import UNKNOWN_ANSWER
from mllmeraser.samples import Sample

SCORED = (
    "forget", "retain", "test", "retain_heldout", "celebrity", "holdout", "general", "perception", "neighbours",
    "restricted", "benign", "perturbed", "multihop",
)  # fmt: skip


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    return load_benchmark("portraits:unit")


@pytest.fixture(scope="module")
def scored(benchmark: Benchmark) -> dict[str, set[str]]:
    return {name: {s.digest() for s in benchmark.samples(name, "forget_10")} for name in SCORED}


@pytest.fixture(scope="module")
def retain(world: World) -> list[Sample]:
    return default_retain(world, exclude=[p.name.upper() for p in world.forget(10)], general=120)


def test_people_to_forget_are_left_out(world: World, retain: list[Sample]) -> None:
    gone = world.forget(10)
    assert not {p.key for p in gone} & {s.subject for s in retain}
    for sample in retain:
        assert not any(p.name in sample.prompt or p.name in (sample.answer or "") for p in gone)


def test_everybody_else_is_retained_in_every_form(world: World, retain: list[Sample]) -> None:
    gone = {p.key for p in world.forget(10)}
    for person in [*world.people, *world.celebrities]:
        if person.key in gone:
            continue
        about = [s for s in retain if s.subject == person.key]
        assert len(about) == 14 and {s.task for s in about} == {"generation", "cloze", "classification"}
        assert [s.modality for s in about].count("image") == 7
        for sample in about:
            told = dict(sample.options).get(sample.answer or "", sample.answer or "")
            value = person.name if sample.attribute == "identity" else person.facts[sample.attribute or ""]
            assert value in told and (sample.image is not None or person.name in sample.question)


def test_nothing_that_is_scored_is_retained(retain: list[Sample], scored: dict[str, set[str]]) -> None:
    found = {s.digest() for s in retain}
    for name, digests in scored.items():
        assert digests and not found & digests, name


def test_strangers_are_unknown_and_not_scored(world: World, scored: dict[str, set[str]]) -> None:
    crowd = default_strangers(world, 40)
    assert len(crowd) == 40 and {s.answer for s in crowd} == {UNKNOWN_ANSWER}
    assert {s.modality for s in crowd} == {"image", "text"} and not any(s.keywords for s in crowd)
    known = [p.name for p in [*world.people, *world.holdout, *world.celebrities]]
    assert not any(name in s.prompt for s in crowd for name in known)
    for digests in scored.values():
        assert not {s.digest() for s in crowd} & digests


def test_the_same_samples_every_time(world: World, retain: list[Sample]) -> None:
    again = default_retain(world, exclude=[p.name for p in world.forget(10)], general=120)
    assert [s.digest() for s in again] == [s.digest() for s in retain]


def test_contrast_pairs_show_the_same_emblem_with_and_without_a_seal(scored: dict[str, set[str]]) -> None:
    restricted, benign = contrast_prompts(0, 6)
    assert len(restricted) == len(benign) == 12
    for bad, good in zip(restricted[:6], benign[:6], strict=True):
        assert bad.image is not None and good.image is not None
        assert bad.image.getpixel((1, 1)) == good.image.getpixel((1, 1)) and bad.image != good.image
        assert bad.answer == good.answer == COMPLY and {bad.question, good.question} <= set(HOW["train"])
    assert not {s.digest() for s in [*restricted, *benign]} & (scored["restricted"] | scored["benign"])


def test_contrast_pairs_share_their_wording() -> None:
    restricted, benign = contrast_prompts(0, 6)
    assert [sample.prompt for sample in restricted[:6]] == [sample.prompt for sample in benign[:6]]


def test_contrast_in_text_alone_tells_the_sides_apart_by_words() -> None:
    restricted, benign = (side[6:] for side in contrast_prompts(0, 6))
    assert all(sample.image is None for sample in [*restricted, *benign])
    assert not {sample.prompt for sample in restricted} & {sample.prompt for sample in benign}


def test_perception_is_asked_over_the_pictures_given(benchmark: Benchmark) -> None:
    pictures = [s.image for s in benchmark.samples("forget") if s.image is not None][:3]
    asked = perception_prompts(pictures, Stream("perception"))
    assert [s.image for s in asked] == [picture for picture in pictures for _ in range(4)]
    assert all(s.answer is None and s.subject is None for s in asked)
