"""A trained language model behind another tokenizer, and with one key and value head for all its queries."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mllmeraser.embedded.recipe.llava import Llava
from mllmeraser.embedded.recipe.qwen2_5_vl import Qwen25VL
from mllmeraser.embedded.recipe.tokenizer import translate
from mllmeraser.embedded.recipe.upcycling import TEXT, _share_keys, _share_values, share_heads

HEADS, DIM, WIDTH = 5, 8, 24


def turned(states: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Rotary positions as transformers' Llama and Qwen apply them: halves are the parts of complex numbers."""
    first, second = states.chunk(2)
    return torch.cat([first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_heads_that_differ_by_a_turn_are_shared_exactly(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    common, factors = torch.complex(random(DIM // 2, WIDTH), random(DIM // 2, WIDTH)), random(HEADS, DIM // 2, 1)
    keys = factors * torch.exp(1j * random(HEADS, DIM // 2, 1)) * common
    k = torch.cat([keys.real, keys.imag], dim=1).reshape(HEADS * DIM, WIDTH)
    q, x, y = random(HEADS * DIM, WIDTH), random(WIDTH), random(WIDTH)
    here, there = random(DIM // 2), random(DIM // 2)
    queries, key = _share_keys(q, k, HEADS)
    assert key.shape == (DIM, WIDTH)
    for part in (slice(h * DIM, (h + 1) * DIM) for h in range(HEADS)):
        wanted = turned(q[part] @ x, here) @ turned(k[part] @ y, there)
        found = turned(queries[part] @ x, here) @ turned(key @ y, there)
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-8)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_values_are_fitted_at_least_as_well_as_by_their_mean(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    v = torch.randn(HEADS * DIM, WIDTH, generator=draw, dtype=torch.float64)
    o = torch.randn(WIDTH, HEADS * DIM, generator=draw, dtype=torch.float64)
    shared, outputs = _share_values(v, o, HEADS)
    mean = v.reshape(HEADS, DIM, WIDTH).mean(0)
    parts = [slice(h * DIM, (h + 1) * DIM) for h in range(HEADS)]

    def missed(values: torch.Tensor, out: torch.Tensor) -> float:
        return sum(float((o[:, p] @ v[p] - out[:, p] @ values).pow(2).sum()) for p in parts)

    assert shared.shape == (DIM, WIDTH) and missed(shared, outputs) < missed(mean, o)


def test_what_qwen_is_given_fits_it() -> None:
    texts = ["Who is this?"]
    llava = Llava().build_model(Llava().train_tokenizer(texts), 0)
    qwen = Qwen25VL().build_model(Qwen25VL().train_tokenizer(texts), 0)
    wanted = {name: p.shape for name, p in qwen.state_dict().items() if name.startswith(TEXT)}
    found = {name: p.shape for name, p in share_heads(llava.state_dict(), HEADS).items()}
    words = f"{TEXT}embed_tokens.weight"  # other special tokens
    assert found.pop(words) != wanted.pop(words) and found == wanted


def test_a_token_both_know_keeps_its_row_and_a_new_one_is_the_mean_of_what_spelt_it() -> None:
    old, new = Llava().train_tokenizer(["the cat sat"] * 3), Llava().train_tokenizer(["the dog sat"] * 3)
    rows = torch.randn(len(old), 6, generator=torch.Generator().manual_seed(0))
    made = translate(rows, old, new)
    assert made.shape == (len(new), 6)
    spelt = old(" dog", add_special_tokens=False)["input_ids"]
    (dog,) = new(" dog", add_special_tokens=False)["input_ids"]
    assert len(spelt) > 1 and torch.equal(made[dog], rows[spelt].mean(0))
    for token in ("<|user|>", "<image>", "B:"):
        assert torch.equal(made[new.convert_tokens_to_ids(token)], rows[old.convert_tokens_to_ids(token)])
