"""Forward passes by hand: prompts in pieces, decoding loops, scored answers, and what is refused."""

import copy
from dataclasses import replace

import pytest
import torch
from steering_kit import (
    ALWAYS,
    alone,
    expected_scores,
    last_index,
    logits,
    make_plan,
    positions,
    text_samples,
)

from mllmeraser.erasure.policy import PAPER, PERSISTENT, PRESETS, TAIL
from mllmeraser.erasure.steering import attach
from mllmeraser.models.intervention import declare_prompt, declared_prompt
from mllmeraser.samples import AttachError, InputError

POLICIES = list(PRESETS.values())
by_name = pytest.mark.parametrize("policy", POLICIES, ids=list(PRESETS))


def close(left, right):
    torch.testing.assert_close(left, right, atol=3e-4, rtol=3e-4)


@torch.no_grad()
def feed(model, inputs, cuts, cache=None, start=0):
    """Logits (n, length, vocabulary) of a batch fed in pieces that end at `cuts`, pictures with the first."""
    rest = {key: value for key, value in inputs.items() if key.startswith(("pixel", "image"))}
    place = positions(model, inputs)
    parts = []
    for stop in cuts:
        out = model.hf(
            input_ids=inputs["input_ids"][:, start:stop],
            attention_mask=inputs["attention_mask"][:, :stop],
            past_key_values=cache,
            use_cache=True,
            **{key: value[..., start:stop] for key, value in place.items()},
            **rest,
        )
        parts.append(out.logits)
        cache, start, rest = out.past_key_values, stop, {}
    return torch.cat(parts, dim=1), cache


def ends(length, piece):
    return [*range(piece, length, piece), length]


@pytest.mark.parametrize("piece", [1, 5, 1000])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_declared_prompt_in_pieces(tiny_model, piece, side):
    samples = text_samples()
    inputs = tiny_model.encode(samples, side)
    length = inputs["input_ids"].shape[1]
    last = last_index(inputs["attention_mask"])
    plan = make_plan(tiny_model, samples=samples)
    with attach(tiny_model, plan) as handle:
        expected = alone(tiny_model, samples)
        with handle.prompt(length, inputs["attention_mask"]):
            out, _ = feed(tiny_model, inputs, ends(length, piece))
    close(out[torch.arange(len(samples)), last], expected)
    # Rows whose last token came in different pieces each keep their own reading.
    close(handle.readings.pooled[:, 0], expected_scores(tiny_model, plan, samples))


def test_pieces_after_the_picture(tiny_model, samples):
    sample = samples[0]
    inputs = tiny_model.encode([sample])
    length = inputs["input_ids"].shape[1]
    with attach(tiny_model, make_plan(tiny_model, threshold=ALWAYS)) as handle:
        expected = logits(tiny_model, [sample])
        with handle.prompt(length):
            out, _ = feed(tiny_model, inputs, [length - 4, length - 1, length])
    close(out[:, -1], expected)


def test_right_padded_pieces_need_the_whole_mask(tiny_model):
    samples = text_samples()
    inputs = tiny_model.encode(samples, "right")
    length = inputs["input_ids"].shape[1]
    with attach(tiny_model, make_plan(tiny_model)) as handle:
        with handle.prompt(length), pytest.raises(AttachError, match="declare the mask"):
            feed(tiny_model, inputs, [length - 1, length])
        with handle.prompt(length):
            feed(tiny_model, tiny_model.encode(samples, "left"), [length - 1, length])


def test_a_prefix_cached_elsewhere_has_to_be_declared(tiny_model):
    inputs = tiny_model.encode(text_samples()[:1])
    length = inputs["input_ids"].shape[1]
    _, cache = feed(tiny_model, inputs, [length - 3])
    again = copy.deepcopy(cache)
    with attach(tiny_model, make_plan(tiny_model, threshold=ALWAYS)) as handle:
        expected = logits(tiny_model, text_samples()[:1])
        with pytest.raises(AttachError, match="say where the prompt ends"):
            feed(tiny_model, inputs, [length], cache, length - 3)
        with handle.prompt(length):
            close(feed(tiny_model, inputs, [length], again, length - 3)[0][:, -1], expected)


