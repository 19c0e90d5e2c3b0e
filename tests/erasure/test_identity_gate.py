"""The identity gate: cosines along discriminants, less rivalry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import close, cloud, moments

from mllmeraser.erasure.gates import Gate, SoftGate, discriminant_basis, subject_gate
from mllmeraser.erasure.settings import SubjectSettings
from mllmeraser.erasure.states.moments import Moments
from mllmeraser.samples import InputError

WIDTH = 10

RIVALRY = SubjectSettings().rivalry
SHARED = ("centre", "projection", "background_cohort")


def faces(people: int = 12, seed: int = 0) -> list[Tensor]:
    """States of each of several people: around a centre of their own."""
    return [cloud(5 + k % 3, WIDTH, seed * 100 + k, centre=2.0, spread=0.5) for k in range(people)]


def world(seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """States of people to retain, and of three subjects."""
    everybody = faces(15, seed)
    return everybody[:12], everybody[12:]


def gate_of(kept: list[Tensor], forget: list[Tensor], *, cohort: bool = True, rank: int = 6) -> Gate:
    people = [Moments.from_states(states) for states in kept]
    subjects = [Moments.from_states(states) for states in forget]
    basis = discriminant_basis(Moments.from_states(torch.cat(kept)), people, rank=rank)
    return subject_gate(basis, subjects, people if cohort else ())


@pytest.mark.parametrize("cohort", [False, True])
def test_the_score_is_a_cosine_less_rivalry(cohort):
    kept, forget = world()
    gate = gate_of(kept, forget, cohort=cohort)
    states = torch.cat([cloud(9, WIDTH, 77, centre=1.0), forget[0], kept[0]])
    t = {name: tensor.numpy() for name, tensor in gate.tensors.items()}
    centre, projection = torch.cat(kept).numpy().mean(0), t["projection"]
    expected = np.zeros((len(states), 3))
    for row, state in enumerate(states.numpy()):
        point = (state - centre) @ projection
        cosine = lambda mean: point @ mean / np.linalg.norm(point) / np.linalg.norm(mean)  # noqa: B023, E731
        rivals = [cosine((person.numpy().mean(0) - centre) @ projection) for person in kept]
        for column, subject in enumerate(forget):
            own = cosine((subject.numpy().mean(0) - centre) @ projection)
            expected[row, column] = own - (RIVALRY * max(0.0, max(rivals) - own) if cohort else 0.0)
    close(gate.scores(states), torch.from_numpy(expected), 1e-2 if cohort else 1e-8)  # the cohort is held in float16
    assert (gate.width, gate.subjects) == (WIDTH, 3)
    assert ("background_cohort" in gate.tensors) == cohort


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rank", [1, 6, 40])
def test_projections_whiten_what_varies_within_a_person(seed, rank):
    kept, forget = world(seed)
    projection = gate_of(kept, forget, rank=rank).tensors["projection"]
    assert projection.shape == (WIDTH, min(rank, WIDTH))
    everything = torch.cat(kept)
    total = (everything - everything.mean(0)).T @ (everything - everything.mean(0)) / len(everything)
    scatter = sum((states - states.mean(0)).T @ (states - states.mean(0)) for states in kept)
    within = scatter / sum(len(states) - 1 for states in kept) + 0.05 * total
    white = projection.T @ within @ projection
    scale = white.diagonal().mean()  # the largest entry is 1, and float16 holds them all
    assert float(projection.abs().max()) == 1.0 and torch.equal(projection.half().double(), projection)
    close(white / scale, torch.eye(projection.shape[1], dtype=torch.float64), 3e-3)
    # the directions are those in which people differ most: no other whitened direction has more variance
    ratio = torch.linalg.eigvals(torch.linalg.solve(within, total)).real.sort(descending=True).values
    kept_variance = (projection.T @ total @ projection).diagonal().sort(descending=True).values / scale
    close(kept_variance, ratio[: len(kept_variance)], 5e-3)


@pytest.mark.parametrize("cohort", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_mean_of_a_subject_scores_one(seed, cohort):
    kept, forget = world(seed)
    scores = gate_of(kept, forget, cohort=cohort).scores(torch.stack([states.mean(0) for states in forget]))
    close(scores.diagonal(), torch.ones(3, dtype=torch.float64))
    assert (scores <= 1 + 1e-12).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_people_does_not_matter(seed):
    kept, forget = world(seed)
    order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(seed)).tolist()
    states = cloud(40, WIDTH, seed, centre=1.0)
    close(gate_of([kept[i] for i in order], forget).scores(states), gate_of(kept, forget).scores(states))


def test_moments_merged_from_shards_give_the_same_gate():
    kept, forget = world()
    merged = lambda states: Moments.from_states(states[:2]) + Moments.from_states(states[2:])  # noqa: E731
    retain = Moments.from_states(kept[0])
    for states in kept[1:]:
        retain = retain + Moments.from_states(states)
    people, subjects = [merged(states) for states in kept], [merged(states) for states in forget]
    states = cloud(40, WIDTH, 3, centre=1.0)
    sharded = subject_gate(discriminant_basis(retain, people, rank=6), subjects, people)
    close(sharded.scores(states), gate_of(kept, forget).scores(states))


@pytest.mark.parametrize("out", range(3))
def test_a_subject_left_out_does_not_move_the_others(out):
    kept, forget = world()
    states = torch.cat([cloud(40, WIDTH, 3, centre=1.0), *kept, *forget])
    rest = [i for i in range(3) if i != out]
    whole, without = gate_of(kept, forget), gate_of(kept, [forget[i] for i in rest])
    assert torch.equal(without.tensors["weight"], whole.tensors["weight"][rest])
    close(without.scores(states), whole.scores(states)[:, rest])
    close(whole.select(rest).scores(states), whole.scores(states)[:, rest])
    for name in SHARED:
        assert torch.equal(whole.select(rest).tensors[name], whole.tensors[name])


def test_a_subject_without_states_never_scores():
    kept, forget = world()
    people, none = [Moments.from_states(states) for states in kept], Moments.from_states(torch.empty(0, WIDTH))
    basis = discriminant_basis(Moments.from_states(torch.cat(kept)), people)
    gate = subject_gate(basis, [none, Moments.from_states(forget[0])])
    assert (gate.scores(torch.cat(forget))[:, 0] == 0).all()


def test_a_lens_needs_somebody_with_several_states():
    one = [moments(1, WIDTH, k) for k in range(4)]
    with pytest.raises(InputError, match="several states"):
        discriminant_basis(moments(30, WIDTH, 9), one)
    with pytest.raises(InputError, match="retain states"):
        discriminant_basis(Moments.from_states(torch.empty(0, WIDTH)), [moments(5, WIDTH, 1)])
    with pytest.raises(InputError, match="can be merged"):
        SoftGate.merge([gate_of(*world()), gate_of(*world(1))])


def test_a_subject_has_rivals_of_its_own():
    kept, forget = world()
    basis = discriminant_basis(
        Moments.from_states(torch.cat(kept)), [Moments.from_states(states) for states in kept], rank=6
    )
    subjects, states = [Moments.from_states(s) for s in forget], torch.cat([*kept, *forget])
    rivals = torch.stack([basis.seen(kept[k][:2]) for k in range(3)])
    plain, gate = subject_gate(basis, subjects), subject_gate(basis, subjects, impostors=rivals)
    nearest = torch.stack([(basis.seen(states) @ rivals[k].T).amax(1) for k in range(3)], dim=1)
    expected = plain.scores(states) + RIVALRY * (plain.scores(states) - nearest).clamp_max(0.0)
    close(gate.scores(states), expected, 1e-2)  # rivals are held in float16
    close(gate.select([2]).scores(states), gate.scores(states)[:, [2]])
    assert (gate.scores(states) < plain.scores(states) - 0.1).any()
