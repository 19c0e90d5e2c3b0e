"""Decisions in conversations are measured by the fit and stated in the artifact."""

from __future__ import annotations

from dataclasses import replace

import pytest
from steering_kit import ALWAYS, NEVER
from test_identity_fit import identity_request, identity_settings

from mllmeraser.erasure import Eraser, fit
from mllmeraser.erasure.artifact.model_card import card_of
from mllmeraser.erasure.calibration.in_context import PROMPTS, rates_in_context
from mllmeraser.portraits.contexts import STANDING
from mllmeraser.samples import Sample
from tiny import mixed_samples


@pytest.fixture(scope="module")
def made(tiny_llava):
    return fit(tiny_llava, identity_request(), identity_settings())


def test_a_fit_states_every_kind_and_no_more_than_it_tried(made, tmp_path):
    found = made.eraser.config.calibration.contexts
    assert list(found) == list(STANDING)
    for rates in found.values():
        assert 0 <= rates.detected <= rates.forget == min(PROMPTS, len(made.parts.held_out)) > 0
        assert 0 <= rates.false_alarms <= rates.retain == min(PROMPTS, len(made.parts.check)) > 0
    again = Eraser.from_pretrained(made.eraser.save_pretrained(tmp_path / "e"))
    assert again.config.calibration.contexts == found
    assert "recognised in a conversation (greeting)" in card_of(again.config, "me/eraser")
    assert again.without(again.config.subjects[0]).config.calibration.contexts == {}


def test_detection_is_no_lower_than_without_a_context(tiny_llava, made):
    """No context lowers a score, so what fires alone fires there."""
    held_out, config = made.parts.held_out, made.eraser.config
    alone = rates_in_context(tiny_llava, made.eraser, config.threshold, held_out, ())
    from mllmeraser.erasure.calibration.score_prompts import read_gate

    fired = read_gate(tiny_llava, made.eraser, held_out).pooled > config.threshold
    assert 0 < len(held_out) <= PROMPTS, "or the rates are of others"
    assert all(rates.detected >= int(fired.sum()) for rates in alone.values())


def test_samples_and_their_bare_conversations_read_alike(tiny_llava, made):
    from mllmeraser.erasure.calibration.score_prompts import read_gate
    from mllmeraser.samples.conversation import question

    samples = mixed_samples()
    talks = [question(sample.prompt, sample.image) for sample in samples]
    one, other = read_gate(tiny_llava, made.eraser, samples), read_gate(tiny_llava, made.eraser, talks)
    finite = one.pooled.isfinite()
    assert (finite == other.pooled.isfinite()).all()
    assert (one.pooled[finite] - other.pooled[finite]).abs().max() < 1e-3


@pytest.mark.parametrize(("threshold", "share"), [(ALWAYS, 1.0), (NEVER, 0.0)])
def test_the_rates_count_decisions(tiny_llava, made, threshold, share):
    some = [Sample(f"Where does Vera Lund live, {i}?") for i in range(3)]
    found = rates_in_context(tiny_llava, made.eraser, threshold, some, some[:2])
    assert {(r.detected, r.false_alarms) for r in found.values()} == {(3 * share, 2 * share)}


def test_kinds_that_the_chat_format_lacks_are_left_out(tiny_llava, made, monkeypatch):
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    monkeypatch.setattr(tiny_llava.processor, "chat_template", template + tiny_llava.processor.chat_template)
    plan = replace(made.eraser.plan(tiny_llava.hf), name="x")
    found = rates_in_context(tiny_llava, plan, 0.0, [Sample("Who is Vera Lund?")], ())
    assert set(found) == {"greeting", "three turns"}


def test_policies_without_turns_state_none(tiny_llava):
    from test_reply import SETTINGS
    from worlds import small_request

    assert fit(tiny_llava, small_request(), SETTINGS).eraser.config.calibration.contexts == {}
