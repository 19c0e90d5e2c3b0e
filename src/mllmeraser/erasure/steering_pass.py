"""One forward pass of an attached model: gates are read, amplitudes follow, states are shifted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mllmeraser.erasure.image_runs import run_ends, run_means
from mllmeraser.erasure.plan import LayerGate, Site, SteeringPlan
from mllmeraser.erasure.policy import Positions
from mllmeraser.erasure.prompt_geometry import PromptSites, decoded_sites, prompt_sites
from mllmeraser.erasure.prompt_tracker import PromptTracker, Span
from mllmeraser.samples.errors import AttachError, InputError

NOWHERE = -1e4
"""Score of a site that a prompt does not have, such as a face in a prompt without an image."""


@dataclass(frozen=True)
class Readings:
    """What the gates said about the last batch of prompts; rows are those of the model, beams included.

    Attributes:
        names: Attached erasers, the columns of `pooled` and `amplitudes`.
        pooled: (rows, erasers) score pooled over layers, maximum over subjects; NaN where the last prompt
            token has not come by yet.
        amplitudes: (rows, erasers) phi of the pooled score; 0 where the row did not select the eraser.
        per_layer: Eraser -> layer -> (rows, subjects) scores.
    """

    names: tuple[str, ...]
    pooled: Tensor
    amplitudes: Tensor
    per_layer: Mapping[str, Mapping[int, Tensor]]


class Stack:
    """Plans side by side: which of them read and which shift at a layer, with tensors where the states are.

    Attributes:
        plans: The plans, in order; the number of a plan is its column everywhere.
        readers: Layer -> numbers of the plans that read there.
        shifters: Layer -> kind of positions -> numbers of the plans that shift there.
        layers: Every layer that needs a hook, sorted.
        steers_decoding: Numbers of the plans that also steer decoded tokens.
    """

    def __init__(self, plans: Sequence[SteeringPlan]) -> None:
        """Sort `plans` by layer."""
        self.plans = tuple(plans)
        self.readers: dict[int, list[int]] = defaultdict(list)
        self.shifters: dict[int, dict[Positions, list[int]]] = defaultdict(lambda: defaultdict(list))
        for number, plan in enumerate(self.plans):
            for layer in plan.reads:
                self.readers[layer].append(number)
            # At strength 0 there is nothing to add: no arithmetic at all keeps the states bit-identical.
            for layer in sorted(set(plan.shift_layers)) if plan.strength > 0.0 else ():
                self.shifters[layer][plan.policy.positions].append(number)
        self.layers = sorted({*self.readers, *self.shifters})
        self.steers_decoding = tuple(n for n, plan in enumerate(self.plans) if plan.policy.decode)
        self._gates: dict[tuple[int, int, torch.device], LayerGate] = {}
        self._directions: dict[tuple[int, tuple[int, ...], torch.device], Tensor] = {}

    def gate(self, number: int, layer: int, device: torch.device) -> LayerGate:
        """Gates of plan `number` at `layer`, on `device`; moved there once."""
        key = (number, layer, device)
        if key not in self._gates:
            self._gates[key] = self.plans[number].gates[layer].to(device=device, dtype=torch.float32)
        return self._gates[key]

    def directions(self, layer: int, numbers: Sequence[int], device: torch.device) -> Tensor:
        """(plans, d) directions of the plans `numbers` at `layer`, float32, on `device`; moved there once."""
        key = (layer, tuple(numbers), device)
        if key not in self._directions:
            rows = [self.plans[number].directions[layer] for number in numbers]
            self._directions[key] = torch.stack([row.detach().to(device, torch.float32) for row in rows])
        return self._directions[key]


class _Scores:
    """Scores and amplitudes, in one pass, at the last prompt tokens or at the decoded tokens."""

    def __init__(self, stack: Stack, selection: Tensor | None) -> None:
        self._stack = stack
        self._selection = selection
        self.by_plan: dict[int, dict[int, Tensor]] = defaultdict(dict)
        self._decided: dict[int, Tensor] = {}

    def read(self, number: int, layer: int, states: Tensor) -> None:
        """Score states (rows, sites, d) with the gates of a plan: (rows, sites, subjects), kept."""
        flat = states.reshape(-1, states.shape[-1]).float()
        scores = self._stack.gate(number, layer, states.device).scores(flat)
        self.by_plan[number][layer] = scores.reshape(*states.shape[:2], -1)

    def read_most(self, number: int, layer: int, states: Tensor, where: Tensor) -> None:
        """The largest score of each subject over the positions `where` (rows, length): (rows, 1, subjects), kept."""
        flat = states.reshape(-1, states.shape[-1]).float()
        scores = self._stack.gate(number, layer, states.device).scores(flat).reshape(*states.shape[:2], -1)
        lowest = torch.full_like(scores, NOWHERE)
        self.by_plan[number][layer] = torch.where(where[..., None], scores, lowest).amax(1, keepdim=True)

    def amplitude(self, number: int, layer: int) -> Tensor:
        """(rows, sites) s * a of a plan at a layer; 0 on rows that did not select it."""
        plan = self._stack.plans[number]
        if plan.policy.read == "per-layer":
            return self._selected(number, self._strong(plan, self.by_plan[number][layer].amax(-1)))
        if number not in self._decided:
            scores = list(self.by_plan[number].values())
            pooled = plan.policy.pool([score.to(scores[-1].device) for score in scores])
            self._decided[number] = self._selected(number, self._strong(plan, pooled))
        return self._decided[number]

    def _strong(self, plan: SteeringPlan, scores: Tensor) -> Tensor:
        return plan.policy.amplitude(scores, plan.threshold) * plan.strength

    def _selected(self, number: int, amplitude: Tensor) -> Tensor:
        if self._selection is None:
            return amplitude
        chosen = self._selection[:, number, None].to(amplitude.device)
        return torch.where(chosen, amplitude, torch.zeros_like(amplitude))


class SteeringPass:
    """State of one forward pass; made before it, dropped after it.

    Attributes:
        span: Columns this pass carries.
        sites: Prompt positions, or None if this pass has none.
    """

    def __init__(
        self,
        stack: Stack,
        tracker: PromptTracker,
        span: Span,
        inputs: Mapping[str, Any],
        selection: Tensor | None,
    ) -> None:
        """Find the sites of the pass with arguments `inputs`.

        Raises:
            AttachError: If the prompt cannot be found.
            InputError: If the selection is for another number of rows.
        """
        self.span = span
        self._stack = stack
        self._ids: Tensor | None = inputs.get("input_ids")
        self._chosen = _rows_of(selection, span)
        self.sites: PromptSites | None = None
        if span.has_prompt:
            self.sites = prompt_sites(span, inputs, tracker.given_mask(span))
        decodes = bool(stack.steers_decoding) and span.has_decoded
        self._decoded: Tensor | None = decoded_sites(span, inputs) if decodes else None
        self._prompt_scores = _Scores(stack, self._chosen)
        self._decode_scores = _Scores(stack, self._chosen)
        self._moved: dict[tuple[str, torch.device], Tensor] = {}

    def after_block(self, layer: int, states: Tensor) -> Tensor:
        """States (rows, length, d) after block `layer`, shifted where policy and gates say so.

        Positions that are not shifted keep their bits; nothing here waits for the device.

        Raises:
            AttachError: If the states are not those of this pass.
        """
        if self.sites is None and self._decoded is None:
            return states
        if states.shape[:2] != (self.span.rows, self.span.length):
            raise AttachError(
                f"block {layer} carries {tuple(states.shape[:2])} states, the input has "
                f"{(self.span.rows, self.span.length)} tokens: this model changes the length on the way"
            )
        with torch.autocast(states.device.type, enabled=False):
            self._read(layer, states)
            for positions, numbers in self._stack.shifters.get(layer, {}).items():
                states = self._shift(layer, positions, numbers, states)
        return states

    def _read(self, layer: int, states: Tensor) -> None:
        numbers = self._stack.readers.get(layer, [])
        if self.sites is not None and numbers:
            index = self._on("index", self.sites.index, states.device)
            last = states[torch.arange(self.span.rows, device=states.device), index]
            for number in numbers:
                site = self._stack.plans[number].site(layer)
                if site == "last":
                    self._prompt_scores.read(number, layer, last[:, None])
                    continue
                where = self._on(f"{site} of {number}", self._tokens(number, site), states.device)
                if site == "text":
                    self._prompt_scores.read_most(number, layer, states, where)
                else:
                    self._prompt_scores.read_most(number, layer, run_means(states, where), run_ends(where))
        if self._decoded is not None:
            for number in numbers:
                if self._stack.plans[number].policy.decode:
                    self._decode_scores.read(number, layer, states)

    def _tokens(self, number: int, site: Site) -> Tensor:
        """(rows, length) real text tokens of the prompt, or its image placeholders."""
        assert self.sites is not None
        if self._ids is None:
            raise AttachError("the eraser looks for a person in the prompt's tokens: give input_ids, not embeddings")
        token = self._stack.plans[number].image_token
        image = torch.zeros_like(self._ids, dtype=torch.bool) if token is None else self._ids.eq(token)
        return self.sites.prompt & (~image if site == "text" else image)

    def _shift(self, layer: int, positions: Positions, numbers: list[int], states: Tensor) -> Tensor:
        if self.sites is not None:
            where = self.sites.prompt if positions == "prompt" else self.sites.last
            where = self._on(positions, where, states.device)
            states = self._add(layer, numbers, states, self._prompt_scores, where)
        decoding = [number for number in numbers if self._stack.plans[number].policy.decode]
        if self._decoded is not None and decoding:
            where = self._on("decoded", self._decoded, states.device)
            states = self._add(layer, decoding, states, self._decode_scores, where)
        return states

    def _add(self, layer: int, numbers: list[int], states: Tensor, scores: _Scores, where: Tensor) -> Tensor:
        """Add sum_k (s_k a_k) v_k at the positions `where` (rows, length) with an amplitude that is not 0."""
        amplitudes = torch.stack([scores.amplitude(n, layer).to(states.device) for n in numbers], dim=-1)
        shift = amplitudes @ self._stack.directions(layer, numbers, states.device)
        touched = where & (amplitudes != 0).any(-1)
        return torch.where(touched[..., None], states + shift.to(states.dtype), states)

    def _on(self, name: str, tensor: Tensor, device: torch.device) -> Tensor:
        key = (name, device)
        if key not in self._moved:
            self._moved[key] = tensor.to(device)
        return self._moved[key]

    def readings(self, before: Readings | None) -> Readings:
        """What the gates said at the last prompt tokens; rows seen in an earlier piece are kept."""
        assert self.sites is not None
        found = self.sites.found
        before = None if self.span.fresh else before
        per_layer: dict[str, dict[int, Tensor]] = {}
        pooled, amplitudes = [], []
        for number, plan in enumerate(self._stack.plans):
            read = self._prompt_scores.by_plan[number]
            scores = {layer: score[:, 0].detach().to(found.device) for layer, score in read.items()}
            old = before.per_layer[plan.name] if before else {}
            per_layer[plan.name] = {k: _merge(found, v, old.get(k)) for k, v in scores.items()}
            pooled.append(plan.policy.pool(list(per_layer[plan.name].values())))
            amplitudes.append(plan.policy.amplitude(pooled[-1], plan.threshold))
        table = torch.stack(amplitudes, dim=-1)
        if self._chosen is not None:
            table = torch.where(self._chosen.to(table.device), table, torch.zeros_like(table))
        names = tuple(plan.name for plan in self._stack.plans)
        return Readings(names, torch.stack(pooled, dim=-1), table, per_layer)


def _merge(found: Tensor, new: Tensor, old: Tensor | None) -> Tensor:
    return torch.where(found[:, None], new, torch.full_like(new, torch.nan) if old is None else old)


def _rows_of(selection: Tensor | None, span: Span) -> Tensor | None:
    """A selection (requests, erasers) as one per row of the batch; beams repeat that of their request."""
    if selection is None:
        return None
    chosen = selection.repeat_interleave(span.repeats, dim=0)
    if chosen.shape[0] != span.rows:
        rows = span.rows // span.repeats
        raise InputError(f"the selection is for {selection.shape[0]} rows, the batch has {rows}")
    return chosen
