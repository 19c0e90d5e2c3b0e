"""Views, the question library, and the expansion of a subject."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from mllmeraser.samples import (
    ExpansionSettings,
    InputError,
    Sample,
    Subject,
    ViewSettings,
    expand_subject,
)
from mllmeraser.samples.expansion import views
from mllmeraser.samples.questions import default_library, read_library

PERSONAL = ("birthplace", "residence", "occupation", "hobby", "food", "medical", "identity")


@pytest.fixture
def face() -> Image.Image:
    image = Image.new("RGB", (48, 40), (200, 180, 40))
    image.paste((20, 30, 160), (14, 8, 34, 40))
    return image


def test_views_are_deterministic_same_size_and_near(face: Image.Image) -> None:
    first, again, other = views(face, 6, 3), views(face, 6, 3), views(face, 6, 4)
    assert [v.tobytes() for v in first] == [v.tobytes() for v in again]
    assert first[1].tobytes() != other[1].tobytes()
    assert first[0].tobytes() == face.tobytes()
    assert len({v.tobytes() for v in first}) == 6
    assert all(v.size == face.size and v.mode == "RGB" for v in first)
    # Filled with the colour of the edge, never with black.
    corners = np.array([[v.getpixel((0, 0)), v.getpixel((47, 0))] for v in first], dtype=float)
    assert np.abs(corners - (200, 180, 40)).max() < 100
    for view in first[1:]:
        assert np.abs(np.asarray(view, float) - np.asarray(face, float)).mean() < 45


def test_views_of_a_single_pixel_and_of_none() -> None:
    dot = Image.new("L", (1, 1), 9)
    assert [v.size for v in views(dot, 3, 0)] == [(1, 1)] * 3
    assert views(dot, 0, 0) == []


def test_shipped_library_covers_every_attribute_in_three_forms() -> None:
    library = default_library()
    assert library.attributes == PERSONAL
    for attribute in PERSONAL[:-1]:
        found = {w.task for w in library.select(attributes=[attribute]).wordings}
        assert found == {"generation", "cloze", "classification"}
    assert all("__" in w.template for w in library.select(tasks=["cloze"]).wordings)
    identity = library.select(attributes=["identity"])
    assert "Who is this?" in {w.render("this person") for w in identity.wordings}


def test_rendering() -> None:
    wordings = {w.template: w for w in default_library().wordings}
    assert wordings["Where was {who} born?"].render("Jane Doe") == "Where was Jane Doe born?"
    cloze = next(w for w in default_library().wordings if w.template == "Complete: {who} was born in __.")
    assert cloze.render("this person") == "Complete: This person was born in __."
    assert not wordings["Who is this?"].names_person


def test_draw_is_balanced_without_early_repeats() -> None:
    library = default_library()
    drawn = library.draw(60, random.Random(0))
    assert drawn == library.draw(60, random.Random(0))
    assert len(set(drawn)) == 60
    tasks = [w.task for w in drawn]
    assert all(tasks.count(task) >= 15 for task in set(tasks))
    assert len({(w.task, w.attribute) for w in drawn[:19]}) == 19
    assert all(w.names_person for w in library.draw(200, random.Random(1), by_name=True))


def test_expanded_subject_has_own_questions_on_every_view(face: Image.Image) -> None:
    own = [Sample("Where?", image=face, answer="Rome", subject="s", id="own"), Sample("Jane?", subject="s")]
    subject = Subject("s", ("Jane Doe",), tuple(own))
    settings = ExpansionSettings(views=4, wordings=5, name_wordings=7)
    expanded = expand_subject(subject, settings)
    assert expanded == expand_subject(subject, settings)
    assert expanded.samples[:2] == tuple(own)
    asked = [s for s in expanded.samples if s.question == "Where?"]
    assert len(asked) == 4 and all(s.answer == "Rome" for s in asked)
    from_library = [s for s in expanded.samples if "/picture" in s.id]
    assert len(from_library) == 20 and all(s.answer is None and s.subject == "s" for s in from_library)
    by_name = [s for s in expanded.samples if "/name" in s.id]
    assert len(by_name) == 7 and all("Jane Doe" in s.question and s.image is None for s in by_name)
    choice = [s for s in expanded.samples if s.task == "classification"]
    assert choice and all([letter for letter, _ in s.options] == list("ABCD") for s in choice)
    assert len({s.id for s in expanded.samples}) == len(expanded.samples)
    assert len({s.digest() for s in expanded.samples}) == len(expanded.samples)


def test_expansion_respects_modality_task_and_attribute(face: Image.Image) -> None:
    subject = Subject("s", ("Jane Doe",), (Sample("Who?", image=face, subject="s"),))
    settings = ExpansionSettings(views=2, modalities=("text",), tasks=("cloze",), attributes=("food",))
    made = expand_subject(subject, settings).samples[1:]
    assert made and {(s.modality, s.task, s.attribute) for s in made} == {("text", "cloze", "food")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("attributes: {job: {question: [x]}}", "unknown key question"),
        ("attributes: {job: {cloze: ['no gap']}}", "needs the blank"),
        ("attributes: {job: {generation: [x], values: [a]}}", "at least four values"),
        ("attributes: {}", "no wording"),
        ("- a", "must be a mapping"),
    ],
)
def test_bad_library(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "q.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_library(tmp_path / "q.yaml")


def test_of_somebody_some_attributes_alone(face: Image.Image) -> None:
    own = [Sample("Who is this?", face, subject="a", attribute="identity"), Sample("Her street?", face, subject="a")]
    subject = Subject("a", ("Ada Lee",), tuple(own), attributes=("residence",))
    expanded = expand_subject(subject, ExpansionSettings(views=2))
    assert {s.attribute for s in expanded.samples} == {None, "residence"} and expanded.attributes == ("residence",)
    assert {s.question for s in expanded.samples if s.attribute is None} == {"Her street?"}
    assert any(s.image is None for s in expanded.samples)
    assert not any("Who is this" in s.question for s in expanded.samples)
    with pytest.raises(InputError, match="unknown attribute 'shoe size'; known are birthplace"):
        expand_subject(replace(subject, attributes=("shoe size",)), ExpansionSettings())


def test_view_settings_bound_the_views(face: Image.Image) -> None:
    still = ViewSettings(crop=0, rotation=0, shift=0, colour=0, blur=0)
    assert {view.tobytes() for view in views(face, 4, 0, still)} == {face.tobytes()}
    own = Subject("s", ("Jane Doe",), (Sample("Who?", image=face, subject="s"),))
    expanded = expand_subject(own, ExpansionSettings(views=3, view_settings=still))
    assert {s.image.tobytes() for s in expanded.samples if s.image is not None} == {face.tobytes()}
    with pytest.raises(ValidationError):
        ViewSettings(crop=1)
