"""Requests about what is no person: reading, wordings, the shipped retain set, and the eraser that comes out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from mllmeraser.api import erase, read_request
from mllmeraser.benchmarks.shown import OTHERS
from mllmeraser.benchmarks.things import complete_things
from mllmeraser.erasure import Eraser
from mllmeraser.erasure.fit.split import split_subject
from mllmeraser.erasure.policy import TAIL
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.knowledge.asking import ABOUT, PASSING
from mllmeraser.knowledge.concepts import CONCEPTS, scenes_of
from mllmeraser.knowledge.everyday import FACTS
from mllmeraser.knowledge.famous import QUESTIONS as FAMOUS_QUESTIONS
from mllmeraser.knowledge.held_out import world_questions
from mllmeraser.knowledge.known import find, names_of
from mllmeraser.knowledge.topics import TOPICS
from mllmeraser.knowledge.wordings import QUESTIONS
from mllmeraser.models import MultimodalModel
from mllmeraser.portraits.general import _SCENE_WORDINGS, SCENE_TOPICS
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples import Request, Sample, Subject
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.folders import read_subject
from mllmeraser.samples.frames import FRAMES, framed, unframed
from mllmeraser.samples.names import holds_name, names_somebody
from mllmeraser.samples.subject import Kind

NAMES = ("Japan", "chess")


def about(name: str, kind: Kind = "entity", question: str = "", **more: object) -> Request:
    """A request with one question."""
    sample = Sample(question or f"What is {name}?", subject="x", **more)  # type: ignore[arg-type]
    return Request((Subject("x", (name,), (sample,), kind=kind),))


def alone(samples: Iterable[Sample]) -> list[Sample]:
    """Those that stand in no conversation; plain frames stay."""
    return [s for s in samples if not s.before and s.question in framed(unframed(s.question))]


def card(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "request.yaml").write_text(text, encoding="utf-8")
    return folder


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_card_states_its_kind_and_what_to_say_instead(tmp_path: Path) -> None:
    text = 'kind: fact\nname: Japan\nquestions: ["What is the capital of Japan?"]\ninstead: It is Kyoto of Japan.\n'
    request = Request.from_folder(card(tmp_path / "a", text))
    assert request.subjects[0].kind == "fact"
    assert request.reply == "It is Kyoto of Japan.", "the name of a thing is no secret"
    assert [sample.question for sample in request.forget] == ["What is the capital of Japan?"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: planet\nname: Mars\n", "kind is one of person, entity, fact, concept, topic"),
        ("kind: fact\nname: Japan\n", "a fact is what its questions ask for"),
        ("kind: topic\nname: chess\nreply: No.\ninstead: Never.\n", "reply and instead mean the same"),
        ("kind: topic\nname: chess\ninstead: [a, b]\n", "instead must be text"),
        ("kind: topic\nname: chess\nexact_names: true\n", "exact_names is for people"),
    ],
)
def test_a_wrong_card_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Request.from_folder(card(tmp_path / "a", text))


def test_people_and_things_are_not_mixed(tmp_path: Path) -> None:
    card(tmp_path / "a", "name: Mara Velden\n")
    card(tmp_path / "b", "kind: topic\nname: chess\n")
    with pytest.raises(InputError, match="make one eraser for each"):
        Request.from_folder(tmp_path)


def test_a_thing_is_asked_for_as_a_thing(tmp_path: Path) -> None:
    folder = card(tmp_path / "a", "kind: concept\nname: triangle\n")
    Image.new("RGB", (32, 32)).save(folder / "1.png")
    questions = {sample.question for sample in read_subject(folder).samples}
    assert questions == {"What is this?", "What is triangle?"}


def test_the_kind_of_a_command_is_that_of_its_questions(tmp_path: Path) -> None:
    folder = card(tmp_path / "a", 'name: sourdough\nquestions: ["Why does my dough rise?"]\n')
    topic = read_request(folder, kind="topic")
    assert {s.question for s in topic.forget} == {"What is sourdough?", "Why does my dough rise?"}
    assert [s.question for s in read_request(folder, kind="fact").forget] == ["Why does my dough rise?"]
    card(folder, "kind: entity\nname: sourdough\n")
    with pytest.raises(InputError, match="of the kind entity, not topic"):
        read_request(folder, kind="topic")


def test_questions_alone_make_a_topic(tmp_path: Path) -> None:
    folder = card(tmp_path / "a", 'kind: topic\nquestions: ["How do I pick a lock?"]\n')
    assert [s.question for s in Request.from_folder(folder).forget] == ["How do I pick a lock?"]


def test_a_sentence_that_one_thing_gives_is_not_said_of_another(tmp_path: Path) -> None:
    card(tmp_path / "a", "kind: topic\nname: chess\ninstead: I play no chess.\n")
    card(tmp_path / "b", "kind: topic\nname: opera\n")
    with pytest.raises(InputError, match="different replies"):
        Request.from_folder(tmp_path)


def test_an_unknown_kind_in_python_is_refused() -> None:
    with pytest.raises(InputError, match="kind is one of"):
        Subject("x", ("Mars",), kind="planet")  # type: ignore[arg-type]


# --- completing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Japan", "William Shakespeare", "the Netherlands", "chess openings"])
def test_no_retain_prompt_asks_for_the_subject(name: str) -> None:
    made, _ = complete_things(about(name, "entity"))
    passing = {text.partition("{x}")[0] for text in PASSING} | {text.partition("{x}")[2] for text in PASSING}
    for sample in alone(made.retain):
        if holds_name(sample.question, name):
            assert sample.attribute == "general", sample.question
            assert any(part and part.split("{")[0].strip() in sample.question for part in passing), sample.question
        assert not any(holds_name(key, name) for key in sample.keywords), sample
    assert len(made.retain) > 400
    assert not {s.question for s in alone(made.forget)} & {s.question for s in alone(made.retain)}
    assert not {s.digest() for s in made.forget} & {s.digest() for s in made.retain}


def test_a_fact_keeps_the_other_facts_of_its_subject() -> None:
    made, _ = complete_things(about("Japan", "fact", "What is the capital of Japan?"))
    asked = [s.question for s in made.forget]
    assert any("capital" in q for q in asked)
    assert not any(word in q for q in asked for word in ("currency", "language", "continent"))
    kept = {s.attribute for s in alone(made.retain) if holds_name(s.question, "Japan")}
    assert {"currency", "language", "continent"} <= kept
    assert "capital" not in kept


def test_a_fact_of_an_unknown_subject_needs_its_other_facts() -> None:
    request = about("Zubrovia", "fact", "Who rules Zubrovia?")
    with pytest.raises(InputError, match="give retain prompts that ask for other facts"):
        complete_things(request)
    other = Sample("Where does Zubrovia lie?")
    made, _ = complete_things(Request(request.subjects, (other,)))
    assert alone(made.retain) == [other]


def test_wordings_of_requests_are_never_scored() -> None:
    scored = {s.question for s in world_questions()}
    for pools in (*QUESTIONS.values(), *FAMOUS_QUESTIONS.values()):
        scored |= {text.format(who="Japan") for pool in ("validation", "test") for text in pools[pool]}
    for pools in (pools for topic in TOPICS for pools in topic.questions.values()):
        scored |= {text for pool in ("validation", "test") for text in pools[pool]}
    for made in (complete_things(about("Japan"))[0], complete_things(about("the moon", "topic"))[0]):
        assert not scored & {sample.question for sample in (*made.forget, *made.retain, *made.strangers)}
    assert all("{x}" in text for texts in ABOUT.values() for text in texts)
    assert all("{q}" in text for text in FRAMES)


@pytest.mark.parametrize(
    "question", ["what is the capital of japan", "Please name the capital of Japan!", "Name capital of Japan."]
)
def test_a_fact_is_known_however_it_is_written(question: str) -> None:
    made, _ = complete_things(about("Japan", "fact", question))
    kept = [s.question for s in alone(made.retain) if holds_name(s.question, "Japan")]
    assert not any("capital" in question for question in kept)
    assert any("currency" in question for question in kept)


def test_a_question_that_no_shipped_wording_asks_needs_retain_prompts() -> None:
    with pytest.raises(InputError, match="no shipped question asks for this fact"):
        complete_things(about("Japan", "fact", "Name the capital city of Japan, dear."))


def test_other_facts_are_kept_beside_a_given_retain_set() -> None:
    fact = about("Japan", "fact", "What is the capital of Japan?")
    own = tuple(Sample(text) for text in ("What is the capital of Peru?", "What is 2 plus 2?"))
    made, notes = complete_things(Request(fact.subjects, own))
    assert made.retain[:2] == own
    assert {"currency", "language", "continent"} == {s.attribute for s in alone(made.retain)[2:]}
    assert any("other facts of the same subject" in line for line in notes)


def test_a_fact_over_a_picture_asks_for_that_fact_alone() -> None:
    picture = Image.new("RGB", (64, 40), "white")
    asked = (Sample("What is the capital of Japan?", subject="x"), Sample("What is its capital?", picture, subject="x"))
    made, _ = complete_things(Request((Subject("x", ("Japan",), asked, kind="fact"),)))
    over = {s.question for s in made.forget if s.image is not None}
    assert over
    assert all("capital" in question for question in over), over


@pytest.mark.parametrize("name", ["USA", "Holland", "Galileo", "Napoleon", "Mozart"])
def test_other_names_of_a_known_subject_are_not_retained(name: str) -> None:
    known = find((name,))
    assert known is not None
    names = [name.removeprefix("the ") for name in names_of(known)]
    made, notes = complete_things(about(name))
    assert any("know 1 of 1 subjects" in line for line in notes)
    for sample in made.retain:
        asks_for_it = sample.attribute != "general" and holds_name(sample.question, known.name)
        assert not asks_for_it, sample
        assert not (sample.question in FACTS and names_somebody(sample.question, names)), sample
        for fact in FACTS:
            if names_somebody(fact, names):
                assert fact not in sample.question, sample


def test_frames_are_one_wording_when_prompts_are_held_out() -> None:
    question = "Who rules Zubrovia?"
    assert {unframed(text) for text in framed(question)} == {question}
    assert unframed("Who was Mozart?") == "Who was Mozart?"
    assert len(framed(question)) == len(FRAMES)
    samples = tuple(Sample(text, subject="x") for text in framed(question))
    fitted, held = split_subject(Subject("x", (), samples, kind="fact"), FitSettings.preset("knowledge"))
    assert not held, "one wording cannot measure itself"
    assert len(fitted) == len(samples)


# --- topics and concepts ----------------------------------------------------------------------------------------------


def scene_request(name: str = "circle", *retain: Sample, count: int = 2) -> Request:
    """A request about a scene concept, with pictures that show a circle."""
    circle = next(concept for concept in CONCEPTS if concept.name == "circle")
    drawn = scenes_of(circle, Stream("request"), count, "train")
    samples = tuple(Sample(question.text, Image.fromarray(picture), subject="x") for picture, question in drawn)
    return Request((Subject("x", (name,), samples, kind="concept"),), retain)


def test_beside_a_topic_the_other_topics_are_retained() -> None:
    made, notes = complete_things(about("volcano", "topic"))
    keys = {sample.subject for sample in made.retain}
    assert {topic.key for topic in TOPICS} - keys == {"volcanoes"}
    assert any("know 1 of 1 subjects" in line for line in notes)
    asked = {sample.question for sample in made.forget}
    volcanoes = next(topic for topic in TOPICS if topic.key == "volcanoes")
    assert all(set(pools["train"]) <= asked for pools in volcanoes.questions.values())
    assert not any("person" in question for question in asked)


def test_an_article_is_no_name() -> None:
    made, _ = complete_things(about("the moon", "topic"))
    plain = [sample.question for sample in made.retain if sample.question in FACTS]
    assert sum(" the " in question for question in plain) > 5, "questions with the word `the` stay"
    assert not any("moon" in question for question in plain)


def test_beside_a_scene_concept_scenes_about_other_concepts_are_retained() -> None:
    made, _ = complete_things(scene_request())
    pictured = [sample for sample in alone(made.retain) if sample.image is not None]
    assert len(pictured) == OTHERS * len(SCENE_TOPICS)
    assert {sample.attribute for sample in pictured} == set(SCENE_TOPICS)
    assert not any(holds_name(s.question, "circle") or "circle" in s.keywords for s in pictured)
    assert any(sample.image is None for sample in made.retain)
    held_back = [text for pools in _SCENE_WORDINGS.values() for pool in ("validation", "test") for text in pools[pool]]
    starts = tuple(text.partition("{")[0] for text in held_back if "{" in text)
    trained = [text.partition("{")[0] for pools in _SCENE_WORDINGS.values() for text in pools["train"]]
    scored = tuple(start for start in starts if start not in trained)
    assert not any(s.question.startswith(scored) for s in (*pictured, *alone(made.forget)) if s.image is not None)


def test_a_scene_is_asked_its_own_question_alone() -> None:
    request = scene_request(count=3)
    made, _ = complete_things(request)
    own = {sample.question for sample in request.forget}
    for sample in request.forget:
        over = {s.question for s in made.forget if s.image == sample.image}
        assert over
        assert {unframed(text) for text in over} == {sample.question}
    assert not any("person" in sample.question for sample in made.forget)
    drawn = {sample.question for sample in alone(made.forget) if sample.attribute == "shape"}
    assert drawn - own, "shipped scenes show it in other words"


def test_pictures_that_the_package_cannot_stand_beside_need_retained_pictures() -> None:
    with pytest.raises(InputError, match="give --retain with pictures that do not show it"):
        complete_things(scene_request("umbrella"))
    with pytest.raises(InputError, match="no retained sample has one"):
        complete_things(scene_request("circle", Sample("What is 2 plus 2?")))
    other = Sample("What is this?", Image.new("RGB", (32, 32), "green"))
    made, _ = complete_things(scene_request("umbrella", other))
    assert alone(made.retain) == [other]


def test_without_a_name_nobody_can_tell_what_to_retain() -> None:
    nameless = Request((Subject("x", (), (Sample("How do I pick a lock?", subject="x"),), kind="topic"),))
    with pytest.raises(InputError, match="give its name, or retain prompts"):
        complete_things(nameless)
    made, _ = complete_things(replace(nameless, retain=(Sample("How do I tie a tie?"),)))
    assert [sample.question for sample in alone(made.retain)] == ["How do I tie a tie?"]


# --- fitting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["entity", "topic"])
def test_a_thing_gets_the_gate_for_what_is_resolved(tiny_llava: MultimodalModel, kind: Kind) -> None:
    said: list[str] = []
    eraser = erase(tiny_llava, about("Japan", kind), say=said.append)
    assert eraser.config.policy == replace(TAIL, action="reply")
    assert eraser.config.reply is not None
    assert "person" not in eraser.config.reply.text
    assert any(f"no people but {kind}" in line for line in said)
    assert "Japan" not in repr(eraser.config)


def test_what_is_said_instead_is_said(tiny_llava: MultimodalModel) -> None:
    wanted = "The capital of Japan is Kyoto."
    fact = about("Japan", "fact", "What is the capital of Japan?")
    eraser = erase(tiny_llava, Request(fact.subjects, reply=wanted))
    assert eraser.config.reply is not None
    assert eraser.config.reply.text == wanted


def test_gates_for_people_are_refused(tiny_llava: MultimodalModel) -> None:
    with pytest.raises(InputError, match="gates of this preset are for people"):
        erase(tiny_llava, about("Japan"), FitSettings.preset("default"))
    with pytest.raises(InputError, match="is answered with a sentence"):
        erase(tiny_llava, about("Japan"), action="shift")


def test_an_eraser_states_its_kinds_as_long_as_they_are_known(tiny_llava: MultimodalModel) -> None:
    def made(*kinds: Kind) -> Eraser:
        subjects = [replace(about(name, kind).subjects[0], key=name) for name, kind in zip(NAMES, kinds, strict=True)]
        return erase(tiny_llava, Request(tuple(subjects)))

    def stated(eraser: Eraser) -> dict[str, int]:
        return {name: count for name, count in eraser.config.data.counts.items() if name.startswith("kind_")}

    alike, mixed = made("entity", "entity"), made("entity", "topic")
    assert (stated(alike), stated(mixed)) == ({"kind_entity": 2}, {"kind_entity": 1, "kind_topic": 1})
    assert stated(alike.without(alike.config.subjects[0])) == {"kind_entity": 1}
    assert stated(mixed.without(mixed.config.subjects[0])) == {}, "which of the two is left is not known"
