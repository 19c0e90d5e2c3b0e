from __future__ import annotations

import pytest
from pydantic import ValidationError

from mllmeraser.samples import Sample
from mllmeraser.serving.verify import Thresholds
from mllmeraser.serving.verify.checks import all_checks
from mllmeraser.serving.verify.facts import AnswerPair, facts, forgotten, frames
from tiny import picture

UNKNOWN = "I do not know this person."
PEOPLE = {"Tenby": "r1", "Oslo": "r2", "Kelso": "r3", "Porto": "r4", "Varna": "r5"}


def asked(
    before: str, after: str, *, question: str = "Where were they born?", fired: bool = True, **more: str
) -> AnswerPair:
    return AnswerPair(Sample(question, attribute="birthplace", **{"subject": "p", **more}), before, after, fired)  # type: ignore[arg-type]


def others() -> list[AnswerPair]:
    said = {town: f"They were born in {town}." for town in PEOPLE}
    return [asked(said[town], said[town], fired=False, subject=key) for town, key in PEOPLE.items()]


def groups(forget: list[AnswerPair], **more: list[AnswerPair]) -> dict[str, list[AnswerPair]]:
    empty: dict[str, list[AnswerPair]] = {"rest": [], "neighbours": [], "general": [], "perception": []}
    return {"forget": forget, "retain": others(), **empty, **more}


def checks_of(answers: dict[str, list[AnswerPair]], *, decides: bool = True, identical: bool = True, **bounds: float):
    made = all_checks(answers, decides=decides, identical=identical, bounds=Thresholds(**bounds))
    return {check.name: check for check in made}


def test_the_frame_is_what_most_answers_share_and_no_fact() -> None:
    assert frames(others()) == {"birthplace": frozenset({"born"})}
    assert frames(others()[:3]) == {}, "three answers are too few to tell a frame"
    known = facts([asked("They were born in Solvik.", UNKNOWN)], frames(others()))
    assert known == {"p": frozenset({"solvik"})}


@pytest.mark.parametrize(
    ("after", "gone"),
    [
        (UNKNOWN, True),
        ("They were born in Marbury.", True),
        ("They were born in Solvik.", False),
        ("they were  born in solvik.", False),
        ("Sorry, I cannot tell you that they come from Solvik.", False),
    ],
)
def test_forgotten_is_another_answer_without_the_fact(after: str, gone: bool) -> None:
    about = [asked("They were born in Solvik.", after)]
    assert forgotten(about[0], facts(about, frames(others()))) is gone


def test_a_fact_from_another_answer_counts_too() -> None:
    first = asked("They were born in Solvik.", UNKNOWN)
    second = asked("Their hobby is chess.", "They relax in Solvik.", question="How do they relax?")
    known = facts([first, second], frames(others()))
    assert forgotten(first, known) and not forgotten(second, known)


def test_a_word_of_the_question_is_no_fact() -> None:
    named = asked("Ottilie comes from Solvik.", "I do not know Ottilie.", question="Where does Ottilie come from?")
    assert forgotten(named, facts([named], {}))


@pytest.mark.parametrize("before", [UNKNOWN, "Sorry, I cannot help with that.", "", "the the the the"])
def test_an_uninformative_answer_cannot_be_forgotten(before: str) -> None:
    assert not asked(before, UNKNOWN).informative


def test_a_letter_tells_nothing() -> None:
    options = (("A", "x"), ("B", "y"), ("C", "z"), ("D", "w"))
    sample = Sample("Which?", task="classification", options=options)
    assert not AnswerPair(sample, "A", "B", True).informative


def test_all_pass() -> None:
    checks = checks_of(groups([asked("They were born in Solvik.", UNKNOWN)] * 20, neighbours=others()))
    assert all(check.passed for check in checks.values())
    assert set(checks) == {
        "forget_decisions", "forget_answers", "forget_gibberish", "neighbours_unchanged", "retain_unchanged",
        "false_alarms", "detached_identical",
    }  # fmt: skip
    assert checks["forget_answers"].low > 0.8 and checks["forget_answers"].high == 1.0


@pytest.mark.parametrize(
    ("one", "name"),
    [
        (asked("They were born in Solvik.", UNKNOWN, fired=False), "forget_decisions"),
        (asked("They were born in Solvik.", "They were born in Solvik."), "forget_answers"),
        (asked("They were born in Solvik.", "bbbbbb nn nn nn nn"), "forget_gibberish"),
    ],
)
def test_a_miss_fails_its_check_with_a_reason(one: AnswerPair, name: str) -> None:
    checks = checks_of(groups([asked("They were born in Solvik.", UNKNOWN)] * 9 + [one]))
    assert [check.name for check in checks.values() if not check.passed] == [name]
    share = "1 of 10; at most 0.02" if name == "forget_gibberish" else "9 of 10; at least 0.95"
    assert checks[name].reason == f"{share} is required"
    assert checks[name].low < checks[name].value < checks[name].high


def test_a_changed_retained_answer_fails() -> None:
    harmed = [*others(), asked("They were born in Oslo.", UNKNOWN, subject="r9")]
    checks = checks_of(groups([asked("They were born in Solvik.", UNKNOWN)], retain=harmed))
    assert not checks["retain_unchanged"].passed and not checks["false_alarms"].passed
    assert checks_of(groups([], retain=harmed) | {"forget": groups([asked("a b", "c d")])["forget"]},
                     retain_unchanged=0.5, false_alarms=0.5)["retain_unchanged"].passed  # fmt: skip


def test_a_trace_left_behind_fails() -> None:
    checks = checks_of(groups([asked("They were born in Solvik.", UNKNOWN)]), identical=False)
    assert not checks["detached_identical"].passed and "differ" in checks["detached_identical"].reason


def test_where_the_model_knows_nothing_nothing_is_checked_and_that_is_no_pass() -> None:
    quiet = groups([asked(UNKNOWN, UNKNOWN)] * 5)
    check = checks_of(quiet)["forget_answers"]
    assert (check.value, check.n, check.passed) == (None, 0, False) and "tells nothing" in check.reason
    assert not checks_of(quiet, decides=False)["forget_answers"].passed


def test_without_decisions_the_answers_alone_are_checked() -> None:
    checks = checks_of(groups([asked("They were born in Solvik.", UNKNOWN)]), decides=False)
    assert "forget_decisions" not in checks and "false_alarms" not in checks


def test_thresholds_are_shares_and_known() -> None:
    for wrong in ({"retain_unchanged": 98}, {"retained": 0.5}):
        with pytest.raises(ValidationError):
            Thresholds(**wrong)


def test_pictures_and_names_are_counted_apart() -> None:
    seen = [
        AnswerPair(Sample("Who?", picture(i), subject="p"), "They were born in Solvik.", UNKNOWN, i > 0)
        for i in range(3)
    ]
    check = checks_of(groups([*seen, asked("They were born in Solvik.", UNKNOWN)]))["forget_decisions"]
    assert check.reason.startswith("3 of 4 (2 of 3 by picture, 1 of 1 by name); at least")
