"""Plans that read and shift alike, side by side: their gates become one, so that many cost little more than one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mllmeraser.erasure.gates.base import Gate
from mllmeraser.erasure.steering.plan import LayerGate, SteeringPlan

LENS = ("centre", "projection")
BY_SUBJECT = ("weight", "rivals", "apart", "least", "scale", "offset")


class PlanGroup:
    """Plans with one policy and the same layers, whose gates could be put together.

    Attributes:
        numbers: Numbers of the plans among all that are attached.
        plan: The first of them, for all that they have in common; its tensors are the bundle's own.
        owners: (subjects,) position in `numbers` of the plan that each subject belongs to.
        gates: Layer -> the gates of all subjects.
    """

    def __init__(self, numbers: Sequence[int], plans: Sequence[SteeringPlan]) -> None:
        """Put ``plans`` together; their gates have to allow it (see `plan_groups`)."""
        self.numbers = tuple(numbers)
        self.gates = {layer: merged([plan.gates[layer] for plan in plans]) for layer in plans[0].reads}
        sizes = [_subjects(plan) for plan in plans]
        self.owners = torch.repeat_interleave(torch.arange(len(plans)), torch.tensor(sizes))
        self._even = sizes[0] if len(set(sizes)) == 1 else None
        self._strengths = torch.tensor([plan.strength for plan in plans])
        self._thresholds = torch.tensor([plan.threshold for plan in plans])
        layers = sorted(set(plans[0].shift_layers))
        self._directions = {layer: torch.stack([p.directions[layer].detach() for p in plans]) for layer in layers}
        # nothing of the plans is kept beside what was made of them
        first = {layer: rows[0] for layer, rows in self._directions.items()}
        self.plan = replace(plans[0], gates=self.gates, directions=first)
        self._placed: dict[tuple[str, int, torch.device], Tensor] = {}
        self._gates: dict[tuple[int, torch.device], LayerGate] = {}

    @property
    def shifts(self) -> tuple[int, ...]:
        """Layers after which it shifts: none at strength 0, so that the states stay bit-identical."""
        return tuple(sorted(set(self.plan.shift_layers))) if self.plan.strength > 0.0 else ()

    def gate(self, layer: int, device: torch.device) -> LayerGate:
        """The gates of all subjects at a layer, float32, on a device; moved there once."""
        key = (layer, device)
        if key not in self._gates:
            self._gates[key] = self.gates[layer].to(device=device, dtype=torch.float32)
        return self._gates[key]

    def directions(self, layer: int, device: torch.device) -> Tensor:
        """(plans, d) directions at a layer, float32."""
        return self._on("directions", layer, self._directions[layer], device)

    def per_plan(self, scores: Tensor) -> Tensor:
        """(..., plans) largest of the scores (..., subjects) of each plan's subjects."""
        if len(self.numbers) == 1:
            return scores.amax(-1, keepdim=True)
        if self._even is not None:
            return scores.unflatten(-1, (-1, self._even)).amax(-1)
        owners = self._on("owners", 0, self.owners, scores.device).expand_as(scores)
        lowest = scores.new_full((*scores.shape[:-1], len(self.numbers)), -torch.inf)
        return lowest.scatter_reduce(-1, owners, scores, "amax")

    def amplitude(self, scores: Tensor) -> Tensor:
        """(..., plans) phi of the plans' scores (..., plans)."""
        return self.plan.policy.amplitude(scores, self._on("thresholds", 0, self._thresholds, scores.device))

    def strengths(self, device: torch.device) -> Tensor:
        """(plans,) strengths, float32."""
        return self._on("strengths", 0, self._strengths, device)

    def tensors(self) -> list[Tensor]:
        """Everything it holds where the model is, once something went through."""
        gates = [gate for gate in self._gates.values() if isinstance(gate, Gate)]
        return [*self._placed.values(), *(tensor for gate in gates for tensor in gate.tensors.values())]

    def subjects_of(self, position: int) -> slice:
        """Columns of the subjects of the plan at a position in `numbers`."""
        if len(self.numbers) == 1:
            return slice(None)
        mine = (self.owners == position).nonzero().flatten()
        return slice(int(mine[0]), int(mine[-1]) + 1)

    def _on(self, name: str, layer: int, tensor: Tensor, device: torch.device) -> Tensor:
        key = (name, layer, device)
        if key not in self._placed:
            floating = tensor.is_floating_point()
            self._placed[key] = tensor.to(device, torch.float32) if floating else tensor.to(device)
        return self._placed[key]


