from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from verify_kit import FEW, NAME, one_person

from mllmeraser.benchmarks.defaults import complete
from mllmeraser.portraits.general import PORTRAIT_WORDINGS
from mllmeraser.portraits.people import World
from mllmeraser.portraits.stream import Stream
from mllmeraser.portraits.wordings import IDENTITY, NOUNS, WHO_IMAGE, clozes, fill, questions
from mllmeraser.samples.expansion import ExpansionSettings
from mllmeraser.samples.images import pixel_digest
from mllmeraser.samples.questions import default_library
from mllmeraser.samples.sample import Sample
from mllmeraser.serving.verify.fresh_prompts import (
    FACTS,
    Sizes,
    forget_prompts,
    known_people,
    own_retain_prompts,
    person_prompts,
    rest_prompts,
    subject_views,
    unseen,
)
from mllmeraser.serving.verify.general import general_prompts, perception_prompts
from tiny import picture


@cache
def fitted_questions(name: str) -> set[str]:
    """Every question about a person in a wording that a fit may use."""
    library = default_library()
    who = {*library.image_forms, *WHO_IMAGE["train"], name}
    made = {w.render(x) for w in library.wordings for x in who}
    for attribute in NOUNS:
        pool = [*questions(attribute, "train"), *clozes(attribute, "train")]
        made |= {fill(wording, x) for wording in pool for x in who}
    return {text.casefold() for text in (*made, *IDENTITY["train"])}


def test_no_question_about_a_person_is_one_of_the_fit() -> None:
    world = World("unit")
    people = [*world.people, *world.celebrities]
    asked = [(NAME, s) for s in forget_prompts(one_person().subjects, 0, Sizes())]
    for person in people:
        asked += [(person.name, s) for s in person_prompts(person, Stream("t", person.key), 6)]
    assert len(asked) > 200
    for name, sample in asked:
        assert sample.question.casefold() not in fitted_questions(name), sample.question


def test_no_general_question_is_one_of_the_fit() -> None:
    known = known_people(World("unit"), ())
    asked = [*general_prompts(known, 0, 60), *perception_prompts([picture(1)], 0, 8)]
    trained = {text for pools in PORTRAIT_WORDINGS.values() for text in pools["train"]}
    assert not trained & {s.question for s in asked}
    assert len(asked) == 60 + len(PORTRAIT_WORDINGS)
    assert sum(s.image is None for s in asked) >= 15


def test_every_picture_is_a_new_view() -> None:
    request = one_person(pictures=3)
    widely = request.expanded(ExpansionSettings(views=6))
    fitted = {pixel_digest(s.image) for s in (*request.forget, *widely.forget) if s.image is not None}
    asked = forget_prompts(request.subjects, 0, Sizes())
    shown = [pixel_digest(s.image) for s in asked if s.image is not None]
    assert len(shown) > 50 and not set(shown) & fitted
    assert len(set(shown)) == len(shown), "each prompt has a view of its own"
    assert not {pixel_digest(view) for view in subject_views(request.subjects, 0, 8)} & fitted


@pytest.mark.slow
def test_nothing_of_a_completed_request_is_asked() -> None:
    request = one_person()
    completed = complete(request).request
    seen = {s.digest() for s in (*completed.forget, *completed.retain, *completed.strangers)}
    world = World("dev")
    people = known_people(world, [NAME])[:40]
    asked = forget_prompts(request.subjects, 0, Sizes())
    asked += [s for person in people for s in person_prompts(person, Stream("verification", 0, person.key), 6)]
    asked += general_prompts(people, 0, 60)
    assert not {s.digest() for s in asked} & seen


def test_the_seed_chooses_the_prompts() -> None:
    subjects = one_person().subjects
    first, again, other = (forget_prompts(subjects, seed, Sizes()) for seed in (0, 0, 1))
    assert [s.digest() for s in first] == [s.digest() for s in again]
    assert not {s.digest() for s in first if s.image} & {s.digest() for s in other if s.image}


def test_every_fact_is_asked_by_picture_and_by_name_in_every_form() -> None:
    asked = forget_prompts(one_person().subjects, 0, Sizes())
    kinds = Counter((s.modality, s.task, s.attribute) for s in asked)
    for modality in ("image", "text"):
        assert {a for m, _, a in kinds if m == modality} >= set(FACTS)
        assert {t for m, t, _ in kinds if m == modality} == {"generation", "cloze", "classification"}
    assert sum(n for (_, _, a), n in kinds.items() if a == "identity") >= 6
    assert all(len(set(s.options)) == 4 for s in asked if s.task == "classification")


@pytest.mark.parametrize(("name", "pictures", "modalities"), [(None, 2, {"image"}), (NAME, 0, {"text"})])
def test_a_picture_or_a_name_alone_is_enough(name: str | None, pictures: int, modalities: set[str]) -> None:
    asked = forget_prompts(one_person(name=name, pictures=pictures).subjects, 0, FEW)
    assert len(asked) == FEW.forget
    assert {s.modality for s in asked} == modalities


def test_without_picture_and_name_there_are_no_prompts() -> None:
    assert forget_prompts(one_person(name=None, pictures=0).subjects, 0, FEW) == []


def test_own_questions_are_asked_over_fresh_views() -> None:
    request = one_person()
    subject = request.subjects[0]
    own = Sample("Which boat does she sail?", subject.samples[0].image, subject="p")
    asked = forget_prompts([replace(subject, samples=(*subject.samples, own))], 0, Sizes())
    repeated = [s for s in asked if s.question == own.question]
    assert repeated and all(pixel_digest(s.image) != pixel_digest(own.image) for s in repeated)


def test_many_subjects_share_the_prompts() -> None:
    subjects = [replace(one_person().subjects[0], key=f"p{i}", names=(f"Name {i}",)) for i in range(20)]
    asked = Counter(s.subject for s in forget_prompts(subjects, 0, Sizes()))
    assert set(asked.values()) == {Sizes().least} and len(asked) == 20


def test_the_other_facts_of_a_partly_forgotten_person_are_asked() -> None:
    subjects = one_person(attributes=("residence", "food")).subjects
    assert {s.attribute for s in forget_prompts(subjects, 0, Sizes())} == {"residence", "food"}
    rest = {s.attribute for s in rest_prompts(subjects, 0, Sizes())}
    assert rest == set(FACTS) - {"residence", "food"}
    assert rest_prompts(one_person().subjects, 0, Sizes()) == []


def test_own_retain_pictures_are_shown_in_fresh_views() -> None:
    own = [Sample(q, picture(i), subject=f"r{i}") for i in range(4) for q in ("Who is this?", "Where is it?")]
    asked = own_retain_prompts([*own, Sample("No picture?")], 0, 6)
    assert len(asked) == 6
    assert not {s.digest() for s in asked} & {s.digest() for s in own}


def test_the_named_are_not_among_the_known() -> None:
    world = World("unit")
    gone = world.people[0].name
    assert gone not in {p.name for p in known_people(world, [gone.upper()])}
    assert len(known_people(world, [gone])) == len(world.people) + len(world.celebrities) - 1


def test_unseen_keeps_each_once() -> None:
    a, b = Sample("a"), Sample("b")
    assert unseen([a, b, a], {b.digest()}) == [a]
