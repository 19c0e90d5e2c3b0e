"""Requests from folders, tables and samples, and the one-line errors of bad ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from mllmeraser.samples import ExpansionSettings, InputError, Request, Sample
from mllmeraser.samples.names import names_somebody
from mllmeraser.samples.request import require_answers


def picture(path: Path, colour: str = "red", size: tuple[int, int] = (20, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_folder_of_pictures_alone_is_a_request(tmp_path: Path) -> None:
    picture(tmp_path / "jane" / "a.png")
    picture(tmp_path / "jane" / "b.JPG", "blue")
    picture(tmp_path / "jane" / ".hidden.png")
    (tmp_path / "jane" / "notes.txt").write_text("not a picture")
    request = Request.from_folder(tmp_path / "jane")
    assert [subject.key for subject in request.subjects] == ["jane"]
    assert [sample.id for sample in request.forget] == ["jane/a.png/0", "jane/b.JPG/0"]
    assert {sample.question for sample in request.forget} == {"Who is this?"}
    assert all(sample.answer is None for sample in request.forget)


def test_request_yaml_gives_names_and_questions(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "request.yaml").write_text(
        "name: Jane Doe\nother_names: [J. D.]\nquestions:\n  - Where does she live?\n  - Where does Jane Doe live?\n"
    )
    request = Request.from_folder(tmp_path)
    assert request.subjects[0].names == ("Jane Doe", "J. D.")
    by_image = [s.question for s in request.forget if s.image is not None]
    by_name = [s.question for s in request.forget if s.image is None]
    assert by_image == ["Where does she live?", "Where does Jane Doe live?"]
    assert by_name == ["Who is Jane Doe?", "Who is J. D.?", "Where does Jane Doe live?"]


def test_request_yaml_may_bring_a_reply_and_exact_names(tmp_path: Path) -> None:
    for name, reply in (("jane", "I cannot help."), ("omar", "I cannot help."), ("zoe", None)):
        (tmp_path / name).mkdir()
        text = f"name: {name.title()} Doe\nexact_names: {str(name == 'omar').lower()}\n"
        (tmp_path / name / "request.yaml").write_text(text + (f"reply: {reply}\n" if reply else ""))
    request = Request.from_folder(tmp_path)
    assert request.reply == "I cannot help." and [s.exact_names for s in request.subjects] == [False, True, False]
    (tmp_path / "zoe" / "request.yaml").write_text("name: Zoe Doe\nreply: Ask elsewhere.\n")
    with pytest.raises(InputError, match="different replies"):
        Request.from_folder(tmp_path)


@pytest.mark.parametrize("reply", ["I do not know Jane.", "who is JANE DOE?", "Not janedoe.", "  ", "a" * 501])
def test_a_reply_that_names_the_person_or_is_empty_is_refused(reply: str) -> None:
    request = Request.from_samples([Sample("Who is Jane Doe?", subject="j")], names={"j": ["Jane Doe"]})
    with pytest.raises(InputError) as error:
        replace(request, reply=reply).validate()
    assert "Jane" not in one_line(error)
    replace(request, reply="I do not know. Janet may.").validate()


@pytest.mark.parametrize(
    ("name", "reply", "held"),
    [
        ("Ann", "I cannot help with that.", False),
        ("Will Smith", "I will not answer.", False),
        ("The Edge", "I do not know the person.", False),
        ("Bo Ek", "Ask Bo.", True),
        ("Jean-Luc Picard", "No jean luc picard.", True),
        ("\u738b\u82b3", "\u6211\u4e0d\u8ba4\u8bc6\u738b\u82b3\u3002", True),
        ("\u738b\u82b3", "\u6211\u4e0d\u77e5\u9053\u3002", False),
        ("Zo\u00eb Lund", "Not zoe lund.", True),
        ("Se\u00e1n O\u2019Neil", "Ask O'Neil.", True),
        ("Se\u00e1n O\u2019Neil", "Ask O, please.", False),
        ("Ann Lee", "Not a\u00adnn lee.", True),
        ("...", "No.", False),
    ],
)
def test_names_in_a_reply(name: str, reply: str, held: bool) -> None:
    assert names_somebody(reply, [name]) == names_somebody(reply, ["...", name, "Nobody Else"]) == held


def test_name_without_picture_is_a_text_request(tmp_path: Path) -> None:
    (tmp_path / "request.yml").write_text("name: Jane Doe\n")
    assert [s.modality for s in Request.from_folder(tmp_path).forget] == ["text"]


def test_folder_of_folders_is_several_subjects(tmp_path: Path) -> None:
    for name in ("zoe", "adam"):
        picture(tmp_path / name / "x.png", "red" if name == "zoe" else "blue")
    assert [s.key for s in Request.from_folder(tmp_path).subjects] == ["adam", "zoe"]
    picture(tmp_path / "loose.png")
    with pytest.raises(InputError, match="one folder for each person") as error:
        Request.from_folder(tmp_path)
    one_line(error)


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("nam: Jane\n", "unknown key nam; allowed keys: name, other_names, kind, questions"),
        ("name: [Jane]\n", "name must be text"),
        ("questions: {a: b}\n", "questions must be text or a list of texts"),
        ("exact_names: perhaps\n", "exact_names is true or false"),
        ("reply: [a, b]\n", "reply must be text"),
        ("- Jane\n", "must be a mapping"),
        ("name: [Jane\n", "not valid YAML"),
    ],
)
def test_bad_yaml_says_what_is_allowed(tmp_path: Path, yaml: str, said: str) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "request.yaml").write_text(yaml)
    with pytest.raises(InputError) as error:
        Request.from_folder(tmp_path)
    assert said in one_line(error) and "request.yaml" in one_line(error)


def test_empty_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one image") as error:
        Request.from_folder(tmp_path)
    one_line(error)
    with pytest.raises(InputError, match="no such file or folder"):
        Request.from_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="forget set is empty"):
        Request.from_samples([])


def test_unreadable_picture_is_named(tmp_path: Path) -> None:
    whole = picture(tmp_path / "good.png", size=(64, 64)).read_bytes()
    (tmp_path / "broken.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"broken\.png") as error:
        Request.from_folder(tmp_path)
    one_line(error)
    (tmp_path / "broken.png").write_bytes(b"no picture at all")
    with pytest.raises(InputError, match=r"broken\.png.*unreadable image") as error:
        Request.from_folder(tmp_path)
    assert "BytesIO" not in one_line(error)


def test_forget_and_retain_must_not_share_a_sample(tmp_path: Path) -> None:
    picture(tmp_path / "forget" / "a.png")
    picture(tmp_path / "retain" / "copy.png")
    with pytest.raises(InputError, match="forget and retain share a sample") as error:
        Request.from_folder(tmp_path / "forget", retain=tmp_path / "retain")
    one_line(error)
    with pytest.raises(InputError, match="forget and strangers share a sample"):
        Request.from_folder(tmp_path / "forget", strangers=tmp_path / "retain")
    picture(tmp_path / "retain" / "copy.png", "blue")
    assert len(Request.from_folder(tmp_path / "forget", retain=tmp_path / "retain").retain) == 1


def test_named_retain_people_bring_text_samples(tmp_path: Path) -> None:
    picture(tmp_path / "forget" / "a.png")
    picture(tmp_path / "retain" / "b.png", "blue")
    (tmp_path / "retain" / "request.yaml").write_text("name: Adam Roe\n")
    retain = Request.from_folder(tmp_path / "forget", retain=tmp_path / "retain").retain
    by_name = [s for s in retain if s.image is None]
    assert len(by_name) > 20 and all("Adam Roe" in s.question for s in by_name)


def test_jsonl_request(tmp_path: Path) -> None:
    picture(tmp_path / "faces" / "a.png")
    rows = [
        {"image": "faces/a.png", "question": "Who?", "subject": "s1", "answer": "Jane"},
        {"question": "Who is Jane?", "subject": "s1"},
        {"question": "Pick.", "subject": "s2", "options": {"A": "x", "B": "y"}, "answer": "B"},
    ]
    table = tmp_path / "request.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    request = Request.from_folder(table)
    assert [(s.key, len(s.samples)) for s in request.subjects] == [("s1", 2), ("s2", 1)]
    assert request.forget[2].task == "classification"
    assert request.forget[2].options == (("A", "x"), ("B", "y"))


def test_from_samples_groups_by_subject_with_names() -> None:
    forget = [Sample("a", subject="1"), Sample("b", subject="2"), Sample("c", subject="1"), Sample("d")]
    request = Request.from_samples(forget, names={"1": ["Jane Doe"]})
    assert [(s.key, s.names, len(s.samples)) for s in request.subjects] == [
        ("1", ("Jane Doe",), 2),
        ("2", (), 1),
        ("subject", (), 1),
    ]


def test_require_answers_counts_and_names_the_first() -> None:
    require_answers([Sample("q", answer="x"), Sample("q", keywords=("x",))])
    with pytest.raises(InputError, match=r"2 sample\(s\) have none; first: 'one'"):
        require_answers([Sample("q", answer="x"), Sample("q", id="one"), Sample("q", id="two")])


def test_expanded_request_keeps_the_forgotten_out_of_retain() -> None:
    face, other = Image.new("RGB", (24, 24), "red"), Image.new("RGB", (24, 24), "blue")
    forget = [Sample("Who is this?", image=face, subject="1")]
    retain = [
        Sample("What colour is the hat?", image=face.copy(), subject="1", id="hat"),
        Sample("Who is this?", image=other, subject="2", id="other"),
    ]
    settings = ExpansionSettings(views=3, wordings=6, other_wordings=4)
    expanded = Request.from_samples(forget, retain).expanded(settings)
    assert [s.id for s in expanded.retain if s.subject == "1"] == ["hat"]
    assert len([s for s in expanded.retain if s.subject == "2"]) == 5
    expanded.validate()


def test_request_yaml_may_name_what_alone_is_to_be_forgotten(tmp_path: Path) -> None:
    (tmp_path / "request.yaml").write_text("name: Jane Doe\nattributes: [residence]\n")
    subject = Request.from_folder(tmp_path).subjects[0]
    assert subject.attributes == ("residence",)
    assert {s.attribute for s in Request((subject,)).expanded().forget} == {"residence"}