def plan_groups(plans: Sequence[SteeringPlan]) -> tuple[PlanGroup, ...]:
    """The plans in as few bundles as their policies, layers and gates allow, in the order of the first of each."""
    groups: list[tuple[object, list[int]]] = []
    for number, plan in enumerate(plans):
        key = (plan.policy, plan.reads, tuple(sorted(set(plan.shift_layers))), plan.strength > 0.0, plan.image_token)
        for known, members in groups:
            if known == key and _fit_together(plans[members[0]], plan):
                members.append(number)
                break
        else:
            groups.append((key, [number]))
    return tuple(PlanGroup(members, [plans[n] for n in members]) for _, members in groups)


def _fit_together(one: SteeringPlan, other: SteeringPlan) -> bool:
    return all(_same_kind(one.gates[layer], other.gates[layer]) for layer in one.reads)


def _same_kind(one: LayerGate, other: LayerGate) -> bool:
    if not isinstance(one, Gate) or not isinstance(other, Gate) or one.kind != other.kind:
        return False
    if one.tensors.keys() != other.tensors.keys():
        return False
    shared = LENS if one.kind == "subject" else ()
    return all(
        one.tensors[name] is other.tensors[name] or torch.equal(one.tensors[name], other.tensors[name])
        for name in shared
    ) and all(
        tensor.shape[1:] == other.tensors[name].shape[1:] for name, tensor in one.tensors.items() if name not in shared
    )


def merged(gates: Sequence[LayerGate]) -> LayerGate:
    """One gate for the subjects of all, in order; each scores as before."""
    if len(gates) == 1:
        return gates[0]
    own = [gate for gate in gates if isinstance(gate, Gate)]
    assert len(own) == len(gates), "gates of other kinds stand alone"
    if own[0].kind != "subject":
        return Gate.stack(own)
    first = own[0].tensors
    rows = {name: torch.cat([gate.tensors[name] for gate in own]) for name in BY_SUBJECT if name in first}
    tensors = {**{name: first[name] for name in LENS}, **rows}
    if "cohort" in first:
        tensors |= _cohort(own)
    return Gate("subject", tensors)


def _cohort(gates: Sequence[Gate]) -> dict[str, Tensor]:
    """Everybody's competitors, each person once, and with whom they compete where that differs."""
    place: dict[bytes, int] = {}
    people, lists = [], []
    for gate in gates:
        mine = []
        for row in gate.tensors["cohort"]:
            key = row.cpu().numpy().tobytes()
            if key not in place:
                place[key] = len(place)
                people.append(row)
            mine.append(place[key])
        lists.append(mine)
    cohort = torch.stack(people)
    if all(len(mine) == len(people) for mine in lists):
        return {"cohort": cohort}
    competes = torch.zeros(sum(gate.subjects for gate in gates), len(people), dtype=cohort.dtype, device=cohort.device)
    row = 0
    for gate, mine in zip(gates, lists, strict=True):
        competes[row : row + gate.subjects, mine] = 1
        row += gate.subjects
    return {"cohort": cohort, "competes": competes}


def _subjects(plan: SteeringPlan) -> int:
    """Subjects of a plan; a gate of another package counts as one where it does not say."""
    return int(getattr(plan.gates[plan.reads[0]], "subjects", 1))
