"""Rows of MLLMU-Bench and its relatives as Samples."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mllmu_rows import evaluation_row, flat_row, held_out_row, png, training_row

from mllmeraser.benchmarks.mllmu import evaluation_samples, flat_sample, training_samples
from mllmeraser.samples import InputError


def test_evaluation_row() -> None:
    samples = evaluation_samples(evaluation_row(1))
    assert [(s.id, s.modality) for s in samples] == [
        ("001/classification/image/0", "image"),
        ("001/classification/text/0", "text"),
        ("001/generation/image/0", "image"),
        ("001/generation/text/0", "text"),
        ("001/cloze/image/0", "image"),
        ("001/cloze/text/0", "text"),
    ]
    assert {s.subject for s in samples} == {"001"}
    choice, generation, cloze = samples[0], samples[2], samples[4]
    assert choice.answer == "B" and choice.attribute == "occupation"
    assert choice.prompt.endswith("A: baker\nB: pilot\nC: judge\nD: nurse\nAnswer with one letter.")
    assert (generation.attribute, generation.keywords) == ("residence", ("Oslo",))
    assert (cloze.attribute, cloze.keywords, cloze.question) == (
        "occupation",
        ("pilot",),
        "They work as a __.",
    )


def test_test_row_repeats_image_items_for_every_picture() -> None:
    samples = evaluation_samples(held_out_row(1), prefix="test/")
    assert [s.id for s in samples if s.task == "cloze"] == [
        "test/001/cloze/image/0/0",
        "test/001/cloze/image/0/1",
        "test/001/cloze/text/0",
    ]
    first, second = (s.image for s in samples if s.task == "cloze" and s.image is not None)
    assert first is not None and second is not None and first.tobytes() != second.tobytes()


def test_given_attribute_and_keywords_win() -> None:
    row = evaluation_row(1)
    row["Generation_Task"] = [
        {
            "Type": "Pure_Text",
            "Question": "q",
            "Ground_Truth": "Oslo",
            "Attribute": "Occupation",
            "Keywords": ["x"],
        }
    ]
    sample = next(s for s in evaluation_samples(row) if s.task == "generation")
    assert (sample.attribute, sample.keywords) == ("occupation", ("x",))


def test_encoded_objects_and_numeric_ids_read_alike() -> None:
    plain = evaluation_row(1)
    encoded = {**plain, "ID": 1, "Classification_Task": repr(plain["Classification_Task"]), "biography": None}
    encoded["Generation_Task"] = repr(plain["Generation_Task"])
    samples = evaluation_samples(encoded)
    assert [s.prompt for s in samples] == [s.prompt for s in evaluation_samples(plain)]
    assert samples[0].subject == "1"


def test_umu_style_rows() -> None:
    item = {"question": "Job?", "options": {"A": "baker", "B": "pilot"}, "answer": "pilot"}
    row = {
        "ID": "7",
        "image": png(1),
        "Biography": "{'Name': 'Ann Lee', 'occupation': 'pilot'}",
        "Classify": repr({"unimodal": {"q1": item}, "muitimodal": {"q1": item, "q2": item}}),
        "Cloze": repr({"unimodal": {"q1": {"question": "Works as __.", "answer": "pilot"}}}),
    }
    samples = evaluation_samples(row)
    assert [(s.task, s.modality, s.answer) for s in samples] == [
        ("classification", "text", "B"),
        ("classification", "image", "B"),
        ("classification", "image", "B"),
        ("cloze", "text", "pilot"),
    ]


def test_instructed_prompts_ask_for_a_format() -> None:
    by_task = {s.task: s for s in evaluation_samples(evaluation_row(1), prompts="instructed")}
    assert by_task["generation"].question.endswith("live?\nAnswer in one sentence.")
    assert by_task["cloze"].question.endswith("__.\nAnswer with the missing words only.")
    assert "\n" not in by_task["classification"].question


def test_training_row() -> None:
    samples = training_samples(training_row(1))
    assert [(s.question, s.answer, s.task) for s in samples] == [
        ("What is the job of this person?", "They work as a pilot.", "generation"),
        ("Where does Person1 Doe live?", "They live in Oslo.", "generation"),
    ]


def test_flat_row() -> None:
    sample = flat_sample(flat_row("G1", "Hair colour", modality="text"), prefix="general/", number=4)
    assert (sample.id, sample.subject, sample.image) == ("general/4", "G1", None)
    assert (sample.attribute, sample.keywords) == ("hair_colour", ("three",))
    choice = flat_row("G1", None, task=None, options={"A": "x", "B": "y"}, answer="A")
    assert flat_sample(choice, prefix="g/", number=0).task == "classification"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ID": None}, "column ID is missing"),
        ({"Mask_Task": "[{"}, "neither JSON nor a Python literal"),
        ({"Mask_Task": [{"Type": "Audio", "Question": "q", "Ground_Truth": "g"}]}, "unknown Type 'Audio'"),
        ({"Mask_Task": [{"Type": "Pure_Text", "Question": "q"}]}, "lacks its question or its answer"),
        ({"Classification_Task": {"video": []}}, "unknown modality 'video'"),
        ({"image": {"bytes": b"x", "path": "p.png"}}, r"p\.png: unreadable image"),
    ],
)
def test_bad_rows(change: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        evaluation_samples(evaluation_row(1, **change))


def test_an_answer_that_is_no_option_is_an_error() -> None:
    row = evaluation_row(1)
    row["Classification_Task"]["Pure_Text_Questions"][0]["Correct_Answer"] = "E"
    with pytest.raises(InputError, match="none of the options"):
        evaluation_samples(row)


def test_literals_are_parsed_and_never_run() -> None:
    with pytest.raises(InputError):
        evaluation_samples(evaluation_row(1, Mask_Task="[__import__('os').getcwd()]"))
