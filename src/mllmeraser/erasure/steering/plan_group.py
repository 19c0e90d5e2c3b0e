"""Plans side by side, and their scores in a pass.

Plans that read and shift alike are merged, so that many cost little more than one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mllmeraser.erasure.gates import NO_SITE, Gate
from mllmeraser.erasure.policy import Positions
from mllmeraser.erasure.states import image_spans
from mllmeraser.erasure.steering.plan import LayerGate, SteeringPlan
from mllmeraser.erasure.steering.reply import Replies


class PlanGroup:
    """Plans with one policy, the same layers, and gates that fit together.

    Attributes:
        numbers: Numbers of the plans among all that are attached.
        plan: The first plan, for what all have in common, with the group's gates and directions.
        owners: (subjects,) position in `numbers` of the plan of each subject.
    """

    def __init__(self, numbers: Sequence[int], plans: Sequence[SteeringPlan]) -> None:
        """Merge `plans` (see `plan_groups`)."""
        self.numbers = tuple(numbers)
        gates = {layer: _merged([plan.gates[layer] for plan in plans]) for layer in plans[0].reads}
        sizes = [_subjects(plan) for plan in plans]
        self.owners = torch.repeat_interleave(torch.arange(len(plans)), torch.tensor(sizes))
        self._even = sizes[0] if len(set(sizes)) == 1 else None
        self._strengths = torch.tensor([plan.strength for plan in plans])
        self._thresholds = torch.tensor([plan.threshold for plan in plans])
        layers = sorted(set(plans[0].shift_layers))
        self._directions = {layer: torch.stack([p.directions[layer].detach() for p in plans]) for layer in layers}
        # The plans' own tensors are not kept beside the merged ones.
        first = {layer: rows[0] for layer, rows in self._directions.items()}
        self.plan = replace(plans[0], gates=gates, directions=first)
        self._placed: dict[tuple[str, int, torch.device], Tensor] = {}
        self._gates: dict[tuple[int, torch.device], LayerGate] = {}

    def gate(self, layer: int, device: torch.device) -> LayerGate:
        """The gates of all subjects at a layer, float32, on a device; moved there once."""
        key = (layer, device)
        if key not in self._gates:
            self._gates[key] = self.plan.gates[layer].to(device=device, dtype=torch.float32)
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

    def tensors(self) -> Iterator[Tensor]:
        """All tensors that it holds on the model's device, after the first prompt."""
        yield from self._placed.values()
        for gate in self._gates.values():
            yield from gate.tensors.values() if isinstance(gate, Gate) else ()

    def subjects_of(self, position: int) -> slice:
        """Columns of the subjects of the plan at a position in `numbers`."""
        if len(self.numbers) == 1:
            return slice(None)
        mine = (self.owners == position).nonzero().flatten()
        return slice(int(mine[0]), int(mine[-1]) + 1)

    def _on(self, name: str, layer: int, tensor: Tensor, device: torch.device) -> Tensor:
        key = (name, layer, device)
        if key not in self._placed:
            self._placed[key] = tensor.to(device, torch.float32 if tensor.is_floating_point() else tensor.dtype)
        return self._placed[key]


def plan_groups(plans: Sequence[SteeringPlan]) -> tuple[PlanGroup, ...]:
    """The plans in as few groups as policies, layers and gates allow, in the order of the first plan of each."""
    groups: list[tuple[object, list[int]]] = []
    for number, plan in enumerate(plans):
        key = (plan.policy, plan.reads, tuple(sorted(set(plan.shift_layers))), plan.strength > 0.0, plan.image_token,
               plan.turns)  # fmt: skip
        for known, members in groups:
            if known == key and _fit_together(plans[members[0]], plan):
                members.append(number)
                break
        else:
            groups.append((key, [number]))
    return tuple(PlanGroup(members, [plans[n] for n in members]) for _, members in groups)


def _fit_together(one: SteeringPlan, other: SteeringPlan) -> bool:
    pairs = [(one.gates[layer], other.gates[layer]) for layer in one.reads]
    return all(isinstance(a, Gate) and isinstance(b, Gate) and a.fits_with(b) for a, b in pairs)


def _merged(gates: Sequence[LayerGate]) -> LayerGate:
    """One gate for the subjects of all; gates of other packages stand alone."""
    if len(gates) == 1:
        return gates[0]
    own = [gate for gate in gates if isinstance(gate, Gate)]
    return own[0].merge(own)


def _subjects(plan: SteeringPlan) -> int:
    """Subjects of a plan; a gate of another package counts as one if it does not say."""
    return int(getattr(plan.gates[plan.reads[0]], "subjects", 1))