def test_a_whole_prompt_cached_elsewhere_is_refused(tiny_model):
    inputs = tiny_model.encode(text_samples()[:1])
    length = inputs["input_ids"].shape[1]
    _, cache = feed(tiny_model, inputs, [length - 1])
    with attach(tiny_model, make_plan(tiny_model)) as handle:
        with handle.prompt(length - 2), pytest.raises(AttachError, match="not steered"):
            feed(tiny_model, inputs, [length], cache, length - 1)


@by_name
def test_decoding_by_hand_equals_generate(tiny_model, policy):
    samples = text_samples()
    inputs = tiny_model.encode(samples)
    with attach(tiny_model, make_plan(tiny_model, policy, samples=samples)), torch.no_grad():
        said = tiny_model.hf.generate(**inputs, max_new_tokens=5, min_new_tokens=5, do_sample=False)[:, -5:]
        grown = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        length, tokens, cache = grown["input_ids"].shape[1], [], None
        for step in range(5):
            out, cache = feed(tiny_model, grown, [length + step], cache, length + step - 1 if step else 0)
            scores = out[:, -1]
            scores[:, tiny_model.hf.generation_config.eos_token_id] = -torch.inf
            tokens.append(scores.argmax(-1, keepdim=True))
            grown["input_ids"] = torch.cat([grown["input_ids"], tokens[-1]], dim=1)
            grown["attention_mask"] = torch.cat([grown["attention_mask"], torch.ones_like(tokens[-1])], dim=1)
    assert torch.equal(torch.cat(tokens, dim=1), said)


@by_name
def test_an_answer_to_be_scored_is_not_part_of_the_prompt(tiny_model, policy):
    """Prompt and answer in one pass, ends declared per row, equal prompt first and answer token by token.

    But for a prompt that is hidden: what goes through with it still sees it.
    """
    policy = replace(policy, masks_prompt=False)
    samples = text_samples()
    answer = torch.tensor([[50, 60, 70]])
    with attach(tiny_model, make_plan(tiny_model, policy, samples=samples)) as handle, torch.no_grad():
        expected, rows = [], []
        for sample in samples:
            inputs = tiny_model.encode([sample])
            row = torch.cat([inputs["input_ids"], answer], dim=1)
            full = {"input_ids": row, "attention_mask": torch.ones_like(row)}
            prompt = inputs["input_ids"].shape[1]
            expected.append(feed(tiny_model, full, [prompt, prompt + 1, prompt + 2, prompt + 3])[0][:, prompt - 1 :])
            rows.append(row[0])
        length = max(len(row) for row in rows)
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)], mask[number, : len(row)] = row, 1
        stops = [len(row) - 3 for row in rows]
        with handle.prompt(stops):
            out = tiny_model.hf(input_ids=ids, attention_mask=mask).logits
    for number, stop in enumerate(stops):
        close(out[number, stop - 1 : stop + 3], expected[number][0])


@by_name
def test_answer_logprobs_are_those_of_the_steered_model(tiny_model, samples, policy):
    with attach(tiny_model, make_plan(tiny_model, policy)):
        sums, counts = tiny_model.answer_logprobs(samples, ["A", "B", "C", "D", "A", "B", "C"])
        first = tiny_model.next_token_logits(samples).log_softmax(-1)
    assert counts.tolist() == [1] * len(samples)
    letters = [tiny_model.processor.tokenizer(text)["input_ids"] for text in "ABCDABC"]
    close(sums, first[torch.arange(len(samples)), torch.tensor(letters)[:, 0]])


# -- failing closed ------------------------------------------------------------------------------------


def test_a_second_turn_has_to_say_where_it_ends(tiny_model):
    inputs = tiny_model.encode(text_samples()[:1])
    length = inputs["input_ids"].shape[1]
    longer = {k: torch.cat([v, v], dim=1) for k, v in inputs.items()}
    with attach(tiny_model, make_plan(tiny_model, threshold=ALWAYS)) as handle:
        _, cache = feed(tiny_model, inputs, [length])
        again = copy.deepcopy(cache)
        with pytest.raises(AttachError, match="a new turn"):
            feed(tiny_model, longer, [2 * length], cache, length)
        with handle.prompt(2 * length):
            feed(tiny_model, longer, [2 * length], again, length)


def test_a_copied_cache_is_a_foreign_one(tiny_model):
    inputs = tiny_model.encode(text_samples()[:1])
    length = inputs["input_ids"].shape[1]
    longer = {k: torch.cat([v, v[:, :1]], dim=1) for k, v in inputs.items()}
    with attach(tiny_model, make_plan(tiny_model)):
        _, cache = feed(tiny_model, inputs, [length])
        copied = copy.deepcopy(cache)
        with pytest.raises(AttachError, match="not\\s+steered"):
            feed(tiny_model, longer, [length + 1], copied, length)
        feed(tiny_model, longer, [length + 1], cache, length)


