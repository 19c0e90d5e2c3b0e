"""Gates: the paper's dense matrix, revocation, behaviour under scale, separation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import GateSettings, cloud, layer_statistics, moments

from mllmeraser.erasure.fit.closed_form import gates_from
from mllmeraser.erasure.gates import (
    QuadraticGate,
    SoftGate,
    discriminant_gate,
    hard_gate,
    low_energy_basis,
    neural_gate,
    paper_matrix,
    quadratic_gate,
    soft_gate,
)
from mllmeraser.erasure.gates.conformal import auc
from mllmeraser.erasure.settings import NeuralSettings
from mllmeraser.erasure.states.moments import Moments
from mllmeraser.erasure.states.statistics import Statistics
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.samples import ArtifactError, InputError, NumericalError

CLOSED_FORM = ["hard", "soft", "quadratic"]
REVOCABLE = [*CLOSED_FORM, "discriminant"]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@settings(max_examples=30, deadline=None)
@given(
    d=st.integers(4, 40),
    n_r=st.integers(20, 120),
    n_f=st.integers(1, 60),
    ratio=st.floats(0.3, 1.0),
    gamma=st.floats(0.05, 50.0),
    seed=st.integers(0, 10_000),
)
def test_factored_gate_equals_the_dense_matrix(
    d: int, n_r: int, n_f: int, ratio: float, gamma: float, seed: int
) -> None:
    retain, forget = cloud(n_r, d, seed), cloud(n_f, d, seed + 1, centre=1.0)
    direction = cloud(1, d, seed + 2)[0]
    dense = paper_matrix(retain, forget, direction, ratio=ratio, gamma=gamma)
    gate = hard_gate(Moments.from_states(retain), Moments.from_states(forget), ratio=ratio, gamma=gamma)
    assert relative(torch.outer(gate.tensors["weight"][0], direction), dense) < 1e-10
    singular = torch.linalg.svdvals(dense)
    assert float(singular[1] / singular[0]) < 1e-10, "the matrix of the paper has rank one"


def test_hard_gate_is_blind_to_a_true_null_space_complement() -> None:
    retain = cloud(10, 40, 0)  # rank 10 of 40: a null space of 30 dimensions exists
    gate = hard_gate(Moments.from_states(retain), moments(50, 40, 1, centre=1.0), ratio=0.5, gamma=1e-3)
    assert float(gate.score(retain).abs().max()) < 1e-8
    assert float(gate.score(cloud(50, 40, 1, centre=1.0)).mean()) > 0.9


def test_low_energy_basis_takes_floor_of_ratio_smallest() -> None:
    gram = torch.diag(torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0], dtype=torch.float64))
    basis = low_energy_basis(gram, 0.59)  # floor(2.95) = 2
    assert basis.shape == (5, 2)
    assert torch.allclose((basis**2).sum(1), torch.tensor([0.0, 1, 0, 1, 0], dtype=torch.float64))
    for ratio in (0.0, 0.1, 1.5):
        with pytest.raises(InputError):
            low_energy_basis(gram, ratio)


def test_soft_gate_minimises_its_objective() -> None:
    retain, forget = cloud(80, 6, 0), cloud(30, 6, 1, centre=1.0)
    weight = soft_gate(Moments.from_states(retain), Moments.from_states(forget), beta=2.0, gamma=0.1).tensors["weight"][
        0
    ]
    weight = weight.clone().requires_grad_()
    loss = ((forget @ weight - 1) ** 2).mean() + 2.0 * ((retain @ weight) ** 2).mean() + 0.1 * weight.square().sum()
    (gradient,) = torch.autograd.grad(loss, weight)
    assert float(gradient.abs().max()) < 1e-12


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(0.05, 20.0), seed=st.integers(0, 1000))
def test_scores_do_not_depend_on_the_unit_of_the_states(factor: float, seed: int) -> None:
    retain, forget, fresh = cloud(80, 6, seed), cloud(30, 6, seed + 1, centre=1.0), cloud(7, 6, seed + 2)

    def scores(unit: float, kind: str) -> torch.Tensor:
        sums = Moments.from_states(unit * retain), Moments.from_states(unit * forget)
        if kind == "soft":
            return soft_gate(*sums, gamma=0.01 * unit**2).score(unit * fresh)
        if kind == "hard":
            return hard_gate(*sums, ratio=0.5, gamma=1.0 * unit**2).score(unit * fresh)
        return quadratic_gate(*sums, rank=None).score(unit * fresh)

    for kind in CLOSED_FORM:
        assert torch.allclose(scores(factor, kind), scores(1.0, kind), rtol=1e-6, atol=1e-6), kind


def test_repeating_the_data_leaves_the_soft_gate_and_halves_the_ridge_of_the_hard_one() -> None:
    retain, forget = moments(80, 6, 0), moments(30, 6, 1, centre=1.0)
    once, twice = soft_gate(retain, forget), soft_gate(retain + retain, forget + forget)
    assert relative(twice.tensors["weight"], once.tensors["weight"]) < 1e-12
    doubled = hard_gate(retain, forget + forget, ratio=0.5, gamma=2.0)
    assert (
        relative(doubled.tensors["weight"], hard_gate(retain, forget, ratio=0.5, gamma=1.0).tensors["weight"]) < 1e-12
    )


def test_full_rank_quadratic_gate_is_the_log_likelihood_ratio() -> None:
    retain, forget = moments(300, 6, 0), moments(40, 6, 1, centre=1.0, spread=0.4)
    fresh = cloud(9, 6, 2)
    s_r = retain.covariance(0.01)
    s_f = 0.5 * forget.covariance() + 0.5 * s_r
    likelihood = torch.distributions.MultivariateNormal
    expected = likelihood(forget.mean, s_f).log_prob(fresh) - likelihood(retain.mean, s_r).log_prob(fresh)
    found = quadratic_gate(retain, forget, shrink=0.5, gamma=0.01, rank=None).score(fresh)
    assert torch.allclose(found, expected, atol=1e-9)
    low = quadratic_gate(retain, forget, rank=2)
    assert low.tensors["factor"].shape == (1, 2, 6)


@pytest.mark.parametrize("kind", REVOCABLE)
@pytest.mark.parametrize("gone", ["a", "b", "c"])
def test_a_revoked_subject_leaves_what_a_fit_without_it_gives(kind: str, gone: str) -> None:
    layer = layer_statistics(["a", "b", "c"])
    settings_ = GateSettings(kind=kind)  # type: ignore[arg-type]
    left = Statistics({HookPoint(0): layer}).without(gone)
    rest = {k: m for k, m in layer.groups.items() if k != f"forget/{gone}"}
    refit = gates_from(Statistics({HookPoint(0): type(layer)(rest)}), settings_, [0])[0]
    revoked = gates_from(left, settings_, [0])[0]
    for name, tensor in refit.tensors.items():
        assert torch.equal(revoked.tensors[name], tensor)
    one = GateSettings(kind=kind, per_subject=False)  # type: ignore[arg-type]
    first, second = (layer[f"forget/{key}"] for key in "abc" if key != gone)
    pooled = first + second
    expected = gates_from(
        Statistics({HookPoint(0): type(layer)({"retain": layer.retain, "forget/x": pooled})}), one, [0]
    )
    found = gates_from(left, one, [0])[0]
    for name in expected[0].tensors:
        if name not in ("factor", "centre"):  # eigenvectors have no sign
            assert torch.allclose(found.tensors[name], expected[0].tensors[name], rtol=1e-8, atol=1e-10), name


@pytest.mark.parametrize("kind", [*CLOSED_FORM, "neural"])
def test_gates_separate_held_out_states(kind: str) -> None:
    middle = 1.5 * torch.randn(12, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    retain, forget = cloud(400, 12, 0), middle + cloud(120, 12, 1, spread=0.5)
    sides = Moments.from_states(retain[:300]), Moments.from_states(forget[:80])
    gate = {
        "hard": lambda: hard_gate(*sides, ratio=0.6),
        "soft": lambda: soft_gate(*sides),
        "quadratic": lambda: quadratic_gate(*sides, rank=8),
        "neural": lambda: neural_gate(retain[:300], forget[:80], hidden=16, training=NeuralSettings(steps=100)),
    }[kind]()
    held = auc(gate.score(forget[80:]), gate.score(retain[300:]))
    assert held is not None and held > 0.95


def test_neural_gate_is_seeded_and_leaves_the_global_random_state() -> None:
    state = torch.random.get_rng_state()
    gates = [
        neural_gate(cloud(40, 5, 0), cloud(10, 5, 1), hidden=4, training=NeuralSettings(steps=5), seed=s)
        for s in (3, 3, 4)
    ]
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(gates[0].tensors["hidden"], gates[1].tensors["hidden"])
    assert not torch.equal(gates[0].tensors["hidden"], gates[2].tensors["hidden"])


def test_stack_select_and_affine() -> None:
    retain = moments(50, 6, 0)
    gates = [soft_gate(retain, moments(10, 6, seed, centre=1.0)) for seed in (1, 2, 3)]
    fresh = cloud(5, 6, 9)
    both = SoftGate.merge(gates)
    apart = torch.stack([gate.score(fresh) for gate in gates], 1)
    assert torch.allclose(both.scores(fresh), apart)
    assert torch.allclose(both.score(fresh), apart.amax(1))
    assert torch.allclose(both.select([2, 0]).scores(fresh), apart[:, [2, 0]])
    scale, offset = torch.tensor([2.0, 1.0, 0.5]), torch.tensor([0.0, 1.0, -1.0])
    assert torch.allclose(both.affine(scale, offset).scores(fresh), apart * scale + offset)
    assert both.to(dtype=torch.float32).scores(fresh.bfloat16()).dtype == torch.float32
    with pytest.raises(InputError):
        SoftGate.merge([gates[0], quadratic_gate(retain, moments(10, 6, 1))])
    with pytest.raises(InputError):
        SoftGate.merge([])
    with pytest.raises(ArtifactError):
        QuadraticGate({"weight": torch.zeros(1, 6)})


def test_unsolvable_systems_name_the_remedy() -> None:
    empty = Moments(5, torch.zeros(4, dtype=torch.float64), torch.zeros(4, 4, dtype=torch.float64))
    with pytest.raises(NumericalError, match="gamma"):
        soft_gate(empty, empty, gamma=0.0)
    with pytest.raises(NumericalError, match="gamma"):
        hard_gate(empty, empty, ratio=1.0, gamma=0.0)
    with pytest.raises(NumericalError, match="gamma"):
        quadratic_gate(empty, empty)
    with pytest.raises(InputError):
        soft_gate(moments(5, 4, 0), Moments.from_states(torch.empty(0, 4)))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), factor=st.floats(0.05, 20.0), shift=st.floats(-3, 3))
def test_the_discriminant_is_fishers_and_depends_on_neither_unit_nor_origin(
    seed: int, factor: float, shift: float
) -> None:
    retain, forget = cloud(80, 6, seed), cloud(30, 6, seed + 1, centre=1.0)
    gate = discriminant_gate(Moments.from_states(retain), Moments.from_states(forget), ridge=0.1)
    weight = gate.tensors["weight"][0]
    centred = torch.cat([retain - retain.mean(0), forget - forget.mean(0)])
    within = centred.T @ centred / len(centred)
    within = within + 0.1 * within.diagonal().mean() * torch.eye(6, dtype=torch.float64)
    apart = forget.mean(0) - retain.mean(0)
    dense = torch.linalg.inv(within) @ apart
    assert relative(weight, dense / (dense @ apart)) < 1e-9
    assert float(gate.score(forget).mean() - gate.score(retain).mean()) == pytest.approx(1.0)
    moved = [Moments.from_states(factor * states + shift) for states in (retain, forget)]
    again = discriminant_gate(moved[0], moved[1], ridge=0.1)
    assert relative(factor * again.tensors["weight"][0], weight) < 1e-6
