"""Steering inside `generate`: caches, pieces, beams, exceptions, and modes that are refused."""

import copy

import pytest
import torch
import transformers
from steering_kit import ALWAYS, count_hooks, logits, make_plan, text_samples
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList

from mllmeraser.erasure.policy import PAPER, PERSISTENT, PRESETS, TAIL
from mllmeraser.erasure.steering import attach, attach_all
from mllmeraser.erasure.steering import generate_hook as generation
from mllmeraser.samples import AttachError

POLICIES = list(PRESETS.values())
by_name = pytest.mark.parametrize("policy", POLICIES, ids=list(PRESETS))
TOKENS = 6
#: The bare model answers otherwise there: a prompt in pieces comes whole once more after its cached prefix.
REPEATS_PREFIX = tuple(int(part) for part in transformers.__version__.split(".")[:2]) < (5, 21)


def steps(model, inputs, **options):
    """(tokens, n, vocabulary) logits and (n, tokens) ids of greedy decoding that never stops early."""
    out = model.hf.generate(
        **inputs,
        max_new_tokens=TOKENS,
        min_new_tokens=TOKENS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )
    return torch.stack(out.logits), out.sequences[:, -TOKENS:]


def close(left, right):
    torch.testing.assert_close(left, right, atol=3e-4, rtol=3e-4)


@by_name
def test_zero_strength_and_detaching_leave_the_answers_alone(tiny_model, samples, policy):
    inputs = tiny_model.encode(samples)
    bare, _ = steps(tiny_model, inputs)
    with attach(tiny_model, make_plan(tiny_model, policy, strength=0.0, threshold=ALWAYS)):
        assert torch.equal(steps(tiny_model, inputs)[0], bare)
    with attach(tiny_model, make_plan(tiny_model, policy, threshold=ALWAYS)):
        assert not torch.equal(steps(tiny_model, inputs)[0], bare)
    assert torch.equal(steps(tiny_model, inputs)[0], bare)
    assert "generate" not in tiny_model.hf.__dict__


@by_name
def test_generate_steers_as_a_plain_forward_pass_does(tiny_model, samples, policy):
    with attach(tiny_model, make_plan(tiny_model, policy)):
        first = steps(tiny_model, tiny_model.encode(samples))[0][0]
        close(first, logits(tiny_model, samples))


@by_name
def test_a_batch_equals_one_by_one(tiny_model, samples, policy):
    with attach(tiny_model, make_plan(tiny_model, policy)):
        together, ids = steps(tiny_model, tiny_model.encode(samples))
        for row, sample in enumerate(samples):
            alone, said = steps(tiny_model, tiny_model.encode([sample]))
            close(together[:, row], alone[:, 0])
            assert torch.equal(ids[row], said[0])


@pytest.mark.parametrize("policy", [PAPER, TAIL, PERSISTENT], ids=lambda policy: policy.name)
def test_cached_decoding_equals_uncached(tiny_model, policy):
    samples = text_samples()
    with attach(tiny_model, make_plan(tiny_model, policy)):
        cached, _ = steps(tiny_model, tiny_model.encode(samples))
        uncached, _ = steps(tiny_model, tiny_model.encode(samples), use_cache=False)
    close(cached, uncached)


def test_persistent_also_steers_decoded_tokens(tiny_model, samples):
    """While decoding each token decides for itself; the first step is that of `tail`."""
    inputs = tiny_model.encode(samples)
    with attach(tiny_model, make_plan(tiny_model, TAIL, threshold=ALWAYS)):
        tail, _ = steps(tiny_model, inputs)
    with attach(tiny_model, make_plan(tiny_model, PERSISTENT, threshold=ALWAYS)):
        persistent, _ = steps(tiny_model, inputs)
    assert torch.equal(tail[0], persistent[0])
    assert ((tail[1] - persistent[1]).abs().amax(1) > 1e-2).all()


def test_persistent_decides_anew_at_each_token(tiny_model):
    """The decoded state that is shifted is the one whose own reading fires, and no other."""
    samples = text_samples()
    inputs = tiny_model.encode(samples)
    plan = make_plan(tiny_model, PERSISTENT, samples=samples)
    layer = plan.shift_layers[0]
    before, after, read = [], [], []
    keep = lambda store: lambda _m, _a, out: store.append(out.detach()[:, -1].clone())  # noqa: E731
    hooks = [tiny_model.layers[layer].register_forward_hook(keep(before))]
    hooks += [tiny_model.layers[at].register_forward_hook(keep(read)) for at in plan.read_layers]
    with attach(tiny_model, plan):
        hooks.append(tiny_model.layers[layer].register_forward_hook(keep(after)))
        steps(tiny_model, inputs)
    for hook in hooks:
        hook.remove()
    fired = []
    for step in range(TOKENS):
        scores = [plan.gates[at].scores(read[2 * step + at]) for at in plan.read_layers]
        fires = plan.policy.pool(scores) > plan.threshold
        fired.append(fires)
        shifted = before[step] + plan.directions[layer]
        assert torch.equal(after[step], torch.where(fires[:, None], shifted, before[step]))
    decoded = torch.stack(fired[1:])
    assert decoded.any() and not decoded.all()


