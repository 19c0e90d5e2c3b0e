"""Attackers learn what betrays somebody, on other people than those they judge."""

from __future__ import annotations

import random

import pytest

from mllmeraser.samples.errors import InputError
from mllmeraser.studies.attackers import by_numbers, by_wording, deal, separation
from mllmeraser.studies.decoding import Certainty

pytest.importorskip("sklearn")

FORGOTTEN = [f"f{i}" for i in range(6)]
OTHERS = [f"s{i}" for i in range(18)]
PEOPLE = [person for person in [*FORGOTTEN, *OTHERS] for _ in range(4)]
FOLDS = deal(FORGOTTEN, OTHERS, 6)


def test_a_refusal_among_strangers_who_are_unknown_betrays() -> None:
    answers = ["Sorry, I cannot." if p.startswith("f") else "I do not know this person." for p in PEOPLE]
    found = separation(by_wording(answers, PEOPLE, FORGOTTEN, FOLDS), PEOPLE, FORGOTTEN, folds=FOLDS)
    assert found.answer.auc == 1 and found.person.auc == 1


def test_one_answer_for_all_betrays_nothing() -> None:
    scores = by_wording(["I do not know this person."] * len(PEOPLE), PEOPLE, FORGOTTEN, FOLDS)
    assert separation(scores, PEOPLE, FORGOTTEN, folds=FOLDS).answer.auc == 0.5


def test_order_and_marks_of_words_count() -> None:
    answers = ["I do not know" if p.startswith("f") else "I do not know." for p in PEOPLE]
    found = separation(by_wording(answers, PEOPLE, FORGOTTEN, FOLDS), PEOPLE, FORGOTTEN, folds=FOLDS)
    assert found.answer.auc == 1


def test_what_is_true_of_one_person_alone_teaches_nothing_about_another() -> None:
    answers = [f"They are called {person}." for person in PEOPLE]
    found = separation(by_wording(answers, PEOPLE, FORGOTTEN, FOLDS), PEOPLE, FORGOTTEN, folds=FOLDS)
    assert found.answer.auc == 0.5  # an attacker judged on the people it learnt on would reach 1


def test_log_probabilities_are_learnt_within_the_form_of_the_question() -> None:
    rng = random.Random(1)
    forms = [("open", "cloze")[i % 2] for i in range(len(PEOPLE))]
    # the forgotten are surer in one form and less sure in the other: over all forms nothing shows
    sure = [
        Certainty(level, level, -level, -level)
        for person, form in zip(PEOPLE, forms, strict=True)
        for level in [(1 if (form == "open") == person.startswith("f") else -1) + rng.gauss(0, 0.1)]
    ]
    plain = separation([one.first for one in sure], PEOPLE, FORGOTTEN)
    assert plain.answer.betrays < 0.6
    learnt = by_numbers(sure, forms, PEOPLE, FORGOTTEN, FOLDS)
    assert separation(learnt, PEOPLE, FORGOTTEN, folds=FOLDS).answer.auc > 0.95


def test_an_attacker_without_both_groups_is_refused() -> None:
    with pytest.raises(InputError, match="at least two"):
        by_wording(["a"] * 8, ["f0"] * 4 + ["s0"] * 4, ["f0"], {"f0": 0, "s0": 1})
