"""The action `reply`: rows that fired give the sentence, whatever is begun, sampled, banned or scored."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from steering_kit import ALWAYS, NEVER, make_plan, replying, sentence, text_samples
from worlds import small_request

from mllmeraser.erasure import Eraser, FitSettings, fit
from mllmeraser.erasure.calibration.reply import in_tokens, own_sentence
from mllmeraser.erasure.policy import PAPER, PERSISTENT, SUBJECT, TAIL
from mllmeraser.erasure.steering import attach, attach_all
from mllmeraser.erasure.steering.reply import REST
from mllmeraser.models.intervention import declare_prompt
from mllmeraser.samples import ArtifactError, AttachError, InputError, Sample
from mllmeraser.samples.conversation import question

BOTH, REPLY = replace(SUBJECT, action="both"), replace(SUBJECT, action="reply")
TAIL_REPLY = replace(TAIL, action="reply")
PLAIN = {"do_sample": False, "max_new_tokens": 9}


@torch.no_grad()
def said(model, inputs, **options):
    """Token ids of the answers; padding after the end."""
    settings = {"eos_token_id": model.processor.tokenizer.eos_token_id, **PLAIN, **options}
    output = model.hf.generate(**inputs, pad_token_id=model.processor.tokenizer.pad_token_id, **settings)
    return output[:, inputs["input_ids"].shape[1] :]


def starts(ids, tokens):
    """Which answers begin with `tokens`, as far as they go."""
    n = min(ids.shape[1], len(tokens))
    return (ids[:, :n] == torch.tensor(tokens[:n])).all(1)


@pytest.mark.parametrize("policy", [BOTH, REPLY, TAIL_REPLY])
def test_rows_that_fire_reply_and_others_answer_as_before(tiny_model, samples, policy):
    inputs = tiny_model.encode(samples)
    bare = said(tiny_model, inputs)
    plan = replying(tiny_model, policy)
    with attach(tiny_model, plan) as handle:
        answers = said(tiny_model, inputs)
        fired = handle.readings.amplitudes[:, 0] > 0
    assert 0 < int(fired.sum()) < len(samples)
    assert torch.equal(starts(answers, plan.reply), fired)
    pad = tiny_model.processor.tokenizer.pad_token_id
    ends = {pad, plan.reply[-1]}
    assert set(answers[fired][:, len(plan.reply) - 1 :].flatten().tolist()) <= ends, "nothing follows the sentence"
    width = min(bare.shape[1], answers.shape[1])
    assert torch.equal(bare[~fired][:, :width], answers[~fired][:, :width])


def test_reply_alone_leaves_every_state_and_every_mask_alone(tiny_model, samples):
    inputs = tiny_model.encode(samples)
    bare = tiny_model.hf(**inputs, output_hidden_states=True)
    with attach(tiny_model, replying(tiny_model, REPLY, threshold=ALWAYS)) as handle:
        mine = tiny_model.hf(**inputs, output_hidden_states=True)
        assert (handle.readings.amplitudes > 0).all()
        said(tiny_model, inputs, use_cache=False)
    assert all(torch.equal(a, b) for a, b in zip(bare.hidden_states, mine.hidden_states, strict=True))
    assert not torch.equal(bare.logits, mine.logits)


BANS = [
    {"do_sample": True, "temperature": 5.0, "top_k": 0},
    {"num_beams": 3},
    {"num_beams": 2, "do_sample": True},
    {"num_return_sequences": 3, "do_sample": True},
    {"min_new_tokens": 8},
    {"repetition_penalty": 3.0, "no_repeat_ngram_size": 1},
    {"use_cache": False},
    {"top_p": 0.1, "do_sample": True, "renormalize_logits": True},
    {"suppress": True},
]


@pytest.mark.parametrize("options", BANS, ids=lambda o: ",".join(o))
@pytest.mark.parametrize("policy", [BOTH, REPLY])
def test_whatever_is_sampled_searched_or_banned(tiny_llava, options, policy):
    if options.get("use_cache") is False and policy is BOTH:
        policy = replace(BOTH, masks_prompt=False)  # masking needs the cache
    plan = replying(tiny_llava, policy, threshold=ALWAYS)
    if "suppress" in options:
        options = {"suppress_tokens": list(plan.reply), "bad_words_ids": [[plan.reply[0]]]}
    torch.manual_seed(0)
    with attach(tiny_llava, plan):
        answers = said(tiny_llava, tiny_llava.encode(text_samples()), **options)
    assert starts(answers, plan.reply).all()


@pytest.mark.parametrize("policy", [BOTH, REPLY])
@pytest.mark.parametrize("words", [1, 2, 3, 4, 5])
def test_a_begun_answer_does_not_bring_anything_back(tiny_model, policy, words):
    begun = " ".join(["They", "live", "in", "the", "city"][:words])
    asked = [replace(question("Where does Vera Lund live?"), begun=begun), question("Where does Vera Lund live?")]
    plan = replying(tiny_model, policy, threshold=ALWAYS)
    with attach(tiny_model, plan):
        answers = said(tiny_model, tiny_model.encode_conversations(asked))
    assert starts(answers, plan.reply).all()


def test_scores_tell_the_sentence_alone(tiny_model, samples):
    """Log-probabilities of any other answer are out of the question, on either side of padding."""
    plan = replying(tiny_model, BOTH, threshold=ALWAYS)
    other = ["They live in Rome."] * len(samples)
    with attach(tiny_model, plan):
        right, n = tiny_model.answer_logprobs(samples, ["I do not know."] * len(samples))
        wrong, _ = tiny_model.answer_logprobs(samples, other)
        first = tiny_model.next_token_logits(samples)
    assert (right > -1e-3).all() and (n == len(plan.reply) - 1).all()
    assert (wrong < REST / 2).all() and torch.isfinite(wrong).all()
    assert (first.argmax(1) == plan.reply[0]).all() and torch.isfinite(first.log_softmax(-1)).all()


def test_a_manual_loop_follows_the_sentence(tiny_llava):
    plan = replying(tiny_llava, BOTH, threshold=ALWAYS)
    inputs = tiny_llava.encode(text_samples()[:2])
    with attach(tiny_llava, plan), torch.no_grad():
        out, spoken = tiny_llava.hf(**inputs, use_cache=True), []
        mask = inputs["attention_mask"]
        for _ in range(len(plan.reply) + 2):
            spoken.append(out.logits[:, -1].argmax(1))
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
            # Another token than the sentence's is fed back: it goes on all the same.
            token = torch.full((2, 1), 7)
            cache = out.past_key_values
            out = tiny_llava.hf(input_ids=token, attention_mask=mask, past_key_values=cache, use_cache=True)
        assert torch.stack(spoken, 1).tolist() == [[*plan.reply, plan.reply[-1], plan.reply[-1]]] * 2


def test_a_prompt_in_pieces_and_a_cached_prefix(tiny_llava):
    plan = replying(tiny_llava, TAIL_REPLY, threshold=ALWAYS)
    inputs = tiny_llava.encode(text_samples())
    with attach(tiny_llava, plan):
        answers = said(tiny_llava, inputs, prefill_chunk_size=3)
        short = tiny_llava.encode(text_samples()[:1])
        ids, mask = short["input_ids"], short["attention_mask"]
        with torch.no_grad(), declare_prompt(ids.shape[1]):
            out = tiny_llava.hf(input_ids=ids[:, :4], attention_mask=mask[:, :4], use_cache=True)
            out = tiny_llava.hf(input_ids=ids[:, 4:], attention_mask=mask, past_key_values=out.past_key_values)
    assert starts(answers, plan.reply).all()
    assert out.logits[0, -1].argmax() == plan.reply[0] and out.logits[0, 0].argmax() != plan.reply[0]


def test_each_row_has_its_own_eraser_and_sentence(tiny_model):
    samples = text_samples()[:1] * 4
    one = replying(tiny_model, BOTH, name="a", threshold=ALWAYS)
    other = replying(tiny_model, REPLY, "Please ask somebody else.", name="b", threshold=ALWAYS, seed=1)
    silent = make_plan(tiny_model, SUBJECT, name="c", threshold=NEVER)
    inputs = tiny_model.encode(samples)
    bare = said(tiny_model, inputs)
    with attach_all(tiny_model, [silent, one, other]) as handle:
        handle.select([{"a"}, {"b"}, {"c"}, {"c", "b", "a"}])
        answers = said(tiny_model, inputs)
    for row, plan in ((0, one), (1, other), (3, one)):
        assert starts(answers[row : row + 1], plan.reply).all()
    n = min(bare.shape[1], answers.shape[1])
    assert torch.equal(bare[2, :n], answers[2, :n])


def test_strength_zero_and_detaching_leave_the_model_alone(tiny_model, samples):
    inputs = tiny_model.encode(samples)
    bare, first = said(tiny_model, inputs), tiny_model.hf(**inputs).logits
    with attach(tiny_model, replying(tiny_model, BOTH, threshold=ALWAYS, strength=0.0)):
        assert torch.equal(said(tiny_model, inputs), bare)
    assert torch.equal(tiny_model.hf(**inputs).logits, first)


@pytest.mark.parametrize("keep", [1, 0, [-1], torch.tensor([-1]), "mask", slice(-2, None)], ids=str)
def test_whichever_logits_are_kept(tiny_llava, keep):
    inputs = tiny_llava.encode(text_samples()[:1])
    length = inputs["input_ids"].shape[1]
    if isinstance(keep, str):
        keep = torch.arange(length) == length - 1
    plan = replying(tiny_llava, BOTH, threshold=ALWAYS)
    with attach(tiny_llava, plan), torch.no_grad():
        found = tiny_llava.hf(**inputs, logits_to_keep=keep).logits
    assert found[0, -1].argmax() == plan.reply[0] and (found[0, -1] == REST).sum() == found.shape[-1] - 1


@pytest.mark.parametrize("policy", [BOTH, REPLY, TAIL_REPLY])
def test_prompts_that_are_padded_on_the_right(tiny_llava, policy):
    """`generate` reads the last column, padding or not; so does a piece of padding alone."""
    plan = replying(tiny_llava, policy, threshold=ALWAYS)
    inputs = tiny_llava.encode(text_samples(), "right")
    assert not inputs["attention_mask"].bool().all()
    with attach(tiny_llava, plan), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = said(tiny_llava, inputs)
        assert starts(answers, plan.reply).all()
        if policy is TAIL_REPLY:
            assert starts(said(tiny_llava, inputs, prefill_chunk_size=3), plan.reply).all()


@pytest.mark.parametrize("policy", [BOTH, REPLY])
def test_rows_that_move_in_the_cache_keep_what_they_are(tiny_llava, policy):
    plan = replying(tiny_llava, policy, threshold=ALWAYS)
    inputs = tiny_llava.encode(text_samples()[:2])
    moves = {"reorder_cache": (torch.tensor([1, 0]), [1, 0]), "batch_select_indices": (torch.tensor([1]), [1]),
             "batch_repeat_interleave": (2, [0, 0, 1, 1])}  # fmt: skip
    for name, (by, rows) in moves.items():
        with attach(tiny_llava, plan) as handle, torch.no_grad():
            handle.select([{plan.name}, set()])
            out = tiny_llava.hf(**inputs, use_cache=True)
            getattr(out.past_key_values, name)(by)
            mask = torch.nn.functional.pad(inputs["attention_mask"][rows], (0, 1), value=1)
            more = {"attention_mask": mask, "past_key_values": out.past_key_values, "use_cache": True}
            found = tiny_llava.hf(input_ids=torch.full((len(rows), 1), 7), **more).logits[:, -1]
        assert ((found == REST).any(1)).tolist() == [row == 0 for row in rows], name
        assert all(int(found[i].argmax()) == plan.reply[1] for i, row in enumerate(rows) if row == 0), name


def test_a_static_cache_and_several_beams(tiny_llava):
    plan, inputs = replying(tiny_llava, BOTH, threshold=ALWAYS), tiny_llava.encode(text_samples())
    with attach(tiny_llava, plan):
        assert starts(said(tiny_llava, inputs, cache_implementation="static"), plan.reply).all()
        best = said(tiny_llava, inputs, num_beams=3, num_return_sequences=3)[::3]
    assert starts(best, plan.reply).all()


def test_a_tuple_of_outputs_and_a_loss(tiny_llava):
    inputs = tiny_llava.encode(text_samples()[:1])
    plan = replying(tiny_llava, BOTH, threshold=ALWAYS)
    with attach(tiny_llava, plan), torch.no_grad():
        found = tiny_llava.hf(**inputs, return_dict=False)[0]
        assert found[0, -1].argmax() == plan.reply[0]
        with pytest.raises(AttachError, match="leave labels out"):
            tiny_llava.hf(**inputs, labels=inputs["input_ids"])
        assert tiny_llava.hf(**inputs).logits[0, -1].argmax() == plan.reply[0], "a refused pass leaves nothing behind"


def test_policies_and_plans_that_cannot_reply(tiny_llava):
    with pytest.raises(InputError, match="one decision per request"):
        replace(PAPER, action="reply")
    with pytest.raises(InputError, match="not at decoded tokens"):
        replace(PERSISTENT, action="reply")
    with pytest.raises(InputError, match="says no sentence"):
        FitSettings().with_action("shift", "Hi.")
    with pytest.raises(InputError, match="action is one of"):
        replace(SUBJECT, action="scream")
    with pytest.raises(InputError, match="there is none"):
        replace(make_plan(tiny_llava, SUBJECT, threshold=0.0), policy=REPLY)


SETTINGS = FitSettings(policy=TAIL, read_layers=(1,), shift_layers=(3,), false_alarm_rate=0.2, salt="s")


@pytest.mark.parametrize("text", [None, "I cannot help with that."])
def test_a_fit_stores_the_sentence_and_the_artifact_keeps_it(tiny_llava, tmp_path, text):
    made = fit(tiny_llava, small_request(), SETTINGS.with_action("both", text)).eraser
    reply = made.config.reply
    assert reply is not None and (text is None or reply.text == text)
    assert reply.tokens == sentence(tiny_llava, reply.text)
    again = Eraser.from_pretrained(made.save_pretrained(tmp_path / "e"))
    assert again.config.reply == reply and again.plan(tiny_llava).reply == reply.tokens
    shifting = made.with_action("shift")
    assert shifting.plan(tiny_llava).reply == () and shifting.with_action("reply").plan(tiny_llava).shifts == ()
    foreign = made.with_action("reply", reply.model_copy(update={"tokens": (10**6, 1)}))
    with pytest.raises(ArtifactError, match="outside the model's vocabulary"):
        foreign.plan(tiny_llava)


def test_a_fit_without_a_reply_stores_none_and_cannot_reply_later(tiny_llava):
    made = fit(tiny_llava, small_request(), SETTINGS).eraser
    assert made.config.reply is None and made.config.policy.action == "shift"
    with pytest.raises(InputError, match="no sentence to reply with"):
        made.with_action("reply")
    assert made.with_action("reply", in_tokens(tiny_llava, "No.")).plan(tiny_llava).reply == sentence(tiny_llava, "No.")


@pytest.mark.parametrize(("said_by_the_model", "expected"), [
    ("I have no idea.", "I have no idea."), ("This is Vera Lund.", "I do not know this person."),
    ("They were born in the town of", "I do not know this person."), ("", "I do not know this person."),
])  # fmt: skip
def test_the_models_own_sentence_names_nobody_and_is_whole(tiny_llava, monkeypatch, said_by_the_model, expected):
    monkeypatch.setattr(type(tiny_llava), "generate", lambda self, rows, **_: [said_by_the_model] * len(rows))
    strangers = [Sample(f"Who is number {i}?") for i in range(40)]
    assert own_sentence(tiny_llava, FitSettings(), strangers, ["Vera Lund"]) == expected


@pytest.mark.parametrize(("text", "said"), [("  ", "is empty"), ("Hi <image> there.", "control token")])
def test_sentences_that_cannot_be_said(tiny_llava, text, said):
    with pytest.raises(InputError, match=said):
        in_tokens(tiny_llava, text)
