"""Plans side by side, and which of them read and which shift at a layer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from mllmeraser.erasure.policy import Positions
from mllmeraser.erasure.steering.plan import SteeringPlan
from mllmeraser.erasure.steering.plan_group import plan_groups


class PlanStack:
    """Plans side by side: which of them read and which shift at a layer, with tensors where the states are.

    Attributes:
        names: Of the plans, in order; the number of a plan is its column everywhere.
        bundles: The same, those together that read and shift alike.
        readers: Layer -> numbers of the bundles that read there.
        shifters: Layer -> kind of positions -> numbers of the bundles that shift there.
        layers: Every layer that needs a hook, sorted.
        steers_decoding: Numbers of the bundles that also steer decoded tokens.
        hiders: Numbers of the bundles that hide a prompt from its answer.
        looks: Whether any looks for faces.
    """

    def __init__(self, plans: Sequence[SteeringPlan]) -> None:
        """Sort `plans` by layer."""
        self.names = tuple(plan.name for plan in plans)
        self.bundles = plan_groups(plans)
        self.readers: dict[int, list[int]] = defaultdict(list)
        self.shifters: dict[int, dict[Positions, list[int]]] = defaultdict(lambda: defaultdict(list))
        for number, bundle in enumerate(self.bundles):
            for layer in bundle.plan.reads:
                self.readers[layer].append(number)
            for layer in bundle.shifts:
                self.shifters[layer][bundle.plan.policy.positions].append(number)
        self.layers = sorted({*self.readers, *self.shifters})
        self.steers_decoding = tuple(n for n, bundle in enumerate(self.bundles) if bundle.plan.policy.decode)
        self.hiders = tuple(n for n, bundle in enumerate(self.bundles) if bundle.plan.policy.masks_prompt)
        self.looks = any(bundle.plan.policy.pooling == "subject" for bundle in self.bundles)
        order = [number for bundle in self.bundles for number in bundle.numbers]
        self._columns = None if order == sorted(order) else torch.tensor(order).argsort()

    def in_order(self, columns: Sequence[Tensor]) -> Tensor:
        """(rows, plans) of what each bundle says, (rows, plans of the bundle), in the order of the plans."""
        table = torch.cat(list(columns), dim=-1)
        return table if self._columns is None else table[:, self._columns.to(table.device)]
