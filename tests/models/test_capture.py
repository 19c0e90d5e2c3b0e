from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mllmeraser.models import HookPoint, MultimodalModel
from mllmeraser.models.capture import hidden_of, last_real_index, last_states, run_batch, with_hidden
from mllmeraser.samples import InputError, Sample


class Block(nn.Module):
    """Adds one; gives a tensor, or a tuple as older transformers do."""

    def __init__(self, tuple_output: bool) -> None:
        super().__init__()
        self.tuple_output = tuple_output

    def forward(self, hidden: Tensor) -> Tensor | tuple[Tensor, str]:
        return (hidden + 1, "cache") if self.tuple_output else hidden + 1


class Blocks(nn.Module):
    """Runs its blocks on `hidden`, whatever the arguments."""

    def __init__(self, hidden: Tensor, blocks: list[Block]) -> None:
        super().__init__()
        self.hidden, self.layers, self.ran = hidden, nn.ModuleList(blocks), 0

    def forward(self, **_batch: object) -> None:
        hidden = self.hidden
        for layer in self.layers:
            self.ran += 1
            hidden = hidden_of(layer(hidden))


BATCH = {"input_ids": torch.zeros(2, 3), "attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0]])}


@pytest.mark.parametrize("tuple_output", [False, True])
def test_reads_tensor_and_tuple_outputs(tuple_output: bool) -> None:
    hidden = torch.arange(12.0).view(2, 3, 2)
    model = Blocks(hidden, [Block(tuple_output), Block(tuple_output), Block(tuple_output)])
    found = last_states(model, model.layers, BATCH, [HookPoint(1)])
    assert torch.equal(found[:, 0], torch.stack([hidden[0, 2], hidden[1, 0]]) + 2)
    assert model.ran == 2, "later blocks do not run"


def test_a_block_that_does_not_run_is_an_error() -> None:
    model = Blocks(torch.zeros(2, 3, 2), [Block(False)])
    with pytest.raises(InputError, match="block 1 did not run"):
        last_states(model, nn.ModuleList([*model.layers, Block(False)]), BATCH, [HookPoint(0), HookPoint(1)])


def test_output_keeps_its_form() -> None:
    old, new = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    assert with_hidden(old, new) is new
    assert with_hidden((old, "cache"), new) == (new, "cache")
    with pytest.raises(TypeError, match="str"):
        hidden_of("nothing")


def test_several_states_per_token_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(1, 2, 4, 8\)"):
        hidden_of((torch.zeros(1, 2, 4, 8), "cache"))


def test_last_real_token_on_either_side() -> None:
    mask = torch.tensor([[1, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 0], [1, 1, 1, 1]])
    assert last_real_index(mask, 4, 4, mask.device).tolist() == [2, 3, 0, 3]
    assert last_real_index(mask.bool(), 4, 4, mask.device).tolist() == [2, 3, 0, 3]
    assert last_real_index(None, 2, 5, mask.device).tolist() == [4, 4]


def half_way(_states: Tensor) -> Tensor:
    raise RuntimeError("half-way")


def test_no_hook_is_left_after_an_error(tiny_model: MultimodalModel) -> None:
    points, batch = tiny_model.hookpoints(), tiny_model.encode([Sample("Hi")])
    # Not "none at all": a call with `output_hidden_states` leaves hooks of transformers' own on a shared model.
    before = [list(layer._forward_hooks) for layer in tiny_model.layers]
    with pytest.raises(RuntimeError, match="half-way"):
        run_batch(tiny_model.hf, tiny_model.layers, batch, [(1, half_way)])
    with pytest.raises(InputError, match="does not exist"):
        last_states(tiny_model.hf, tiny_model.layers, batch, [*points, HookPoint(99)])
    assert [list(layer._forward_hooks) for layer in tiny_model.layers] == before


@torch.no_grad()
def test_state_is_the_residual_stream_after_the_block(tiny_model: MultimodalModel, samples: list[Sample]) -> None:
    inputs = tiny_model.encode(samples, "right")
    output = tiny_model.hf(**inputs, output_hidden_states=True, use_cache=False)
    last = inputs["attention_mask"].sum(dim=1) - 1
    states = tiny_model.states(samples, tiny_model.hookpoints(), batch_size=len(samples))
    for point in tiny_model.hookpoints(range(tiny_model.num_layers - 1)):
        # Entry 0 is the embedding, so entry l + 1 is the output of block l; the very last one is normalised.
        expected = output.hidden_states[point.layer + 1][torch.arange(len(samples)), last]
        torch.testing.assert_close(states[point], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_last_state_gives_the_next_token(tiny_model: MultimodalModel, samples: list[Sample]) -> None:
    point = HookPoint(tiny_model.num_layers - 1)
    states = tiny_model.states(samples, [point])[point]
    logits = tiny_model.hf.lm_head(tiny_model.hf.model.language_model.norm(states))
    torch.testing.assert_close(logits, tiny_model.next_token_logits(samples), rtol=1e-4, atol=1e-4)


def test_captured_tensor_is_the_one_an_edit_changes(tiny_model: MultimodalModel, samples: list[Sample]) -> None:
    point, shift = HookPoint(1), torch.ones(tiny_model.hidden_size)
    before = tiny_model.states(samples, [point])[point]
    handle = tiny_model.layers[1].register_forward_hook(
        lambda _m, _i, output: with_hidden(output, hidden_of(output) + shift)
    )
    try:
        after = tiny_model.states(samples, [point])[point]
    finally:
        handle.remove()
    torch.testing.assert_close(after, before + shift)
    assert torch.equal(tiny_model.states(samples, [point])[point], before)
