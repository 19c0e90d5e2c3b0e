"""What is shifted, by how much, and that nothing else moves: plain forward passes of both families."""

from dataclasses import replace

import pytest
import torch
from steering_kit import (
    ALWAYS,
    NEVER,
    alone,
    count_hooks,
    expected_scores,
    last_index,
    logits,
    make_plan,
)
from torch.utils._python_dispatch import TorchDispatchMode

from mllmeraser.erasure.policy import PAPER, PERSISTENT, PRESETS, SUBJECT, TAIL
from mllmeraser.erasure.states import image_spans
from mllmeraser.erasure.steering import ErasurePack, attach, attach_all
from mllmeraser.erasure.steering.forward_pass import SteeringPass
from mllmeraser.models.capture import hidden_of
from mllmeraser.models.intervention import Intervention
from mllmeraser.samples import AttachError, InputError

POLICIES = list(PRESETS.values())
by_name = pytest.mark.parametrize("policy", POLICIES, ids=list(PRESETS))


@by_name
def test_strength_zero_is_bit_identical(tiny_model, samples, policy):
    bare = logits(tiny_model, samples)
    with attach(tiny_model, make_plan(tiny_model, policy, strength=0.0, threshold=ALWAYS)):
        assert torch.equal(logits(tiny_model, samples), bare)


@by_name
def test_strength_moves_the_answer_and_detaching_restores_it(tiny_model, samples, policy):
    bare, hooks = logits(tiny_model, samples), count_hooks(tiny_model.hf)
    handle = attach(tiny_model, make_plan(tiny_model, policy, threshold=ALWAYS))
    assert handle.attached and count_hooks(tiny_model.hf) > hooks
    assert ((logits(tiny_model, samples) - bare).abs().amax(1) > 1e-2).all()
    handle.detach()
    handle.detach()
    assert not handle.attached and count_hooks(tiny_model.hf) == hooks
    assert torch.equal(logits(tiny_model, samples), bare)


def test_rows_that_do_not_fire_keep_their_bits(tiny_model, samples):
    bare = logits(tiny_model, samples)
    with attach(tiny_model, make_plan(tiny_model)) as handle:
        steered = logits(tiny_model, samples)
    fired = handle.readings.amplitudes[:, 0] > 0
    assert 0 < int(fired.sum()) < len(samples)
    assert torch.equal(steered[~fired], bare[~fired])
    assert ((steered[fired] - bare[fired]).abs().amax(1) > 1e-2).all()


@by_name
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_mixed_batch_equals_one_by_one(tiny_model, samples, policy, side):
    with attach(tiny_model, make_plan(tiny_model, policy)) as handle:
        together = logits(tiny_model, samples, side)
        readings = handle.readings
        separate = alone(tiny_model, samples)
    torch.testing.assert_close(together, separate, atol=2e-4, rtol=2e-4)
    expected = expected_scores(tiny_model, make_plan(tiny_model, policy), samples)
    if policy.read == "request":  # under a per-layer policy later layers see states that were shifted before
        torch.testing.assert_close(readings.pooled[:, 0], expected, atol=1e-4, rtol=1e-4)


def _record(model, layer, store):
    def keep(_module, _args, output):
        store.append(hidden_of(output).detach().clone())

    return model.layers[layer].register_forward_hook(keep)


def test_the_captured_tensor_is_the_edited_tensor(tiny_model, samples):
    """After each shift layer: what the bare block gives plus s v, at the last prompt token alone."""
    plan = make_plan(tiny_model, strength=0.75, threshold=ALWAYS)
    inputs = tiny_model.encode(samples, "right")
    last = last_index(inputs["attention_mask"])
    rows = torch.arange(len(samples))
    for layer in plan.shift_layers:
        before, after = [], []
        first = _record(tiny_model, layer, before)
        with attach(tiny_model, plan):
            second = _record(tiny_model, layer, after)
            tiny_model.hf(**inputs)
            first.remove()
            second.remove()
        shifted = before[0][rows, last] + plan.strength * plan.directions[layer]
        assert torch.equal(after[0][rows, last], shifted)
        untouched = torch.ones(before[0].shape[:2], dtype=torch.bool)
        untouched[rows, last] = False
        assert torch.equal(after[0][untouched], before[0][untouched])


