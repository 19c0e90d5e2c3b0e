"""Requests about what is no person: reading, wordings, the shipped retain set, and the eraser that comes out."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mllmeraser.api import erase
from mllmeraser.benchmarks.things import complete_things
from mllmeraser.erasure.policy import RESOLVED
from mllmeraser.knowledge.asking import ABOUT, FRAMES, PASSING
from mllmeraser.knowledge.famous import QUESTIONS as FAMOUS_QUESTIONS
from mllmeraser.knowledge.held_out import world_questions
from mllmeraser.knowledge.wordings import QUESTIONS
from mllmeraser.models import MultimodalModel
from mllmeraser.samples import Request, Sample, Subject
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.folders import read_subject
from mllmeraser.samples.names import holds_name
from mllmeraser.samples.subject import Kind
from mllmeraser.serving.packing import pack_request


def about(name: str, kind: Kind = "entity", question: str = "", **more: object) -> Request:
    """A request with one question."""
    sample = Sample(question or f"What is {name}?", subject="x", **more)  # type: ignore[arg-type]
    return Request((Subject("x", (name,), (sample,), kind=kind),))


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


def test_an_unknown_kind_in_python_is_refused() -> None:
    with pytest.raises(InputError, match="kind is one of"):
        Subject("x", ("Mars",), kind="planet")  # type: ignore[arg-type]


# --- completing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Japan", "William Shakespeare", "the Netherlands", "chess openings"])
def test_no_retain_prompt_asks_for_the_subject(name: str) -> None:
    made, _ = complete_things(about(name, "entity"))
    passing = {text.partition("{x}")[0] for text in PASSING} | {text.partition("{x}")[2] for text in PASSING}
    for sample in made.retain:
        if holds_name(sample.question, name):
            assert sample.attribute == "general", sample.question
            assert any(part and part.split("{")[0].strip() in sample.question for part in passing), sample.question
        assert not any(holds_name(key, name) for key in sample.keywords), sample
    assert len(made.retain) > 400
    assert not {s.question for s in made.forget} & {s.question for s in made.retain}


def test_a_fact_keeps_the_other_facts_of_its_subject() -> None:
    made, _ = complete_things(about("Japan", "fact", "What is the capital of Japan?"))
    asked = [s.question for s in made.forget]
    assert any("capital" in q for q in asked)
    assert not any(word in q for q in asked for word in ("currency", "language", "continent"))
    kept = {s.attribute for s in made.retain if holds_name(s.question, "Japan")}
    assert {"currency", "language", "continent"} <= kept
    assert "capital" not in kept


def test_a_fact_of_an_unknown_subject_needs_its_other_facts() -> None:
    request = about("Zubrovia", "fact", "Who rules Zubrovia?")
    with pytest.raises(InputError, match="give retain prompts that ask for its other facts"):
        complete_things(request)
    other = Sample("Where does Zubrovia lie?")
    made, _ = complete_things(Request(request.subjects, (other,)))
    assert made.retain == (other,)


def test_wordings_of_requests_are_never_scored() -> None:
    scored = {s.question for s in world_questions()}
    for pools in (*QUESTIONS.values(), *FAMOUS_QUESTIONS.values()):
        scored |= {text.format(who="Japan") for pool in ("validation", "test") for text in pools[pool]}
    made, _ = complete_things(about("Japan"))
    assert not scored & {sample.question for sample in (*made.forget, *made.retain, *made.strangers)}
    assert all("{x}" in text for texts in ABOUT.values() for text in texts)
    assert all("{q}" in text for text in FRAMES)


# --- fitting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["entity", "topic"])
def test_a_thing_gets_the_gate_for_what_is_resolved(tiny_llava: MultimodalModel, kind: Kind) -> None:
    said: list[str] = []
    eraser = erase(tiny_llava, about("Japan", kind), say=said.append)
    assert eraser.config.policy == RESOLVED
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
    from mllmeraser.erasure.settings import FitSettings

    with pytest.raises(InputError, match="gates of this preset are for people"):
        erase(tiny_llava, about("Japan"), FitSettings.preset("default"))


def test_the_service_says_that_it_takes_people_alone() -> None:
    with pytest.raises(InputError, match="people alone"):
        pack_request(about("Japan"))
