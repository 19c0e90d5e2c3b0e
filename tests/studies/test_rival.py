"""The rival in conversations: it blocks names and pictures in any turn, and only facts about people behind the gate."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_identity_fit import identity_request, identity_settings

from mllmeraser.erasure import fit
from mllmeraser.evaluation.attacks.asked import Asked
from mllmeraser.methods.block_list import BlockList
from mllmeraser.samples import Sample
from mllmeraser.samples.conversation import Turn, after, question
from mllmeraser.studies.rival import NAMES, asks_for_a_fact, blocked, rival_answers
from tiny import picture


def asked(conversation):
    return Asked("k", True, Sample("Where?", answer="Rome.", keywords=("Rome",)), conversation)


@pytest.fixture(scope="module")
def request_(tiny_llava):
    request = identity_request()
    subject = replace(request.subjects[0], names=("Vera Lund",))
    return replace(request, subjects=(subject, *request.subjects[1:]))


def test_names_and_pictures_block_in_any_turn(tiny_llava, request_):
    product = BlockList().make(tiny_llava, request_, settings={"false_alarm_rate": 0.2})
    shown = next(s.image for s in request_.forget if s.image is not None)
    snow = question("What colour is snow?")
    found = blocked(
        tiny_llava, product,
        [asked(one) for one in (
            snow, question("Where does VERA LUND live?"), after([Turn("user", "I am Vera Lund."),
            Turn("assistant", "Hello.")], snow), question("Who is this?", shown),
            after([Turn("user", "Look.", (shown,)), Turn("assistant", "Yes.")], snow),
            question("Where does Vera live?"),
        )],
    )  # fmt: skip
    assert found == [False, True, True, True, True, False]


def test_the_gate_in_front_only_opens_what_was_blocked(tiny_llava, request_):
    eraser = fit(tiny_llava, identity_request(), identity_settings()).eraser
    some = [asked(question(text)) for text in ("Where does Vera Lund live?", "Vera Lund asks: what colour is snow?")]
    some.append(asked(question("Who is this?", picture(3))))
    topic = asks_for_a_fact(tiny_llava, eraser, some)
    assert len(topic) == 3
    found = rival_answers(tiny_llava, eraser, request_, some, ["bare"] * 3)
    assert tuple(found) == NAMES
    plain, behind = found.values()
    assert plain[:2] == ["I do not know this person."] * 2
    for one, other, open_ in zip(plain, behind, topic, strict=True):
        assert other == (one if open_ else "bare")