def test_paper_shifts_every_real_prompt_position_by_its_own_reading(tiny_model, samples):
    plan = make_plan(tiny_model, PAPER, strength=0.5)
    inputs = tiny_model.encode(samples, "left")
    real = inputs["attention_mask"].bool()
    layer = plan.shift_layers[1]
    before, after = [], []
    first = _record(tiny_model, layer, before)
    with attach(tiny_model, plan) as handle:
        second = _record(tiny_model, layer, after)
        tiny_model.hf(**inputs)
        first.remove()
        second.remove()
    amplitude = plan.gates[layer].scores(before[0][:, -1]).amax(-1) * plan.strength
    expected = before[0] + amplitude[:, None, None] * plan.directions[layer]
    torch.testing.assert_close(after[0][real], expected[real], atol=1e-5, rtol=1e-5)
    assert torch.equal(after[0][~real], before[0][~real])
    torch.testing.assert_close(
        handle.readings.per_layer["jane"][layer].amax(-1) * plan.strength, amplitude, atol=1e-5, rtol=1e-5
    )


def test_without_a_mask_every_position_is_real(tiny_model, samples):
    inputs = tiny_model.encode(samples[3:4])
    plan = make_plan(tiny_model, threshold=ALWAYS)
    with attach(tiny_model, plan), torch.no_grad():
        masked = tiny_model.hf(**inputs).logits
        inputs.pop("attention_mask")
        assert torch.equal(tiny_model.hf(**inputs).logits, masked)


def test_a_prompt_of_one_token_is_steered(tiny_model):
    ids = torch.tensor([[40]])
    bare = tiny_model.hf(input_ids=ids).logits
    for policy in POLICIES:
        with attach(tiny_model, make_plan(tiny_model, policy, threshold=ALWAYS)) as handle:
            assert (tiny_model.hf(input_ids=ids).logits - bare).abs().max() > 1e-2
            assert handle.readings.pooled.shape == (1, 1)


# -- several erasers -----------------------------------------------------------------------------------


def test_rows_with_different_erasers_do_not_touch_each_other(tiny_model, samples):
    plans = [make_plan(tiny_model, name=f"e{k}", seed=k, threshold=ALWAYS) for k in range(3)]
    bare = logits(tiny_model, samples)
    rows = [["e0"], [], ["e1"], ["e2"], ["e0"], [], ["e1"]]
    with attach_all(tiny_model, plans) as handle:
        handle.select(rows)
        mixed = logits(tiny_model, samples)
        matrix = torch.tensor([[name in row for name in handle.names] for row in rows])
        handle.select(matrix)
        assert torch.equal(logits(tiny_model, samples), mixed)
        assert torch.equal(handle.readings.amplitudes > 0, matrix)
    for k, plan in enumerate(plans):
        with attach(tiny_model, plan):
            only = logits(tiny_model, samples)
        mine = [row for row, names in enumerate(rows) if names == [f"e{k}"]]
        assert torch.equal(mixed[mine], only[mine])
    empty = [row for row, names in enumerate(rows) if not names]
    assert torch.equal(mixed[empty], bare[empty])


def test_stacked_erasers_add_their_shifts(tiny_model, samples):
    plans = [make_plan(tiny_model, name=f"e{k}", seed=k, threshold=ALWAYS, strength=0.5) for k in range(2)]
    layer = plans[0].shift_layers[0]
    before, after = [], []
    first = _record(tiny_model, layer, before)
    with attach_all(tiny_model, plans):
        second = _record(tiny_model, layer, after)
        tiny_model.hf(**tiny_model.encode(samples, "left"))
        first.remove()
        second.remove()
    both = before[0][:, -1] + sum(0.5 * plan.directions[layer] for plan in plans)
    torch.testing.assert_close(after[0][:, -1], both, atol=1e-5, rtol=1e-5)


def test_policies_can_be_mixed_and_a_mapping_names_them(tiny_model, samples):
    tail, persistent = make_plan(tiny_model, TAIL), make_plan(tiny_model, PERSISTENT, seed=1)
    with attach(tiny_model, tail):
        expected = logits(tiny_model, samples)
    with attach_all(tiny_model, {"a": tail, "b": persistent}) as handle:
        assert handle.names == ("a", "b")
        handle.select([["a"]] * len(samples))
        assert torch.equal(logits(tiny_model, samples), expected)
        handle.select(None)
        assert not torch.equal(logits(tiny_model, samples), expected)


