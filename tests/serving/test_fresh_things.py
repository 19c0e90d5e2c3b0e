"""Verification prompts about what is no person: fresh, about that thing, and never about a person's face or life."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verify_kit import FEW

from mllmeraser.api import erase
from mllmeraser.benchmarks.things import complete_things
from mllmeraser.erasure import Eraser
from mllmeraser.knowledge import asking, everyday
from mllmeraser.knowledge.countries import Country
from mllmeraser.knowledge.famous import Famous
from mllmeraser.knowledge.held_out import world_questions
from mllmeraser.knowledge.known import KNOWN, find, wordings
from mllmeraser.models import MultimodalModel
from mllmeraser.portraits.wordings import fill
from mllmeraser.samples import InputError, Sample
from mllmeraser.samples.frames import FRAMES, unframed
from mllmeraser.samples.names import holds_name
from mllmeraser.samples.request import Request
from mllmeraser.samples.subject import Kind, Subject
from mllmeraser.serving.verify.fresh_prompts import Sizes
from mllmeraser.serving.verify.fresh_things import about_thing, other_facts, thing_prompts
from tiny import picture

OF_PEOPLE = ("this person", "the person", "Who is", "favourite", "birthplace", "hobby", "illness")


def thing(name: str, kind: Kind, *questions: str, image: bool = False) -> Subject:
    """A subject as a request brings it."""
    asked = questions or (f"What is {name}?",)
    shown = (Sample("What is this?", picture(7), subject="x"),) if image else ()
    return Subject("x", (name,) if name else (), (*(Sample(q, subject="x") for q in asked), *shown), kind=kind)


def japan() -> Subject:
    return thing("Japan", "fact", "What is the capital of Japan?")


names = st.sampled_from([one.name for one in KNOWN if isinstance(one, Country | Famous)]) | st.sampled_from(
    ["chess", "lock picking", "the triangle"]
)
kinds: st.SearchStrategy[Kind] = st.sampled_from(["entity", "concept", "topic"])


@settings(max_examples=30, deadline=None)
@given(names, kinds, st.booleans(), st.integers(0, 3))
def test_no_prompt_about_a_thing_is_in_its_fit(name: str, kind: Kind, image: bool, seed: int) -> None:
    subject = thing(name, kind, image=image)
    retain = (Sample("Not this."), Sample("Not that.", picture(8)))
    made, _ = complete_things(Request((subject,), retain, (Sample("Nor this."),)))
    fitted = {sample.digest() for sample in (*made.forget, *made.retain, *made.strangers)}
    said = {unframed(sample.question) for sample in made.forget}
    asked = about_thing(subject, seed, 30, fitted)
    assert 12 <= len(asked) <= 30 and {sample.subject for sample in asked} == {"x"}
    assert any(sample.image is not None for sample in asked) == image
    for sample in asked:
        assert sample.digest() not in fitted and sample.question not in said
        assert sample.image is not None or holds_name(sample.question, name)
        assert not any(words in sample.question for words in OF_PEOPLE), sample


def test_pools_of_fits_and_verifications_are_apart() -> None:
    fits = {*asking.WHAT_IS_SHOWN, *everyday.ABOUT, *(text for texts in asking.ABOUT.values() for text in texts)}
    fresh = {*asking.FRESH_SHOWN, *(text for texts in asking.FRESH_ABOUT.values() for text in texts)}
    assert not fits & fresh
    assert not {text.replace("{x}", form) for text, form in product(asking.WHAT_IS_SHOWN, asking.SHOWN)} & {
        text.replace("{x}", form) for text, form in product(asking.FRESH_SHOWN, asking.FRESH_FORMS)
    }
    assert not set(asking.PASSING) & set(asking.FRESH_PASSING)
    assert set(FRAMES) & set(asking.FRESH_FRAMES) == {"{q}"}
    assert all("{x}" in text for text in fresh)


@pytest.mark.parametrize("name", ["Japan", "William Shakespeare", "USA"])
def test_a_fact_is_asked_for_alone_and_the_others_are_kept(name: str) -> None:
    known = find((name,))
    assert known is not None
    first, *rest = wordings(known)
    subject = thing(name, "fact", fill(wordings(known)[first]["train"][0], known.name))
    right = {text for pool in ("validation", "test") for text in wordings(known)[first][pool]}  # type: ignore[index]
    for sample in about_thing(subject, 0, 40):
        assert sample.attribute == first
        assert any(fill(text, n) in sample.question for text in right for n in (name, known.name)), sample
    assert {sample.attribute for sample in other_facts(subject)} == set(rest)


@pytest.mark.parametrize(
    "subject",
    [thing("Zubrovia", "fact", "Who rules Zubrovia?", "Who governs Zubrovia?"), thing("", "topic", "How do I pick it?"),
     thing("Japan", "fact", "Who won the last election in Japan?")],
)  # fmt: skip
def test_what_only_its_own_questions_ask_for_is_not_verified(subject: Subject) -> None:
    with pytest.raises(InputError, match="x: it cannot be verified, for the fit contains every question"):
        about_thing(subject, 0, 12)


def test_views_do_not_stand_for_a_question_in_text() -> None:
    asked = (Sample("Who rules it?", subject="x"), Sample("What is this?", picture(7), subject="x"))
    with pytest.raises(InputError, match="cannot be verified"):
        about_thing(Subject("x", (), asked, kind="topic"), 0, 12)
    pictured = about_thing(Subject("x", (), asked[1:], kind="topic"), 0, 12)
    assert len(pictured) == 12 and all(sample.image is not None for sample in pictured)


@pytest.fixture(scope="module")
def eraser(tiny_llava: MultimodalModel) -> Eraser:
    return erase(tiny_llava, Request((japan(),)))


def test_the_groups_of_a_fact(tiny_llava: MultimodalModel, eraser: Eraser) -> None:
    groups = thing_prompts(tiny_llava, eraser, Request((japan(),)), 0, Sizes(), None)
    assert all("Japan" in sample.question for sample in (*groups["forget"], *groups["rest"]))
    assert not {s.question for s in groups["forget"]} & {s.question for s in groups["rest"]}
    near = [s for s in groups["neighbours"] if not holds_name(s.question, "Japan")]
    assert {s.attribute for s in near[:4]} == {"capital"}, "of a near country the same fact is asked for"
    passing = [s for s in groups["neighbours"] if holds_name(s.question, "Japan")]
    assert len(passing) == len(asking.FRESH_PASSING)
    for sample in (*groups["retain"], *groups["general"]):
        assert not any(holds_name(text, "Japan") for text in (sample.question, *sample.keywords))
    assert {s.question for s in groups["general"]} <= {s.question for s in world_questions()}
    assert any(s.image is not None for s in groups["retain"]), "the drawn people stay too"
    assert groups["perception"] == []


def test_with_a_picture_flags_are_retained(tiny_llava: MultimodalModel, eraser: Eraser) -> None:
    request = Request((thing("Japan", "entity", image=True),))
    groups = thing_prompts(tiny_llava, eraser, request, 0, Sizes(), None)
    assert any(s.image is not None and "flag" in s.question for s in groups["retain"])
    assert groups == thing_prompts(tiny_llava, eraser, request, 0, Sizes(), None), "the same seed asks the same"
    few = thing_prompts(tiny_llava, eraser, request, 0, FEW, None)
    assert len(few["forget"]) == FEW.forget and len(few["general"]) == FEW.general
