"""What tells a subject from single retained people who look alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_identity_fit import identity_request, identity_settings
from torch import Tensor
from worlds import close, cloud

from mllmeraser.erasure import Eraser, fit
from mllmeraser.erasure.artifact.consolidate import consolidate
from mllmeraser.erasure.gates import DiscriminantBasis, Gate, Pairs, discriminant_basis, look_alike_pairs, subject_gate
from mllmeraser.erasure.settings import SubjectSettings
from mllmeraser.erasure.states.moments import Moments
from mllmeraser.samples import InputError

WIDTH = 12
LOOK_ALIKES, MARGIN = SubjectSettings().look_alikes, SubjectSettings().pair_margin


def face(seed: int, n: int = 8, shift: float = 0.0) -> Tensor:
    """Pictures of somebody around a centre of their own, moved along the last axis."""
    states = cloud(n, WIDTH, seed, centre=2.0, spread=0.5)
    states[:, -1] += shift
    return states


def lens_of(kept: list[Tensor], rank: int = 4) -> DiscriminantBasis:
    return discriminant_basis(Moments.from_states(torch.cat(kept)), [Moments.from_states(s) for s in kept], rank=rank)


def pairs_of(basis: DiscriminantBasis, own: Tensor, held: Tensor, kept: list[Tensor]) -> Pairs:
    pairs = look_alike_pairs(basis, [own], [held], [states.double().mean(0) for states in kept])
    assert pairs is not None
    return pairs


def gate_of(basis: DiscriminantBasis, own: Tensor, pairs: Pairs | None) -> Gate:
    return subject_gate(basis, [Moments.from_states(own)], pairs=pairs)


def test_the_weights_are_fishers_discriminants_of_the_nearest():
    kept, own = [face(k) for k in range(7)], face(50).double()
    basis = lens_of(kept)
    pairs = pairs_of(basis, own, own[:0], kept)
    mean, means = own.numpy().mean(0), [states.double().numpy().mean(0) for states in kept]
    look = lambda m: (v := (m - basis.centre.numpy()) @ basis.projection.numpy()) / np.linalg.norm(v)  # noqa: E731
    nearest = sorted(means, key=lambda m: -look(m) @ look(mean))[:LOOK_ALIKES]
    within = basis.root.numpy() @ basis.root.numpy().T
    for column, other in enumerate(nearest):
        weight = np.linalg.solve(within, mean - other)
        weight /= weight @ (mean - other)
        close(pairs.weights[0, column], torch.from_numpy(weight), 2e-3)  # held in float16
        alone = []
        for k in range(len(own)):
            rest = np.delete(own.numpy(), k, axis=0).mean(0)
            w = np.linalg.solve(within, rest - other)
            alone.append(w @ (own[k].numpy() - (rest + other) / 2) / (w @ (rest - other)))
        w = pairs.weights[0, column].numpy()
        seen = (own.numpy() - (mean + other) / 2) @ w
        least = w @ (mean + other) / 2 + min(0.0, *alone, *seen) - MARGIN
        assert float(pairs.bounds[0, column]) == pytest.approx(least, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(0, 3))
def test_no_picture_that_it_was_made_of_is_lost(seed: int, shift: float) -> None:
    """However near the look-alike: own pictures, fitted or held out, are never vetoed."""
    own, held = face(seed, 6, shift), face(seed, 9, shift)[6:]
    twin = face(seed, 6) + 0.05
    kept = [*(face(seed + k) for k in range(1, 6)), twin]
    basis = lens_of(kept)
    pairs = pairs_of(basis, own, held, kept)
    with_pairs, plain = gate_of(basis, own, pairs), gate_of(basis, own, None)
    states = torch.cat([own, held])
    close(with_pairs.scores(states), plain.scores(states), 1e-9)


def test_a_look_alike_whom_the_lens_does_not_see_is_told_apart():
    """The basis has one direction; what sets the two apart lies across it."""
    kept = [face(k) for k in range(6)]
    basis = lens_of(kept, rank=1)
    own, twin = face(30, 8, shift=4.0), face(30, 8, shift=0.0)
    pairs = pairs_of(basis, own, own[:0], [*kept, twin])
    plain, gate = gate_of(basis, own, None), gate_of(basis, own, pairs)
    fresh_own, fresh_twin = face(30, 40, shift=4.0)[8:], face(30, 40, shift=0.0)[8:]
    overlap = (plain.scores(fresh_twin)[None, :, 0] >= plain.scores(fresh_own)[:, 0, None]).double().mean()
    apart = (gate.scores(fresh_twin)[None, :, 0] >= gate.scores(fresh_own)[:, 0, None]).double().mean()
    assert float(overlap) > 0.2 and float(apart) < 0.1


def test_a_subject_without_pictures_is_told_from_nobody():
    kept = [face(k) for k in range(6)]
    basis, none = lens_of(kept), torch.empty(0, WIDTH)
    pairs = pairs_of(basis, none, none, kept)
    states = torch.cat(kept)
    close(gate_of(basis, states, pairs).scores(states), gate_of(basis, states, None).scores(states), 1e-9)
    assert look_alike_pairs(basis, [states], [none], []) is None


def test_one_retained_person_makes_one_pair():
    kept = [face(k) for k in range(6)]
    pairs = pairs_of(lens_of(kept), face(9), face(9)[:0], kept[:1])
    assert pairs.weights.shape == (1, 1, WIDTH) and pairs.bounds.shape == (1, 1)


def test_pairs_are_saved_and_put_together(tiny_llava, tmp_path):
    made = fit(tiny_llava, identity_request(), identity_settings()).eraser
    name = f"gate.{made.config.read_layers[-1]}.apart"
    assert made.tensors[name].dtype == torch.float16 and made.tensors[name].shape[0] == 2
    loaded = Eraser.from_pretrained(made.save_pretrained(tmp_path / "e"))
    assert torch.equal(loaded.tensors[name], made.tensors[name])
    one, other = (made.without(made.config.subjects[out]) for out in (1, 0))
    assert torch.equal(consolidate([one, other]).tensors[name], made.tensors[name])
    least = name.replace("apart", "least")
    fewer = {**other.tensors, name: other.tensors[name][:, :1], least: other.tensors[least][:, :1]}
    with pytest.raises(InputError, match="bases or tensors"):
        consolidate([one, Eraser(other.config, fewer)])