# -- prompts in pieces and cached prefixes -------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 3, 7, 1000])
@pytest.mark.parametrize("policy", [TAIL, PERSISTENT], ids=["tail", "persistent"])
def test_chunked_prefill_changes_nothing(tiny_model, policy, chunk):
    samples = text_samples()
    inputs = tiny_model.encode(samples)
    with attach(tiny_model, make_plan(tiny_model, policy, samples=samples)) as handle:
        whole, _ = steps(tiny_model, inputs)
        readings = handle.readings
        pieces, _ = steps(tiny_model, inputs, prefill_chunk_size=chunk)
        close(whole, pieces)
        assert torch.equal(handle.readings.amplitudes, readings.amplitudes)
        close(handle.readings.pooled, readings.pooled)


def test_paper_turns_chunking_off(tiny_model, monkeypatch):
    inputs = tiny_model.encode(text_samples())
    with attach(tiny_model, make_plan(tiny_model, PAPER)):
        whole, _ = steps(tiny_model, inputs)
        assert torch.equal(steps(tiny_model, inputs, prefill_chunk_size=3)[0], whole)
        config = GenerationConfig(max_new_tokens=TOKENS, min_new_tokens=TOKENS, prefill_chunk_size=2)
        ids = tiny_model.hf.generate(**inputs, generation_config=config)
        assert ids.shape[1] == inputs["input_ids"].shape[1] + TOKENS
        assert config.prefill_chunk_size == 2
        monkeypatch.setattr(tiny_model.hf.generation_config, "prefill_chunk_size", 2)
        assert torch.equal(tiny_model.hf.generate(**inputs, generation_config=config), ids)
        assert torch.equal(steps(tiny_model, inputs)[0], whole)


@pytest.mark.parametrize("setting", [{"prefill_chunk_size": 2}, {"cache_implementation": "static"}], ids=str)
def test_nothing_is_put_beside_a_generation_config(tiny_llava, monkeypatch, setting):
    """Arguments beside it are deprecated: what steering has to change is changed in a copy."""
    said = []
    monkeypatch.setattr(transformers.generation.utils.logger, "warning_once", lambda text, *_: said.append(text))
    config = GenerationConfig(max_new_tokens=2, **setting)
    before = config.to_dict()
    with attach(tiny_llava, make_plan(tiny_llava, PAPER)):
        tiny_llava.hf.generate(**tiny_llava.encode(text_samples()), generation_config=config)
    assert not [text for text in said if "generation_config" in text]
    assert config.to_dict() == before


def prefix_cache(model, inputs, length):
    """Cache of the first columns of a prompt, filled by the model as it is."""
    part = {key: value[:, :length] for key, value in inputs.items() if key in ("input_ids", "attention_mask")}
    rest = {key: value for key, value in inputs.items() if key.startswith(("pixel", "image"))}
    if "mm_token_type_ids" in inputs:
        rest["mm_token_type_ids"] = inputs["mm_token_type_ids"][:, :length]
    cache = DynamicCache(config=model.hf.config)
    with torch.no_grad():
        return model.hf(**part, **rest, past_key_values=cache, use_cache=True).past_key_values


@pytest.mark.parametrize("left", [1, 4])
@pytest.mark.parametrize("policy", [TAIL, PERSISTENT], ids=["tail", "persistent"])
def test_a_cached_prefix_changes_nothing(tiny_model, policy, left):
    """All but the last `left` tokens were put into the cache before anything was attached."""
    for sample in text_samples():
        inputs = tiny_model.encode([sample])
        length = inputs["input_ids"].shape[1] - left
        if length < 1:
            continue
        cache = prefix_cache(tiny_model, inputs, length)
        with attach(tiny_model, make_plan(tiny_model, policy)):
            whole, _ = steps(tiny_model, inputs)
            for chunk in (1, 2, 1000):
                again = copy.deepcopy(cache)
                if REPEATS_PREFIX:
                    with pytest.raises(AttachError, match="repeats a cached prefix"):
                        steps(tiny_model, inputs, past_key_values=again, prefill_chunk_size=chunk)
                else:
                    close(steps(tiny_model, inputs, past_key_values=again, prefill_chunk_size=chunk)[0], whole)
            close(steps(tiny_model, inputs, past_key_values=cache)[0], whole)


