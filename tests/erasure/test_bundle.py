"""Many plans side by side say and do what each does alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from steering_kit import logits, make_plan
from test_identity_policy import subject_plan
from worlds import close

from mllmeraser.erasure.gates import Gate, SoftGate, SubjectGate
from mllmeraser.erasure.policy import PAPER, SUBJECT, TAIL
from mllmeraser.erasure.steering import attach, attach_all
from mllmeraser.erasure.steering.plan import SteeringPlan
from mllmeraser.erasure.steering.plan_group import plan_groups
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import Sample


def others(plan: SteeringPlan, n: int, *, rivals: bool) -> list[SteeringPlan]:
    """The plan and more like it: other subjects seen through the same basis, in growing numbers, other directions."""
    generator = torch.Generator().manual_seed(9)
    made = [replace(plan, name="0")]
    for k in range(1, n):
        gates = {}
        for layer, gate in plan.gates.items():
            assert isinstance(gate, Gate)
            rows = torch.arange(1 + k % 3) % gate.subjects
            mixed = gate.select(rows.tolist())
            weight = mixed.tensors["weight"] + 0.3 * torch.randn(mixed.tensors["weight"].shape, generator=generator)
            tensors = {**mixed.tensors, "weight": weight}
            if rivals and "cohort" in tensors:
                tensors["cohort"] = tensors["cohort"][k % 2 : 3]
            if "rivals" in tensors:
                tensors["rivals"] = tensors["rivals"].roll(k, -1)
            gates[layer] = gate.with_tensors(**tensors)
        directions = {layer: v.roll(k) for layer, v in plan.directions.items()}
        made.append(replace(plan, name=str(k), gates=gates, directions=directions, strength=0.5 + 0.1 * k,
                            threshold=plan.threshold + 0.01 * k))  # fmt: skip
    return made


@pytest.mark.parametrize("rivals", [False, True])
def test_a_bundle_reads_and_shifts_like_each_plan_alone(
    tiny_model: MultimodalModel, samples: list[Sample], rivals: bool
) -> None:
    plan = subject_plan(tiny_model, samples)
    name = plan.gates[plan.reads[0]]
    assert isinstance(name, Gate)
    if rivals:
        own = torch.nn.functional.normalize(torch.randn(name.subjects, 3, name.tensors["weight"].shape[1]), dim=-1)
        plan = replace(plan, gates={**plan.gates, plan.reads[0]: SubjectGate({**name.tensors, "rivals": own})})
    plans = others(plan, 7, rivals=rivals)
    assert [bundle.numbers for bundle in plan_groups(plans)] == [tuple(range(7))]
    rows = [{str(row % 7)} for row in range(len(samples))]
    with attach_all(tiny_model, plans) as handle:
        together = logits(tiny_model, samples)
        seen = handle.readings
        handle.select(rows)
        chosen = logits(tiny_model, samples)
    fired = 0
    for number, plan in enumerate(plans):
        with attach(tiny_model, plan) as handle:
            alone, own = logits(tiny_model, samples), handle.readings
        close(seen.pooled[:, number], own.pooled[:, 0], 1e-5)
        assert torch.equal(seen.amplitudes[:, number], own.amplitudes[:, 0])
        assert seen.per_layer[plan.name].keys() == own.per_layer[plan.name].keys()
        for layer, scores in own.per_layer[plan.name].items():
            close(seen.per_layer[plan.name][layer], scores, 1e-5)
        for row in range(number, len(samples), 7):
            torch.testing.assert_close(chosen[row], alone[row], atol=1e-4, rtol=1e-4)
        fired += int((own.amplitudes > 0).sum())
    assert fired and not torch.equal(together, chosen)


def test_what_differs_stays_apart(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    one = subject_plan(tiny_llava, samples)
    layer = one.reads[0]
    through_another = {k: SubjectGate({**g.tensors, "centre": g.tensors["centre"] + 1}) if k == layer else g
                       for k, g in one.gates.items()}  # fmt: skip
    plans = [
        one,
        make_plan(tiny_llava, TAIL, threshold=0.0),
        replace(one, gates=through_another),
        replace(one, shift_layers=one.shift_layers[:1]),
        make_plan(tiny_llava, PAPER, threshold=0.0),
        replace(one, strength=0.0),
        one,
    ]
    assert [bundle.numbers for bundle in plan_groups(plans)] == [(0, 6), (1,), (2,), (3,), (4,), (5,)]
    assert plan_groups(plans)[0].plan.policy == SUBJECT


def test_columns_are_those_of_the_plans_however_they_are_bundled(
    tiny_llava: MultimodalModel, samples: list[Sample]
) -> None:
    one = subject_plan(tiny_llava, samples)
    tail = make_plan(tiny_llava, TAIL, threshold=0.0)
    plans = [replace(one, name="a"), replace(tail, name="b"), replace(one, name="c", threshold=one.threshold - 0.2)]
    with attach_all(tiny_llava, plans) as handle:
        logits(tiny_llava, samples)
        seen = handle.readings
    assert seen.names == ("a", "b", "c")
    for number, plan in enumerate(plans):
        with attach(tiny_llava, plan) as handle:
            logits(tiny_llava, samples)
            close(seen.pooled[:, number], handle.readings.pooled[:, 0], 1e-5)


def test_gates_put_together_score_as_before() -> None:
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    gates = [SoftGate({"weight": draw(n, 6)}).affine(draw(n), draw(n)) for n in (1, 3, 2)]
    states = draw(5, 6)
    close(gates[0].merge(gates).scores(states), torch.cat([gate.scores(states) for gate in gates], dim=1), 1e-6)
    assert SoftGate.merge(gates[:1]) is gates[0]