class PlanStack:
    """All attached plans, in order: which groups read and which shift at each layer.

    Attributes:
        groups: The plans in groups that read and shift alike.
        readers: Layer -> numbers of the groups that read there.
        shifters: Layer -> kind of positions -> numbers of the groups that shift there.
        layers: Every layer that needs a hook, sorted.
        steers_decoding: Numbers of the groups that also steer decoded tokens.
        masking: Numbers of the groups that mask a prompt from its answer.
        replies: The sentences of the plans that reply.
        reads_images: Whether any group reads faces.
        turns: The marks of turns, if any group tells turns apart; erasers of one model agree on them.
    """

    def __init__(self, plans: Sequence[SteeringPlan]) -> None:
        """Sort `plans` by layer."""
        self.names = tuple(plan.name for plan in plans)
        self.groups = plan_groups(plans)
        self.readers: dict[int, list[int]] = defaultdict(list)
        self.shifters: dict[int, dict[Positions, list[int]]] = defaultdict(lambda: defaultdict(list))
        for number, group in enumerate(self.groups):
            for layer in group.plan.reads:
                self.readers[layer].append(number)
            for layer in group.plan.shifts:
                self.shifters[layer][group.plan.policy.positions].append(number)
        self.layers = sorted({*self.readers, *self.shifters})
        policies = list(enumerate(group.plan.policy for group in self.groups))
        self.steers_decoding = tuple(number for number, policy in policies if policy.decode)
        self.masking = tuple(number for number, policy in policies if policy.masks_prompt and policy.shifts)
        self.replies = Replies(plans)
        self.reads_images = any(policy.pooling == "subject" for _, policy in policies)
        self.token_kinds = next((g.plan.token_kinds for g in self.groups if g.plan.token_kinds is not None), None)
        self.turns = next((g.plan.turns for g in self.groups if g.plan.turns is not None), None)
        order = [number for group in self.groups for number in group.numbers]
        self._columns = None if order == sorted(order) else torch.tensor(order).argsort()

    def in_order(self, columns: Sequence[Tensor]) -> Tensor:
        """(rows, plans) in the order of the plans, of (rows, plans of the group) for each group."""
        table = torch.cat(list(columns), dim=-1)
        return table if self._columns is None else table[:, self._columns.to(table.device)]


@dataclass(frozen=True)
class Readings:
    """Gate scores and amplitudes of the last batch of prompts. Rows are those of the model, beams included.

    Attributes:
        names: Attached erasers, the columns of `pooled` and `amplitudes`.
        pooled: (rows, erasers) score of the decision, maximum over subjects. It is -inf if a prompt names and shows
            no person, and NaN if the last prompt token has not passed yet.
        amplitudes: (rows, erasers) phi of the pooled score; 0 if the row did not select the eraser.
        by_group: For each group, layer -> (rows, subjects) scores of all its subjects.
    """

    names: tuple[str, ...]
    pooled: Tensor
    amplitudes: Tensor
    by_group: tuple[Mapping[int, Tensor], ...]
    _groups: tuple[PlanGroup, ...]

    @property
    def per_layer(self) -> Mapping[str, Mapping[int, Tensor]]:
        """Eraser -> layer -> (rows, subjects) scores."""
        return {
            self.names[number]: {layer: scores[:, group.subjects_of(i)] for layer, scores in read.items()}
            for group, read in zip(self._groups, self.by_group, strict=True)
            for i, number in enumerate(group.numbers)
        }


class SiteScores:
    """Scores and amplitudes in one pass, at the prompt or at the decoded tokens."""

    def __init__(self, stack: PlanStack, selection: Tensor | None) -> None:
        self._groups = stack.groups
        self._selection = selection
        self.by_group: dict[int, dict[int, Tensor]] = defaultdict(dict)
        self._decided: dict[int, Tensor] = {}

    def read(self, number: int, layer: int, states: Tensor) -> None:
        """Keep the scores (rows, sites, subjects) of states (rows, sites, d) at the gates of a group."""
        self.by_group[number][layer] = self._scored(number, layer, states)

    def read_highest(self, number: int, layer: int, states: Tensor, where: Tensor) -> None:
        """Keep the highest score (rows, 1, subjects) over the positions `where` (rows, length)."""
        if image_spans.may_look(states.device):  # score only the states that are needed
            row, column = where.nonzero(as_tuple=True)
            scores = self._scored(number, layer, states[row, column][None])[0]
            lowest = scores.new_full((states.shape[0], scores.shape[-1]), NO_SITE)
            highest = lowest.scatter_reduce(0, row[:, None].expand_as(scores), scores, "amax")
            self.by_group[number][layer] = highest[:, None]
            return
        scores = self._scored(number, layer, states)
        lowest = torch.full_like(scores, NO_SITE)
        self.by_group[number][layer] = torch.where(where[..., None], scores, lowest).amax(1, keepdim=True)

    def find_all(self, number: int, layer: int, missing: Tensor) -> None:
        """Where `missing` () holds, count every subject as found at this site, in every row (GPU only)."""
        if not image_spans.may_look(missing.device):
            scores = self.by_group[number][layer]
            self.by_group[number][layer] = torch.where(missing, torch.full_like(scores, -NO_SITE), scores)

    def skip(self, number: int, layer: int, states: Tensor) -> None:
        """Keep that no row has this site."""
        subjects = self._groups[number].owners.numel()
        self.by_group[number][layer] = states.new_full((states.shape[0], 1, subjects), NO_SITE, dtype=torch.float32)

    def _scored(self, number: int, layer: int, states: Tensor) -> Tensor:
        flat = states.reshape(-1, states.shape[-1]).float()
        scores = self._groups[number].gate(layer, states.device).scores(flat)
        return scores.reshape(*states.shape[:2], scores.shape[-1])

    def amplitude(self, number: int, layer: int) -> Tensor:
        """(rows, sites, plans) s * a of the plans of a group at a layer; 0 on rows that did not select them."""
        group = self._groups[number]
        if group.plan.policy.read == "per-layer":
            return self._strong(group, self.by_group[number][layer])
        if number not in self._decided:
            scores = list(self.by_group[number].values())
            combined = group.plan.policy.combine([score.to(scores[-1].device) for score in scores])
            self._decided[number] = self._strong(group, combined)
        return self._decided[number]

    def _strong(self, group: PlanGroup, scores: Tensor) -> Tensor:
        amplitude = group.amplitude(group.per_plan(scores)) * group.strengths(scores.device)
        if self._selection is None:
            return amplitude
        chosen = self._selection[:, None, list(group.numbers)].to(amplitude.device)
        return torch.where(chosen, amplitude, torch.zeros_like(amplitude))
