"""What fired is out of the answer's sight: not one bit of an answer depends on it any more."""

from dataclasses import replace

import pytest
import torch
from steering_kit import ALWAYS, NEVER, make_plan, text_samples

from mllmeraser.erasure.policy import SUBJECT, TAIL, Policy
from mllmeraser.erasure.steering import attach, attach_all
from mllmeraser.erasure.steering.prompt_masking import mask_columns
from mllmeraser.samples import AttachError, InputError

TOKENS = 4
SEEN = replace(SUBJECT, masks_prompt=False)


@torch.no_grad()
def decoded(model, samples, side="left", spoil=None):
    """(tokens, n, vocabulary) logits of tokens decoded one by one; `spoil` may change the cache of the prompt."""
    inputs = model.encode(samples, side)
    mask = inputs["attention_mask"]
    out = model.hf(**inputs, use_cache=True)
    last = (mask * torch.arange(mask.shape[1])).argmax(1)
    logits = [out.logits[torch.arange(len(samples)), last]]
    cache = out.past_key_values
    if spoil is not None:
        for layer in cache.layers:
            for kept in (layer.keys, layer.values):
                kept.copy_(torch.where(spoil[:, None, :, None], torch.randn_like(kept), kept))
    for _ in range(TOKENS):
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
        token = logits[-1].argmax(1)[:, None]
        where = next_position(model, inputs, mask)
        out = model.hf(input_ids=token, attention_mask=mask, past_key_values=cache, use_cache=True, **where)
        logits.append(out.logits[:, -1])
    return torch.stack(logits)


def next_position(model, inputs, mask):
    """`position_ids` of a token that follows, for models that only `generate` tells."""
    if model.family.name != "qwen2.5-vl":
        return {}
    deltas = model.hf.model.rope_deltas if "image_grid_thw" in inputs else 0
    return {"position_ids": (mask.sum(1, keepdim=True) - 1 + deltas).expand(3, -1, -1)}


def middle(model, samples, side="left"):
    """(n, columns) the real prompt tokens but for the first and the last."""
    mask = model.encode(samples, side)["attention_mask"].bool()
    order = mask.long().cumsum(1)
    return mask & (order > 1) & (order < order.amax(1, keepdim=True))


@pytest.mark.parametrize("side", ["left", "right"])
def test_no_bit_of_an_answer_depends_on_what_is_hidden(tiny_model, samples, side):
    with attach(tiny_model, make_plan(tiny_model, SUBJECT)) as handle:
        clean = decoded(tiny_model, samples, side)
        fired = handle.readings.amplitudes[:, 0] > 0
        spoiled = decoded(tiny_model, samples, side, spoil=middle(tiny_model, samples, side))
    assert 0 < int(fired.sum()) < len(samples)
    assert torch.equal(clean[:, fired], spoiled[:, fired])
    assert ((clean[1:, ~fired] - spoiled[1:, ~fired]).abs().amax((0, 2)) > 1e-3).all()


def test_the_first_and_the_last_token_stay_in_sight(tiny_model):
    samples = text_samples()
    mask = tiny_model.encode(samples)["attention_mask"].bool()
    order = mask.long().cumsum(1)
    for one in (mask & (order == 1), mask & (order == order.amax(1, keepdim=True))):
        with attach(tiny_model, make_plan(tiny_model, SUBJECT, threshold=ALWAYS)):
            clean, spoiled = decoded(tiny_model, samples), decoded(tiny_model, samples, spoil=one)
        assert ((clean[1:] - spoiled[1:]).abs().amax((0, 2)) > 1e-3).all()


def test_the_first_token_said_and_rows_that_do_not_fire_are_as_mask_columns(tiny_model, samples):
    with attach(tiny_model, make_plan(tiny_model, SUBJECT)) as handle:
        hidden = decoded(tiny_model, samples)
        fired = handle.readings.amplitudes[:, 0] > 0
    with attach(tiny_model, make_plan(tiny_model, SEEN)):
        seen = decoded(tiny_model, samples)
    assert torch.equal(hidden[0], seen[0])
    torch.testing.assert_close(hidden[:, ~fired], seen[:, ~fired], atol=1e-5, rtol=1e-4)
    assert ((hidden[1:, fired] - seen[1:, fired]).abs().amax((0, 2)) > 1e-3).all()
    with attach(tiny_model, make_plan(tiny_model, SUBJECT, threshold=NEVER)):
        never = decoded(tiny_model, samples)
    assert torch.equal(never, decoded(tiny_model, samples))