def test_pieces_that_would_repeat_a_cached_prefix_are_refused(tiny_llava, monkeypatch):
    """One token at a time they look like an answer: an eraser would act before the prompt has ended."""
    monkeypatch.setattr(generation, "PIECES_START_ANEW", True)
    inputs = tiny_llava.encode(text_samples()[:1])
    cache = prefix_cache(tiny_llava, inputs, 3)
    config = GenerationConfig(max_new_tokens=2, prefill_chunk_size=1)
    with attach(tiny_llava, make_plan(tiny_llava)):
        with pytest.raises(AttachError, match="repeats a cached prefix"):
            tiny_llava.hf.generate(**inputs, generation_config=config, past_key_values=cache)
        empty = DynamicCache(config=tiny_llava.hf.config)
        tiny_llava.hf.generate(**inputs, generation_config=config, past_key_values=empty)


def test_a_cached_prefix_with_the_image_changes_nothing(tiny_llava, samples):
    for sample in (samples[0], samples[2]):
        inputs = tiny_llava.encode([sample])
        cache = prefix_cache(tiny_llava, inputs, inputs["input_ids"].shape[1] - 2)
        with attach(tiny_llava, make_plan(tiny_llava, threshold=ALWAYS)):
            whole, _ = steps(tiny_llava, inputs)
            inputs.pop("pixel_values")
            close(steps(tiny_llava, inputs, past_key_values=cache)[0], whole)


def test_paper_refuses_a_cached_prefix(tiny_model):
    inputs = tiny_model.encode(text_samples()[:1])
    cache = prefix_cache(tiny_model, inputs, 3)
    with attach(tiny_model, make_plan(tiny_model, PAPER)):
        with pytest.raises(AttachError, match="whole"):
            steps(tiny_model, inputs, past_key_values=cache)
        steps(tiny_model, inputs)


def test_prompt_of_one_token(tiny_model):
    inputs = {"input_ids": torch.tensor([[40], [41]]), "attention_mask": torch.ones(2, 1, dtype=torch.long)}
    bare, _ = steps(tiny_model, inputs)
    for policy in POLICIES:
        with attach(tiny_model, make_plan(tiny_model, policy, threshold=ALWAYS)):
            assert ((steps(tiny_model, inputs)[0][0] - bare[0]).abs().amax(1) > 1e-2).all()


def test_a_mask_that_generate_infers_is_enough(tiny_model):
    samples = text_samples()
    inputs = tiny_model.encode(samples)
    with attach(tiny_model, make_plan(tiny_model, samples=samples)):
        expected, _ = steps(tiny_model, inputs)
        inputs.pop("attention_mask")
        assert torch.equal(steps(tiny_model, inputs)[0], expected)


def test_right_padding_steers_the_last_real_token(tiny_model):
    """Generating after right padding is nonsense, but the shift still goes where the prompt ends."""
    samples = text_samples()
    plan = make_plan(tiny_model, threshold=ALWAYS)
    inputs = tiny_model.encode(samples, "right")
    states = []
    keep = tiny_model.layers[2].register_forward_hook(lambda _m, _a, out: states.append(out.detach()))
    steps(tiny_model, inputs)
    keep.remove()
    with attach(tiny_model, plan):
        keep = tiny_model.layers[2].register_forward_hook(lambda _m, _a, out: states.append(out.detach()))
        steps(tiny_model, inputs)
        keep.remove()
    moved = (states[TOKENS] != states[0]).any(-1)
    last = inputs["attention_mask"].sum(1) - 1
    assert torch.equal(moved, torch.arange(moved.shape[1]) == last[:, None])


def test_embeddings_instead_of_ids(tiny_llava):
    samples = text_samples()
    inputs = tiny_llava.encode(samples)
    with attach(tiny_llava, make_plan(tiny_llava, samples=samples)):
        expected, _ = steps(tiny_llava, inputs)
        embeds = tiny_llava.hf.get_input_embeddings()(inputs.pop("input_ids"))
        close(steps(tiny_llava, {"inputs_embeds": embeds, **inputs})[0], expected)


def test_a_static_cache(tiny_llava):
    samples = text_samples()
    inputs = tiny_llava.encode(samples)
    with attach(tiny_llava, make_plan(tiny_llava, samples=samples)):
        expected, _ = steps(tiny_llava, inputs)
        close(steps(tiny_llava, inputs, cache_implementation="static")[0], expected)


# -- rows that multiply --------------------------------------------------------------------------------