def test_an_eraser_that_never_fires_changes_nothing_beside_one_that_does(tiny_model, samples):
    loud = make_plan(tiny_model, name="loud", threshold=ALWAYS)
    quiet = make_plan(tiny_model, name="quiet", seed=5, threshold=NEVER)
    with attach(tiny_model, loud):
        expected = logits(tiny_model, samples)
    with attach_all(tiny_model, [quiet, loud]):
        assert torch.equal(logits(tiny_model, samples), expected)


def test_selection_errors(tiny_llava, samples):
    with attach(tiny_llava, make_plan(tiny_llava)) as handle:
        with pytest.raises(InputError, match="no eraser called 'john'"):
            handle.select([["john"]])
        with pytest.raises(InputError, match="shape"):
            handle.select(torch.ones(2, 3, dtype=torch.bool))
        handle.select([["jane"], []])
        with pytest.raises(InputError, match="2 rows, the batch has 7"):
            logits(tiny_llava, samples)
        handle.select(None)
        logits(tiny_llava, samples)


# -- attaching -----------------------------------------------------------------------------------------


def test_works_on_the_transformers_model_itself(tiny_model, samples):
    plan = make_plan(tiny_model)
    with attach(tiny_model, plan):
        expected = logits(tiny_model, samples)
    with attach(tiny_model.hf, plan):
        assert torch.equal(logits(tiny_model, samples), expected)


@pytest.mark.parametrize("attachments", [1, 2])
def test_a_failed_attach_rolls_back(tiny_model, monkeypatch, attachments):
    hooks = count_hooks(tiny_model.hf)
    plan = make_plan(tiny_model, threshold=ALWAYS)
    kept = [attach(tiny_model, plan) for _ in range(attachments - 1)]
    between = count_hooks(tiny_model.hf)

    def refuse(*_args, **_kwargs):
        raise RuntimeError("no more hooks")

    monkeypatch.setattr(tiny_model.layers[2], "register_forward_hook", refuse)
    with pytest.raises(AttachError, match="no more hooks"):
        attach(tiny_model, plan)
    assert count_hooks(tiny_model.hf) == between
    for handle in kept:
        handle.detach()
    assert count_hooks(tiny_model.hf) == hooks


def test_detaching_in_any_order_leaves_nothing(tiny_model, samples):
    bare, hooks = logits(tiny_model, samples), count_hooks(tiny_model.hf)
    first, second = (attach(tiny_model, make_plan(tiny_model, seed=k)) for k in range(2))
    first.detach()
    with attach(tiny_model, make_plan(tiny_model, seed=1)):
        pass
    assert tiny_model.generate(samples[:2], max_new_tokens=2)
    second.detach()
    assert count_hooks(tiny_model.hf) == hooks
    assert torch.equal(logits(tiny_model, samples), bare)


def test_an_exception_in_a_forward_pass_leaves_a_usable_attachment(tiny_model, samples):
    plan = make_plan(tiny_model)
    hooks = count_hooks(tiny_model.hf)

    def fail(*_args):
        raise ZeroDivisionError

    with attach(tiny_model, plan):
        expected = logits(tiny_model, samples)
        broken = tiny_model.layers[-1].register_forward_hook(fail)
        with pytest.raises(ZeroDivisionError):
            logits(tiny_model, samples)
        broken.remove()
        assert torch.equal(logits(tiny_model, samples), expected)
    with pytest.raises(ZeroDivisionError), attach(tiny_model, plan):
        raise ZeroDivisionError
    assert count_hooks(tiny_model.hf) == hooks


def test_plans_that_do_not_fit_are_refused(tiny_model):
    plan = make_plan(tiny_model)
    with pytest.raises(InputError, match="at least one"):
        attach_all(tiny_model, [])
    with pytest.raises(InputError, match="two erasers are called 'jane'"):
        attach_all(tiny_model, [plan, plan])
    with pytest.raises(InputError, match="before the first shifted layer"):
        replace(plan, read_layers=(0, 2))
    with pytest.raises(InputError, match=r"no gate for layers \[7\]"):
        replace(plan, read_layers=(7,), shift_layers=(9,), directions={9: plan.directions[2]})
    with pytest.raises(InputError, match="layer 99 does not exist"):
        attach(tiny_model, replace(plan, shift_layers=(99,), directions={99: plan.directions[2]}))
    with pytest.raises(InputError, match="width"):
        attach(tiny_model, replace(plan, directions={k: v[:-1] for k, v in plan.directions.items()}))
    with pytest.raises(InputError, match="strength"):
        replace(plan, strength=-1.0)
    with pytest.raises(AttachError, match="Linear"):
        attach(torch.nn.Linear(2, 2), plan)
    assert count_hooks(tiny_model.hf) == 0