def test_one_eraser_of_many_that_hides_is_enough(tiny_model):
    samples = text_samples()
    plans = [
        make_plan(tiny_model, TAIL, name="tail", threshold=ALWAYS),
        make_plan(tiny_model, SUBJECT, name="quiet", seed=1, threshold=NEVER),
        make_plan(tiny_model, SUBJECT, name="hides", seed=2, threshold=ALWAYS),
    ]
    for row, expected in ((["tail", "quiet"], False), (["hides"], True)):
        with attach_all(tiny_model, plans) as handle:
            handle.select([row] * len(samples))
            clean = decoded(tiny_model, samples)
            spoiled = decoded(tiny_model, samples, spoil=middle(tiny_model, samples))
        assert torch.equal(clean, spoiled) is expected


@pytest.mark.parametrize("options", [{"num_beams": 2}, {"cache_implementation": "static"}], ids=["beams", "static"])
def test_generate_with_beams_and_with_a_prepared_mask(tiny_model, options):
    samples = text_samples()
    limits = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "do_sample": False}
    with attach(tiny_model, make_plan(tiny_model, SUBJECT, threshold=ALWAYS)):
        together = tiny_model.hf.generate(**tiny_model.encode(samples), **limits, **options)[:, -TOKENS:]
        if "num_beams" not in options:
            assert torch.equal(together, tiny_model.hf.generate(**tiny_model.encode(samples), **limits)[:, -TOKENS:])
        for row, sample in enumerate(samples):
            alone = tiny_model.hf.generate(**tiny_model.encode([sample]), **limits, **options)[:, -TOKENS:]
            assert torch.equal(together[row], alone[0])


def test_what_could_not_be_hidden_is_refused(tiny_model):
    inputs = tiny_model.encode(text_samples())
    with attach(tiny_model, make_plan(tiny_model, SUBJECT, threshold=ALWAYS)):
        with pytest.raises(AttachError, match="leave use_cache on"):
            tiny_model.hf.generate(**inputs, max_new_tokens=2, use_cache=False)


def test_a_decoder_that_slips_past_is_noticed(tiny_model, samples):
    inputs = tiny_model.encode(samples[:2])
    decoder = tiny_model.family.decoder(tiny_model.hf)
    with attach(tiny_model, make_plan(tiny_model, SUBJECT, threshold=ALWAYS)):
        kept = dict(decoder._forward_pre_hooks)
        decoder._forward_pre_hooks.clear()
        try:
            with pytest.raises(AttachError, match="not masked"):
                tiny_model.hf(**inputs)
        finally:
            decoder._forward_pre_hooks.update(kept)


def test_masks_keep_their_form():
    hidden = torch.tensor([[False, True, False], [False, False, False]])
    open_ = torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1]])
    assert torch.equal(mask_columns(None, hidden, 4), open_)
    assert torch.equal(mask_columns(torch.ones(2, 4, dtype=torch.long), hidden, 4), open_)
    prepared = torch.ones(2, 1, 1, 6, dtype=torch.bool)
    expected = torch.nn.functional.pad(open_.bool(), (0, 2), value=True)[:, None, None]
    assert torch.equal(mask_columns(prepared, hidden, 4), expected)
    added = mask_columns(torch.zeros(2, 1, 1, 6), hidden, 4)
    assert torch.equal(added < -1e30, ~expected)
    assert torch.equal(mask_columns({"full_attention": prepared}, hidden, 4)["full_attention"], expected)
    assert mask_columns(prepared, hidden[:, :0], 4) is prepared, "nothing to hide"
    for bad in (torch.ones(2, 4, 4), "flex"):
        with pytest.raises(AttachError, match="cannot be masked"):
            mask_columns(bad, hidden, 4)
    with pytest.raises(AttachError, match="3 columns, the cache 4"):
        mask_columns(torch.ones(2, 3), hidden, 4)


def test_hiding_needs_a_decision_over_the_whole_prompt():
    with pytest.raises(InputError, match="whole prompt"):
        Policy("mine", "request", "last", False, "threshold", masks_prompt=True)
