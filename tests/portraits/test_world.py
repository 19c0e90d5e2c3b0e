"""Who is in a world, who is forgotten, and who looks like whom."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, islice

import pytest

from mllmeraser.portraits import SIZES, Person, World
from mllmeraser.portraits.facts import CELEBRITY_VALUES, PERSON_VALUES, VALUES
from mllmeraser.portraits.looks import hamming
from mllmeraser.portraits.people import SPLITS, Preset, strangers
from mllmeraser.portraits.stream import Stream

PRESETS = tuple(SIZES)


def everybody(world: World) -> list[Person]:
    return [*world.people, *world.holdout, *world.celebrities]


@pytest.fixture(scope="module", params=PRESETS)
def any_world(request: pytest.FixtureRequest) -> World:
    return World(request.param, 0)


def test_as_many_people_as_the_preset_says(any_world: World) -> None:
    size = any_world.size
    assert len(any_world.people) == size.people
    assert len(any_world.holdout) == size.holdout
    assert len(any_world.celebrities) == size.celebrities
    assert {p.celebrity for p in any_world.celebrities} == {True}
    assert {p.celebrity for p in [*any_world.people, *any_world.holdout]} == {False}


def test_the_forget_splits_are_five_ten_and_fifteen_percent() -> None:
    for preset in ("dev", "full"):
        size = SIZES[preset]
        assert [round(100 * n / size.people) for n in size.forget] == list(SPLITS)


def test_forget_sets_are_nested_and_retain_is_the_rest(any_world: World) -> None:
    size = any_world.size
    for fold in range(size.folds):
        small, middle, large = ([p.key for p in any_world.forget(percent, fold)] for percent in SPLITS)
        assert (len(small), len(middle), len(large)) == size.forget
        assert middle[: len(small)] == small and large[: len(middle)] == middle
        for percent in SPLITS:
            gone = {p.key for p in any_world.forget(percent, fold)}
            kept = {p.key for p in any_world.retain(percent, fold)}
            assert not gone & kept and gone | kept == {p.key for p in any_world.people}


def test_nobody_is_in_two_folds(any_world: World) -> None:
    keys = [p.key for fold in range(any_world.size.folds) for p in any_world.forget(15, fold)]
    assert len(set(keys)) == len(keys)


def test_names_and_keys_are_unique(any_world: World) -> None:
    found = everybody(any_world)
    assert len({p.key for p in found}) == len(found)
    said = Counter(word for p in found for word in p.name.split())
    assert set(said.values()) == {1} and all(len(p.name.split()) == 2 for p in found)


def test_faces_differ_in_three_attributes_but_for_the_planned_look_alikes(any_world: World) -> None:
    size = any_world.size
    alike = any_world.people[size.people - size.forget[0] :]
    planned = {p.key for p in alike}
    for a, b in combinations([p for p in everybody(any_world) if p.key not in planned], 2):
        assert hamming(a.looks, b.looks) >= 3
    targets = any_world.forget(5, 0)
    for other, target in zip(reversed(alike), targets, strict=True):
        assert hamming(other.looks, target.looks) == 1
    faces = [tuple(str(getattr(p.looks, name)) for name in p.looks.__slots__) for p in everybody(any_world)]
    assert len(set(faces)) == len(faces)


def test_planned_look_alikes_are_retained_in_every_fold(any_world: World) -> None:
    size = any_world.size
    planned = {p.key for p in any_world.people[size.people - size.forget[0] :]}
    for fold in range(size.folds):
        assert not planned & {p.key for p in any_world.forget(15, fold)}


def test_neighbours_look_alike_or_share_a_fact(any_world: World) -> None:
    for person in any_world.forget(5):
        found = dict(any_world.neighbours(person))
        assert set(found) == {"look-alike", "shared-fact"}
        assert person.key not in {other.key for other in found.values()}
        assert hamming(found["look-alike"].looks, person.looks) == 1
        shared = found["shared-fact"].facts
        assert any(shared[attribute] == value for attribute, value in person.facts.items())


def test_facts_are_values_of_their_attribute(any_world: World) -> None:
    for person in everybody(any_world):
        values = CELEBRITY_VALUES if person.celebrity else PERSON_VALUES
        assert tuple(person.facts) == tuple(values)
        assert all(person.facts[attribute] in values[attribute] for attribute in values)


def test_no_value_belongs_to_two_attributes_or_hides_in_another() -> None:
    values = [value.casefold() for options in VALUES.values() for value in options]
    assert len(set(values)) == len(values)
    assert all(len(options) == 16 for options in VALUES.values())
    single = {value for value in values if " " not in value}
    assert not single & {word for value in values if " " in value for word in value.split()}


@pytest.mark.parametrize("preset", ["unit", "dev"])
def test_no_name_is_a_value(preset: Preset) -> None:
    any_world = World(preset, 0)
    taken = {word.casefold() for options in VALUES.values() for value in options for word in value.split()}
    assert not taken & {word.casefold() for p in everybody(any_world) for word in p.name.split()}


def test_strangers_are_nobody_of_the_world(world: World) -> None:
    known = everybody(world)
    words = {word for p in known for word in p.name.split()}
    crowd = list(islice(strangers(Stream("test"), world), 40))
    assert len({p.key for p in crowd}) == 40 and not {p.key for p in crowd} & {p.key for p in known}
    for person in crowd:
        assert not words & set(person.name.split())
        assert min(hamming(person.looks, p.looks) for p in known) >= 3


def test_unknown_preset() -> None:
    with pytest.raises(ValueError, match="known: unit, small, dev, full"):
        World("huge")  # type: ignore[arg-type]