def test_a_block_outside_the_model_is_refused(tiny_model):
    inner = tiny_model.hf.model.language_model
    with attach(tiny_model, make_plan(tiny_model)), pytest.raises(AttachError, match="call the model itself"):
        inner(input_ids=torch.tensor([[40, 41]]))


def test_pack_is_an_intervention(tiny_llava, samples):
    pack = ErasurePack([make_plan(tiny_llava, name="a"), make_plan(tiny_llava, name="b", seed=1)])
    assert isinstance(pack, Intervention)
    with pack.attached(tiny_llava) as handle:
        logits(tiny_llava, samples)
        assert handle.readings.names == ("a", "b")
    assert not handle.attached


def test_gradients_flow_through_the_shift(tiny_llava, samples):
    inputs = tiny_llava.encode(samples[:1])
    pixels = inputs["pixel_values"].requires_grad_()
    with attach(tiny_llava, make_plan(tiny_llava, threshold=ALWAYS)):
        tiny_llava.hf(**inputs).logits[:, -1].sum().backward()
    assert pixels.grad is not None and pixels.grad.abs().max() > 0


def test_half_precision_keeps_its_dtype_and_untouched_rows(tiny_llava_path, samples):
    from mllmeraser.models.loading import load_model

    model = load_model(str(tiny_llava_path), device="cpu", dtype=torch.bfloat16)
    samples = [sample for sample in samples if sample.image is None]
    bare = logits(model, samples)
    with attach(model, make_plan(model, samples=samples)) as handle:
        steered = logits(model, samples)
    fired = handle.readings.amplitudes[:, 0] > 0
    assert steered.dtype == torch.bfloat16 and 0 < int(fired.sum()) < len(samples)
    assert torch.equal(steered[~fired], bare[~fired]) and not torch.equal(steered[fired], bare[fired])


class _NoWaiting(TorchDispatchMode):
    """Raises where an operation makes the host wait for values on the device."""

    WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique", "equal")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__.split(".")[-1] in self.WAITS:
            raise AssertionError(f"the host waits in {func}")
        return func(*args, **(kwargs or {}))


@by_name
def test_the_shift_does_not_wait_for_the_device(tiny_model, samples, policy, monkeypatch):
    """As on a GPU: on the CPU shapes may depend on values."""
    monkeypatch.setattr(image_spans, "may_look", lambda device: False)
    plain = SteeringPass.after_block

    def watched(self, layer, states):
        with _NoWaiting():
            return plain(self, layer, states)

    monkeypatch.setattr(SteeringPass, "after_block", watched)
    plans = [make_plan(tiny_model, policy, name=name, seed=k) for k, name in enumerate("ab")]
    with pytest.raises(AssertionError, match="waits"), _NoWaiting():
        bool(torch.ones(1).any())
    with attach_all(tiny_model, plans) as handle:
        handle.select([["a"], ["b"], [], ["a", "b"], [], ["a"], ["b"]])
        tiny_model.hf.generate(**tiny_model.encode(samples), max_new_tokens=3)


def test_looking_at_values_changes_none(tiny_model, samples, monkeypatch):
    plan = make_plan(tiny_model, SUBJECT)
    with attach(tiny_model, plan) as handle:
        looked, seen = logits(tiny_model, samples), handle.readings.pooled
        monkeypatch.setattr(image_spans, "may_look", lambda device: False)
        blind = logits(tiny_model, samples)
        torch.testing.assert_close(handle.readings.pooled, seen, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(looked, blind, atol=2e-4, rtol=2e-4)


def test_a_pass_whose_blocks_slip_past_the_hooks_is_an_error(tiny_model, samples):
    """As a graph that was captured before attaching would: an answer without the eraser must not get out."""
    plan = make_plan(tiny_model, TAIL, threshold=ALWAYS)
    before = logits(tiny_model, samples)
    with attach(tiny_model, plan) as handle:
        block = tiny_model.layers[plan.shift_layers[-1]]
        kept = dict(block._forward_hooks)
        block._forward_hooks.clear()
        try:
            with pytest.raises(AttachError, match="without the erasers"):
                logits(tiny_model, samples)
        finally:
            block._forward_hooks.update(kept)
        assert handle.readings is None
    assert torch.equal(logits(tiny_model, samples), before)
