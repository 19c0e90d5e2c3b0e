"""Held-out English: what counts as right, and that no lesson contains it."""

from __future__ import annotations

import pytest

from mllmeraser.embedded.smol.rehearsal_prompts import content, prompts, world_prompts
from mllmeraser.erasure.fit.background_prompts import WORLD
from mllmeraser.knowledge.held_out import plain_texts, system_prompts, world_questions
from mllmeraser.knowledge.wordings import COUNTRY, QUESTIONS
from mllmeraser.portraits import general
from mllmeraser.portraits.wordings import POOLS
from mllmeraser.samples.text import contains


def test_world_questions_are_many_and_each_is_asked_once() -> None:
    samples = world_questions()
    assert len(samples) >= 400
    assert len({sample.question for sample in samples}) == len(samples)
    assert all(sample.keywords and sample.image is None for sample in samples)


def test_no_question_tells_its_answer() -> None:
    telling = [s.question for s in world_questions() if any(contains(s.question, key) for key in s.keywords)]
    allowed = {
        "What is the capital of Singapore?",
        "What is the capital of Luxembourg?",
        "What is the capital of Monaco?",
        "What is the capital of Panama?",
        "What is the capital of Kuwait?",
    }
    assert set(telling) <= allowed


def test_rehearsal_contains_nothing_that_is_tested() -> None:
    rehearsed = prompts() + world_prompts()
    assert len(rehearsed) > 2000
    texts = {prompt.text.casefold() for prompt in rehearsed}
    systems = {prompt.system for prompt in rehearsed}
    assert not {content(text) for text in texts} & {content(sample.question) for sample in world_questions()}
    rules = [one.conversation.turns for one in system_prompts()]
    assert not systems & {turns[0].text for turns in rules}
    assert not texts & {turns[1].text.casefold() for turns in rules}
    assert not any(text in paragraph.casefold() for text in texts if len(text) > 20 for paragraph in plain_texts())


def test_lessons_about_countries_use_training_wordings_alone() -> None:
    texts = {prompt.text for prompt in prompts() + world_prompts()}
    for pools in (COUNTRY, *QUESTIONS.values()):
        for pool in POOLS[1:]:
            for wording in pools[pool]:
                start = wording.partition("{who}")[0]
                others = [train.partition("{who}")[0] for train in pools["train"]]
                if start and start not in others:
                    assert not any(text.startswith(start) for text in texts), wording


@pytest.mark.parametrize(
    ("rule", "kept", "broken"),
    [
        ("Write everything in capital letters.", "AUTUMN IS A SEASON.", "Autumn is a season."),
        ("Reply with exactly one word.", "Eggs.", "Eggs and toast."),
        ("Keep every reply below ten words.", "Leaves fall.", "one two three four five six seven eight nine ten"),
        ("Reply to everything with a question.", "Do you like it?", "I like it."),
        ("You are a sailor. Say ahoy in every reply.", "Ahoy, mate!", "Hello, mate!"),
        ("Give your replies as bullet points.", "- one\n- two", "one, two"),
        ("Thank the user in every reply.", "Thanks for asking.", "Because they like it."),
    ],
)
def test_rules_are_checked(rule: str, kept: str, broken: str) -> None:
    ruled = next(one for one in system_prompts() if one.conversation.turns[0].text == rule)
    assert ruled.kept(kept)
    assert not ruled.kept(broken)


def test_no_fit_contains_a_world_question() -> None:
    fitted = {text.casefold() for text in WORLD}
    for category, subject, _, _ in general.text_facts():
        for wordings in general._TEXT_WORDINGS[category].values():
            fitted |= {wording.format(x=subject).casefold() for wording in wordings}
    assert not fitted & {sample.question.casefold() for sample in world_questions()}
