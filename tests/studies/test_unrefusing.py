"""Taking refusals away: what the plan does to states, and interventions that act one after the other."""

from __future__ import annotations

import pytest
import torch
from steering_kit import count_hooks, make_plan

from mllmeraser.erasure.gates import SoftGate
from mllmeraser.erasure.steering import ErasurePack
from mllmeraser.erasure.steering.plan import SteeringPlan
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import Sample
from mllmeraser.samples.errors import InputError
from mllmeraser.studies.unrefusing import ALWAYS, InTurn, refusal_twins


def along(model: MultimodalModel, axis: int, *, to: float, name: str = "unrefusing") -> SteeringPlan:
    """A plan that sets entry ``axis`` of the last block's state to ``to`` at the last prompt token."""
    layer, unit = model.num_layers - 1, torch.eye(model.hidden_size)[axis]
    gate = SoftGate({"weight": -unit[None]}).affine(torch.ones(1), torch.tensor([to]))
    return SteeringPlan(name, (), (layer,), {layer: unit}, {layer: gate}, ALWAYS, 1.0)


def test_an_always_open_plan_takes_out_what_its_gate_reads(tiny_model: MultimodalModel, samples: list[Sample]) -> None:
    point = HookPoint(tiny_model.num_layers - 1)
    before = tiny_model.states(samples, [point])[point]
    with ErasurePack([along(tiny_model, 3, to=0.25)]).attached(tiny_model):
        after = tiny_model.states(samples, [point])[point]
    torch.testing.assert_close(after[:, 3], torch.full((len(samples),), 0.25), atol=1e-4, rtol=0)
    others = [i for i in range(before.shape[1]) if i != 3]
    assert torch.equal(before[:, others], after[:, others]) and not torch.equal(before[:, 3], after[:, 3])


def test_a_later_intervention_undoes_what_an_earlier_one_adds(
    tiny_model: MultimodalModel, samples: list[Sample]
) -> None:
    point = HookPoint(tiny_model.num_layers - 1)
    unit = torch.eye(tiny_model.hidden_size)[3]
    eraser = make_plan(tiny_model, threshold=-1e9, strength=5.0)
    eraser = SteeringPlan(
        "e", eraser.read_layers, (point.layer,), {point.layer: unit}, eraser.gates, eraser.policy, 5.0, -1e9
    )
    undo = along(tiny_model, 3, to=0.0)

    def third(*parts: SteeringPlan) -> torch.Tensor:
        with InTurn([ErasurePack([part]) for part in parts]).attached(tiny_model):
            return tiny_model.states(samples, [point])[point][:, 3]

    torch.testing.assert_close(third(eraser, undo), torch.zeros(len(samples)), atol=1e-4, rtol=0)
    torch.testing.assert_close(third(undo, eraser), torch.full((len(samples),), 5.0), atol=1e-4, rtol=0)


def test_interventions_in_turn_leave_no_trace_also_when_one_fails(tiny_model: MultimodalModel) -> None:
    before = count_hooks(tiny_model.hf)
    good, bad = (ErasurePack([along(tiny_model, axis, to=0.0)]) for axis in (1, 2))
    with InTurn([good, bad]).attached(tiny_model) as handle:
        assert count_hooks(tiny_model.hf) > before and handle.attached
        assert tiny_model.generate([Sample("Hi")], max_new_tokens=2) is not None
    assert count_hooks(tiny_model.hf) == before and not handle.attached
    layer = tiny_model.num_layers
    wrong = SteeringPlan(
        "x", (), (layer,), {layer: torch.ones(3)}, {layer: SoftGate({"weight": torch.ones(1, 3)})}, ALWAYS, 1
    )
    with pytest.raises(InputError, match="does not exist"):
        InTurn([good, ErasurePack([wrong])]).attach(tiny_model)
    assert count_hooks(tiny_model.hf) == before


def test_twins_differ_in_what_is_restricted_alone() -> None:
    restricted, benign = refusal_twins(4, 0)
    assert len(restricted) == len(benign) == 8 and {s.image is None for s in restricted} == {True, False}
    for one, twin in zip(restricted, benign, strict=True):
        assert one.question.replace("sealed", "open") == twin.question and one.answer != twin.answer
        assert (one.image is None) == (twin.image is None)
    assert refusal_twins(4, 0)[0][0].question == restricted[0].question
