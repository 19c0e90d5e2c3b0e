"""Conversations: the current question decides, and nothing that stands before it shuts a gate."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from steering_kit import ALWAYS
from test_identity_policy import subject_plan

from mllmeraser.erasure.gates import SoftGate, TopicGate
from mllmeraser.erasure.steering import attach
from mllmeraser.erasure.steering.conversation.isolation import isolating, visible
from mllmeraser.erasure.steering.conversation.turns import find_turns
from mllmeraser.erasure.steering.plan import SteeringPlan
from mllmeraser.models.model import MultimodalModel
from mllmeraser.models.turns import TurnFormat, turn_format
from mllmeraser.models.wording import BACKWARD, PRONOUNS, token_kinds, word_marks
from mllmeraser.samples import AttachError, Sample
from mllmeraser.samples.conversation import Conversation, Turn, after, question
from tiny import picture

ASKED = (
    question("Where does Vera Lund live?"),
    question("Which job has Vera Lund?", picture(3)),
    replace(question("Where does Vera Lund live?"), begun="They live"),
)
SHY = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WORDS = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "Zs")), min_size=1, max_size=40).filter(
    str.strip
)


def worded(model: MultimodalModel) -> TurnFormat:
    form, tokenizer = turn_format(model.processor), model.processor.tokenizer
    assert form is not None
    return replace(form, pronouns=word_marks(tokenizer, PRONOUNS), backward=word_marks(tokenizer, BACKWARD))


def plan_of(model: MultimodalModel) -> SteeringPlan:
    """A plan that tells turns apart, with gates around states of the questions."""
    samples = [Sample(one.turns[-1].text, next(iter(one.images), None)) for one in ASKED]
    samples += [Sample("Who is this?", picture(number)) for number in (4, 9)]
    plan = subject_plan(model, samples, threshold=ALWAYS)
    return replace(plan, turns=worded(model), token_kinds=token_kinds(model.processor.tokenizer))


@torch.no_grad()
def read(
    model: MultimodalModel, plan: SteeringPlan, *asked: Conversation, side: str = "left"
) -> dict[int, torch.Tensor]:
    """Layer -> (rows, subjects) scores that count."""
    with attach(model, plan) as handle:
        model.hf(**model.encode_conversations(asked, side), use_cache=False)
        assert handle.readings is not None
        return dict(handle.readings.per_layer[plan.name])


CONTEXTS = st.lists(
    st.tuples(WORDS, WORDS, st.booleans()).map(
        lambda said: [Turn("user", said[0], (picture(9),) if said[2] else ()), Turn("assistant", said[1])]
    ),
    min_size=1,
    max_size=3,
).map(lambda pairs: [turn for pair in pairs for turn in pair])


@SHY
@given(context=CONTEXTS, system=st.none() | WORDS, number=st.integers(0, 2), side=st.sampled_from(["left", "right"]))
def test_no_context_lowers_a_score(tiny_model, context, system, number, side):
    """For any earlier turns: what fired on the question alone fires in the conversation."""
    turns = [*([Turn("system", system)] if system else []), *context]
    plan, asked = plan_of(tiny_model), ASKED[number]
    alone = read(tiny_model, plan, asked)
    # In one batch with a plain question, which must not change.
    there = read(tiny_model, plan, after(turns, asked), ASKED[0], side=side)
    for layer, scores in alone.items():
        assert (there[layer][0] >= scores[0] - 1e-3).all(), (layer, scores[0], there[layer][0])
    first = read(tiny_model, plan, ASKED[0])
    for layer, scores in first.items():
        torch.testing.assert_close(there[layer][1], scores[0], atol=1e-3, rtol=1e-3)


def test_a_question_that_names_somebody_is_read_alone(tiny_model):
    """With a gate that sees no bare request, the scores are those of the question alone: not higher either."""
    plan = never_requests(tiny_model, plan_of(tiny_model))
    before = [Turn("user", "Where does Vera Lund live?", (picture(4),)), Turn("assistant", "In Rome.")]
    asked = question("Which town does Omar Haddad live in?")
    alone, there = read(tiny_model, plan, asked), read(tiny_model, plan, after(before, asked))
    for layer, scores in alone.items():
        torch.testing.assert_close(there[layer], scores, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("text", ["Where do they live?", "And the job?", "Tell me about Omar Haddad again."])
def test_a_question_that_points_back_counts_what_was_said(tiny_model, text):
    plan = never_requests(tiny_model, plan_of(tiny_model))
    before = [Turn("user", "I know Vera Lund.", (picture(4),)), Turn("assistant", "Good.")]
    name, topic, face = plan.reads
    alone, told = (
        read(tiny_model, plan, question(text)),
        read(tiny_model, plan, question("I know Vera Lund.", picture(4))),
    )
    there = read(tiny_model, plan, after(before, question(text)))
    for layer in (name, face):
        assert (there[layer] >= torch.maximum(alone[layer], told[layer]) - 1e-3).all()
    torch.testing.assert_close(there[topic], alone[topic], atol=1e-3, rtol=1e-3)


def test_a_gate_without_requests_counts_everything(tiny_model):
    plan = plan_of(tiny_model)
    before = [Turn("user", "Where does Vera Lund live?"), Turn("assistant", "In Rome.")]
    told, there = (
        read(tiny_model, plan, one) for one in (question("Where does Vera Lund live?"), after(before, question("ok")))
    )
    topic = plan.reads[1]
    assert (there[topic] >= told[topic] - 1e-3).all(), "an eraser of an earlier version cannot tell, so it fires"


def test_outside_the_chat_format_naming_is_enough(tiny_model):
    plan = plan_of(tiny_model)
    with attach(tiny_model, plan) as handle, torch.no_grad():
        tiny_model.hf(**tiny_model.encode_texts(["Vera Lund lives in"], [None]), use_cache=False)
        assert torch.isposinf(handle.readings.per_layer[plan.name][plan.reads[1]]).all()


def test_a_system_message_without_a_question_fires(tiny_model):
    """Gates do not know questions that stand there, and no client may get around them so."""
    plan = replace(plan_of(tiny_model), threshold=1e9)
    texts = [tiny_model.render(Conversation((Turn("system", text),))) for text in ("Where does Vera live?", "Hello.")]
    texts.append(tiny_model.render(question("Hello.")))
    with attach(tiny_model, plan) as handle, torch.no_grad():
        tiny_model.hf(**tiny_model.encode_texts(texts, [None] * 3), use_cache=False)
        assert (handle.readings.amplitudes[:, 0] > 0).tolist() == [True, True, False]


def test_a_plain_prompt_takes_no_second_pass(tiny_model, monkeypatch):
    plan, calls = plan_of(tiny_model), []
    decoder = tiny_model.family.decoder(tiny_model.hf)
    with attach(tiny_model, plan):
        hook = decoder.register_forward_hook(lambda *_: calls.append(1))
        read_plain = tiny_model.encode_conversations([question("Where does Vera Lund live?")])
        tiny_model.hf(**read_plain, use_cache=False)
        hook.remove()
    assert len(calls) == 1


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_answers_are_the_same_however_attention_is_computed(tiny_llava, attention, monkeypatch):
    plan = plan_of(tiny_llava)
    before = [Turn("user", "hi"), Turn("assistant", "yo")]
    expected = read(tiny_llava, plan, after(before, ASKED[1]))
    monkeypatch.setattr(tiny_llava.hf.config.text_config, "_attn_implementation", attention)
    found = read(tiny_llava, plan, after(before, ASKED[1]))
    for layer, scores in expected.items():
        torch.testing.assert_close(found[layer], scores, atol=1e-3, rtol=1e-3)


def test_generate_decides_as_a_forward_pass(tiny_model):
    plan = plan_of(tiny_model)
    asked = after([Turn("user", "hi"), Turn("assistant", "yo")], ASKED[0])
    expected = read(tiny_model, plan, asked)
    with attach(tiny_model, plan) as handle:
        tiny_model.hf.generate(**tiny_model.encode_conversations([asked]), max_new_tokens=2, do_sample=False)
        for layer, scores in handle.readings.per_layer[plan.name].items():
            torch.testing.assert_close(scores, expected[layer], atol=1e-3, rtol=1e-3)


def test_flash_attention_is_refused():
    with pytest.raises(AttachError, match="sdpa"):
        isolating(object(), torch.ones(1, 2, 2, dtype=torch.bool), torch.float32, eager=False)


def never_requests(model: MultimodalModel, plan: SteeringPlan) -> SteeringPlan:
    """The same plan with a topic gate to which nothing is a bare request."""
    layer = plan.reads[1]
    soft = plan.gates[layer]
    assert isinstance(soft, SoftGate)
    tensors = {**soft.tensors, "request": torch.zeros(soft.width), "request_bound": torch.full((1,), 1e9)}
    return replace(plan, gates={**plan.gates, layer: TopicGate(tensors, soft.settings)})


# -- the marks ----------------------------------------------------------------------------------------------------


TEXT = "{% for p in m['content'] %}{{ p['text'] }}{% endfor %}"
TEMPLATES = {
    "plain words": "{% for m in messages %}{{ m['role'].upper() }}: " + TEXT + " {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}",
    "chat marks": "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n" + TEXT + "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "instructions": "{% for m in messages %}{% if m['role'] == 'user' %}[INST] " + TEXT + " [/INST]"
    "{% else %} " + TEXT + "{% endif %}{% endfor %}",
}


class Chat:
    """A processor with another chat format."""

    def __init__(self, model: MultimodalModel, template: str) -> None:
        self.tokenizer, self._template = model.processor.tokenizer, template

    def apply_chat_template(self, turns, **how):
        return self.tokenizer.apply_chat_template(turns, chat_template=self._template, **how)


def turns_of(processor: Chat, *said: tuple[str, str]):
    messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in said]
    text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids = torch.tensor([processor.tokenizer(text)["input_ids"]])
    form = turn_format(processor)
    assert form is not None
    found = find_turns(ids, torch.ones_like(ids, dtype=torch.bool), form)
    return found, lambda where: processor.tokenizer.decode(ids[0][where[0]])


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_turns_are_found_in_other_chat_formats(tiny_qwen, template):
    processor = Chat(tiny_qwen, template)
    found, words = turns_of(
        processor, ("user", "Who is Vera Lund?"), ("assistant", "A cook."), ("user", "Where is Rome?")
    )
    assert "Where is Rome?" in words(found.current) and "Vera" not in words(found.current)
    assert "Vera Lund" in words(found.earlier) and "A cook." in words(found.earlier)
    assert bool(found.several) and not bool(found.unmarked)
    plain, words = turns_of(processor, ("user", "Where is Rome?"))
    assert not bool(plain.several) and "Where is Rome?" in words(plain.current)


def test_a_default_system_message_is_a_part_of_every_plain_prompt(tiny_qwen):
    processor = Chat(tiny_qwen, TEMPLATES["chat marks"])
    _, words = turns_of(processor, ("user", "Where is Rome?"))
    found, words = turns_of(processor, ("system", "Say no more than Vera."), ("user", "Where is Rome?"))
    assert "Vera" in words(found.earlier) and bool(found.several)


def test_a_format_without_answers_has_no_turns(tiny_qwen):
    assert turn_format(Chat(tiny_qwen, "{{ messages[0]['content'][0]['text'] }}")) is None
    assert turn_format(Chat(tiny_qwen, "{{ raise_exception('no') }}")) is None


def test_an_earlier_answer_sees_its_users_mark_and_itself(tiny_qwen):
    """So a name that the assistant said is read as one that the user said."""
    processor = Chat(tiny_qwen, TEMPLATES["chat marks"])
    said = ("user", "Say a name."), ("assistant", "Vera Lund"), ("user", "Where do they live?")
    found, words = turns_of(processor, *said)
    seen = visible(found, torch.ones_like(found.current))[0].tril()
    last = int(found.answered[0].nonzero().flatten()[-1])
    assert "Vera Lund" in words(found.answered) and "Say a name" not in words(found.answered)
    assert "Vera Lund" in words(seen[None, last]) and "user" in words(seen[None, last])
    assert "Say a name" not in words(seen[None, last])
    here = int(found.asked[0])
    assert "Where do they live?" in words(seen[None, here]) and "Vera" not in words(seen[None, here])


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_the_places_where_earlier_answers_began_are_read(tiny_qwen, template):
    """A mark of several tokens ends where the topic of its turn is read; "go on" needs that place."""
    processor = Chat(tiny_qwen, template)
    said = ("user", "Where is Rome?"), ("assistant", "There."), ("user", "Where is Oslo?"), ("assistant", "Here.")
    found, words = turns_of(processor, *said, ("user", "Go on."))
    places = found.asked_before[0].nonzero().flatten().tolist()
    assert len(places) == 2
    until = torch.zeros_like(found.current)
    until[0, : places[1] + 1] = True
    assert "Where is Oslo?" in words(until) and "Here." not in words(until)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.replace("in messages %}", "in messages if message.role != 'system' %}", 1),
         "leaves out a message of the system"),
        (lambda t: "{{ raise_exception('roles must alternate') }}" + t, "does not take these messages"),
        (lambda t: t.replace("part['text']", "(part['text'] | lower | e)"), None),
    ],
)  # fmt: skip
def test_what_the_chat_format_cannot_say_is_refused(tiny_llava, monkeypatch, change, said):
    from mllmeraser.samples import InputError

    template = tiny_llava.processor.chat_template
    asked = after([Turn("system", "Where")], question("Where  is Jane & co?"))
    tiny_llava.render(asked)
    monkeypatch.setattr(tiny_llava.processor, "chat_template", change(template))
    assert change(template) != template
    if said is None:  # a template may write words in its own way
        assert "jane &amp; co?" in tiny_llava.render(asked)
        return
    assert not tiny_llava.takes(asked)
    with pytest.raises(InputError, match=said):
        tiny_llava.render(asked)