def test_a_cache_filled_on_without_us_is_a_foreign_one(tiny_model):
    inputs = tiny_model.encode(text_samples()[:1])
    length = inputs["input_ids"].shape[1]
    longer = {k: torch.cat([v, v[:, :2]], dim=1) for k, v in inputs.items()}
    with attach(tiny_model, make_plan(tiny_model)):
        _, cache = feed(tiny_model, inputs, [length])
        for layer in range(tiny_model.num_layers):
            cache.update(*(torch.zeros(1, 2, 1, 16) for _ in range(2)), layer)
        with pytest.raises(AttachError, match="not\\s+steered"):
            feed(tiny_model, longer, [length + 2], cache, length + 1)


def test_an_earlier_attachment_does_not_vouch_for_a_cache(tiny_llava):
    inputs = tiny_llava.encode(text_samples()[:1])
    length = inputs["input_ids"].shape[1]
    plan = make_plan(tiny_llava)
    with attach(tiny_llava, plan):
        _, cache = feed(tiny_llava, inputs, [length])
    longer = {k: torch.cat([v, v[:, :1]], dim=1) for k, v in inputs.items()}
    with attach(tiny_llava, plan), pytest.raises(AttachError, match="not\\s+steered"):
        feed(tiny_llava, longer, [length + 1], cache, length)


def test_paper_refuses_pieces(tiny_model):
    inputs = tiny_model.encode(text_samples()[:1])
    length = inputs["input_ids"].shape[1]
    with attach(tiny_model, make_plan(tiny_model, PAPER)) as handle:
        with handle.prompt(length), pytest.raises(AttachError, match="whole"):
            feed(tiny_model, inputs, [2, length])
        with handle.prompt(length):
            feed(tiny_model, inputs, [length])


def test_inputs_that_cannot_be_read_are_refused(tiny_llava):
    ids = torch.tensor([[40, 41, 42, 43]])
    square = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
    with attach(tiny_llava, make_plan(tiny_llava)):
        for refused, message in (
            ({"position_ids": torch.tensor([[0, 1, 0, 1]])}, "packed"),
            ({"cu_seq_lens_q": torch.tensor([0, 2, 4])}, "packed"),
            ({"attention_mask": square}, "two-dimensional"),
            ({"attention_mask": torch.ones(1, 2)}, "does not cover"),
            ({"past_key_values": ((ids, ids),)}, "cannot tell its length"),
        ):
            with pytest.raises(AttachError, match=message):
                tiny_llava.hf(input_ids=ids, **refused)
        with pytest.raises(AttachError, match="input_ids"):
            tiny_llava.hf()
        tiny_llava.hf(ids)


def test_a_declaration_inside_generate_is_refused(tiny_llava):
    inputs = tiny_llava.encode(text_samples()[:1])
    with attach(tiny_llava, make_plan(tiny_llava)) as handle:
        with handle.prompt(3), pytest.raises(AttachError, match="knows its own prompt"):
            tiny_llava.hf.generate(**inputs, max_new_tokens=1)
        tiny_llava.hf.generate(**inputs, max_new_tokens=1)


def test_declarations_are_checked_and_nest():
    for length in (0, -1, 1.5, []):
        with pytest.raises(InputError, match="columns"), declare_prompt(length):
            pass
    with pytest.raises(InputError, match="mask"), declare_prompt(5, torch.ones(1, 4)):
        pass
    with declare_prompt(5) as outer:
        with declare_prompt(torch.tensor([3, 4])) as inner:
            assert declared_prompt() is inner and inner.ends_of(2) == (3, 4)
            with pytest.raises(InputError, match="2 rows, the batch has 3"):
                inner.ends_of(3)
        assert declared_prompt() is outer and outer.ends_of(3) == (5, 5, 5)
    assert declared_prompt() is None


def test_persistent_and_tail_agree_on_the_prompt(tiny_model, samples):
    with attach(tiny_model, make_plan(tiny_model, TAIL)):
        tail = logits(tiny_model, samples)
    with attach(tiny_model, make_plan(tiny_model, PERSISTENT)):
        assert torch.equal(logits(tiny_model, samples), tail)
