"""A verification asks in conversations too: in contexts of the unseen half, and after a question about a subject."""

from __future__ import annotations

from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.contexts import STANDING, SYSTEM
from mllmeraser.samples import Sample
from mllmeraser.serving.verify.checks import all_checks
from mllmeraser.serving.verify.conversations import AFTER, in_conversations
from mllmeraser.serving.verify.facts import AnswerPair
from mllmeraser.serving.verify.thresholds import Thresholds
from tiny import picture

ASKED = [Sample(f"Where does Vera Lund live, {i}?", picture(3) if i % 2 else None, id=str(i)) for i in range(24)]
OTHERS = [Sample(f"Where does Omar Vale live, {i}?", id=str(i)) for i in range(24)]
UNKNOWN = "I do not know this person."


def test_every_kind_occurs_and_the_texts_are_unseen(tiny_llava: MultimodalModel) -> None:
    told = in_conversations(tiny_llava, ASKED, (), 0, 20, forgotten=True)
    assert len(told) == 20 and {one.kind for one in told} == set(STANDING) and all(one.forgotten for one in told)
    said = " ".join(turn.text for one in told for turn in one.conversation.turns[:-1])
    fitted = [text for kind in SYSTEM.values() for text in kind["validation"] if len(text) > 2]
    assert not any(text in said for text in fitted)
    for one in told:
        assert one.conversation.turns[-1].text == one.sample.prompt and len(one.conversation.turns) > 1
    assert told == in_conversations(tiny_llava, ASKED, (), 0, 20, forgotten=True), "the same each time"
    assert told != in_conversations(tiny_llava, ASKED, (), 1, 20, forgotten=True)


def test_others_also_follow_a_question_about_a_subject(tiny_llava: MultimodalModel) -> None:
    talk = in_conversations(tiny_llava, OTHERS, ASKED, 0, 24, forgotten=False)
    after = [one for one in talk if one.kind == AFTER]
    assert len(after) == 8 and all("Vera Lund" in one.conversation.turns[0].text for one in after)
    assert not any(one.forgotten for one in talk)


def test_a_chat_format_of_one_question_has_no_conversation(tiny_llava: MultimodalModel, monkeypatch) -> None:
    only = "{% if messages | length > 1 %}{{ raise_exception('one question') }}{% endif %}"
    monkeypatch.setattr(tiny_llava.processor, "chat_template", only + tiny_llava.processor.chat_template)
    assert in_conversations(tiny_llava, ASKED, (), 0, 8, forgotten=True) == []
    assert in_conversations(tiny_llava, OTHERS, ASKED, 0, 8, forgotten=False) == []


def test_a_leak_in_a_conversation_fails_the_verification() -> None:
    def pair(before: str, after: str) -> AnswerPair:
        sample = Sample("Where were they born?", subject="p", attribute="birthplace")
        return AnswerPair(sample, before, after, before != after)

    born = "They were born in Solvik."
    empty = {name: [] for name in ("rest", "neighbours", "general", "perception")}
    groups = {"forget": [pair(born, UNKNOWN)], "retain": [pair("Oslo.", "Oslo.")], **empty}
    for told, talk, failed in (
        ([pair(born, UNKNOWN)], [pair("Oslo.", "Oslo.")], set()),
        ([pair(born, UNKNOWN), pair(born, born)], [pair("Oslo.", "Oslo.")], {"conversation_answers"}),
        ([pair(born, UNKNOWN)], [pair("Oslo.", UNKNOWN)], {"conversation_unchanged"}),
        ([], [], set()),
    ):
        checks = all_checks({**groups, "told": told, "talk": talk}, decides=True, identical=True, bounds=Thresholds())
        assert {check.name for check in checks if not check.passed} == failed
        assert ("conversation_answers" in {check.name for check in checks}) == bool(told)