@by_name
def test_beams_follow_their_request(tiny_model, policy):
    samples = text_samples()
    plans = [make_plan(tiny_model, policy, name=f"e{k}", seed=k, threshold=ALWAYS) for k in range(2)]
    rows = [["e0"], [], ["e1"]]
    options = {"num_beams": 3, "max_new_tokens": 4, "do_sample": False}
    with attach_all(tiny_model, plans) as handle:
        handle.select(rows)
        together = tiny_model.hf.generate(**tiny_model.encode(samples), **options)
        for row, names in enumerate(rows):
            handle.select([names])
            alone = tiny_model.hf.generate(**tiny_model.encode(samples[row : row + 1]), **options)
            said = together[row][-4:].tolist()
            assert said == alone[0][-4:].tolist()


def test_returned_sequences_follow_their_request(tiny_model):
    inputs = tiny_model.encode(text_samples()[:2])
    options = {"do_sample": True, "num_return_sequences": 3, "max_new_tokens": 1, "output_logits": True}
    bare = tiny_model.hf.generate(**inputs, **options, return_dict_in_generate=True).logits[0]
    with attach(tiny_model, make_plan(tiny_model, threshold=ALWAYS)) as handle:
        handle.select([[], ["jane"]])
        steered = tiny_model.hf.generate(**inputs, **options, return_dict_in_generate=True).logits[0]
        assert handle.readings.amplitudes[:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(steered[:3], bare[:3])
    assert ((steered[3:] - bare[3:]).abs().amax(1) > 1e-2).all()


# -- failing closed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"prompt_lookup_num_tokens": 2},
        {"guidance_scale": 1.5},
        {"custom_generate": lambda *args, **kwargs: None},
        {"generation_config": GenerationConfig(prompt_lookup_num_tokens=2)},
        {"num_beams": 4, "num_beam_groups": 2},
        {"token_healing": True},
        {"cache_implementation": "paged"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_modes_that_cannot_be_followed_are_refused(tiny_llava, options):
    inputs = tiny_llava.encode(text_samples()[:1])
    with attach(tiny_llava, make_plan(tiny_llava)):
        with pytest.raises(AttachError, match="cannot be steered"):
            tiny_llava.hf.generate(**inputs, max_new_tokens=2, **options)
        tiny_llava.hf.generate(**inputs, max_new_tokens=2)


def test_drafts_by_another_model_are_refused(tiny_llava):
    inputs = tiny_llava.encode(text_samples()[:1])
    with attach(tiny_llava, make_plan(tiny_llava)), pytest.raises(AttachError, match="assistant_model"):
        tiny_llava.hf.generate(**inputs, max_new_tokens=2, assistant_model=copy.deepcopy(tiny_llava.hf))


def test_generate_of_the_class_is_steered_or_refused(tiny_llava):
    """Who goes round the wrapper gets the rules of plain forward passes."""
    inputs = tiny_llava.encode(text_samples()[:1])
    generate = type(tiny_llava.hf).generate
    options = {"max_new_tokens": 3, "do_sample": False}
    with attach(tiny_llava, make_plan(tiny_llava, threshold=ALWAYS)):
        expected = tiny_llava.hf.generate(**inputs, **options)
        assert torch.equal(generate(tiny_llava.hf, **inputs, **options), expected)
        with pytest.raises(AttachError, match="prompt ends"):
            generate(tiny_llava.hf, **inputs, **options, prefill_chunk_size=2)


def test_an_exception_inside_generate(tiny_model):
    inputs = tiny_model.encode(text_samples())
    hooks = count_hooks(tiny_model.hf)

    def fail(ids, scores):
        if ids.shape[1] > inputs["input_ids"].shape[1]:
            raise ZeroDivisionError
        return scores

    with attach(tiny_model, make_plan(tiny_model)):
        expected, _ = steps(tiny_model, inputs)
        with pytest.raises(ZeroDivisionError):
            steps(tiny_model, inputs, logits_processor=LogitsProcessorList([fail]))
        assert torch.equal(steps(tiny_model, inputs)[0], expected)
    with pytest.raises(ZeroDivisionError), attach(tiny_model, make_plan(tiny_model)):
        steps(tiny_model, inputs, logits_processor=LogitsProcessorList([fail]))
    assert count_hooks(tiny_model.hf) == hooks


def test_a_wrapper_around_ours_survives(tiny_llava, monkeypatch):
    inputs = tiny_llava.encode(text_samples()[:1])
    own = tiny_llava.hf.generate
    monkeypatch.setattr(tiny_llava.hf, "generate", lambda *args, **kwargs: own(*args, **kwargs), raising=False)
    before = tiny_llava.hf.__dict__["generate"]
    with attach(tiny_llava, make_plan(tiny_llava)):
        assert tiny_llava.hf.__dict__["generate"] is not before
        tiny_llava.hf.generate(inputs["input_ids"], max_new_tokens=2)
    assert tiny_llava.hf.__dict__["generate"] is before
