"""One forward pass of an attached model: read the gates, decide the amplitudes, shift the states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from mllmeraser.erasure.gates import NO_SITE
from mllmeraser.erasure.policy import Positions
from mllmeraser.erasure.states import image_spans
from mllmeraser.erasure.steering.conversation.isolation import visible
from mllmeraser.erasure.steering.conversation.reading import TurnReading
from mllmeraser.erasure.steering.conversation.turns import Turns, find_turns, points_back
from mllmeraser.erasure.steering.media_inputs import MediaInputs, may_hold_pictures
from mllmeraser.erasure.steering.plan import Site
from mllmeraser.erasure.steering.plan_group import PlanStack, Readings, SiteScores
from mllmeraser.erasure.steering.prompt_positions import PromptSites, decoded_sites, prompt_sites
from mllmeraser.erasure.steering.prompt_tracker import PromptTracker, Span
from mllmeraser.samples.errors import AttachError, InputError


class SteeringPass:
    """State of one forward pass over the columns `span`; made before it, dropped after it.

    `sites` are the prompt positions; None if the pass holds none.
    """

    def __init__(
        self,
        stack: PlanStack,
        tracker: PromptTracker,
        span: Span,
        inputs: Mapping[str, Any],
        selection: Tensor | None,
        media: MediaInputs | None = None,
    ) -> None:
        """Find the prompt of the pass with the arguments `inputs`, which holds the pictures of `media`."""
        self.span, self._stack = span, stack
        self._ids: Tensor | None = inputs.get("input_ids")
        # The largest possible number of pictures. The true one is unknown without waiting for the device.
        self._pictures = (span.length + 1) // 2 if may_hold_pictures(inputs) else 0
        self._media = media or MediaInputs()
        self._ran: set[int] = set()
        self._chosen = _rows_of(selection, span)
        self.sites: PromptSites | None = None
        if span.has_prompt:
            self.sites = prompt_sites(span, inputs, tracker.given_mask(span))
        decodes = bool(stack.steers_decoding) and span.has_decoded
        self._decoded: Tensor | None = decoded_sites(span, inputs) if decodes else None
        # Then no position has to keep its bits: an amplitude of 0 moves a state by 0.
        self._all_decoded = (
            self._decoded is not None and image_spans.may_look(self._decoded.device) and bool(self._decoded.all())
        )
        self._prompt_scores, self._decode_scores = (SiteScores(stack, self._chosen) for _ in range(2))
        self._turns = self._find_turns()
        self.turn_reading = self._conversation()
        self._moved: dict[tuple[str, torch.device], Tensor] = {}

    def _find_turns(self) -> Turns | None:
        form = self._stack.turns
        if self.sites is None or form is None or self._ids is None:
            return None
        return find_turns(self._ids, self.sites.prompt, form)

    def _images(self) -> Tensor:
        """(rows, length) bool: placeholders of pictures in the prompt."""
        assert self._ids is not None and self.sites is not None
        token = next(g.plan.image_token for g in self._stack.groups if g.plan.turns is not None)
        return self._media.images(self._ids, token) & self.sites.prompt

    def _conversation(self) -> TurnReading | None:
        """The reading of single turns; None if every prompt is one turn."""
        turns, form = self._turns, self._stack.turns
        if turns is None or not (torch.compiler.is_compiling() or bool(turns.several.any())):
            return None
        assert self._ids is not None and form is not None
        points = points_back(turns, self._ids, self._images(), form, self._stack.token_kinds)
        return TurnReading(self._stack, turns, points, self._media.frames)

    def read_turns(self, layer: int, states: Tensor) -> None:
        """Read the states (rows, length, d) of the pass in which each turn sees itself alone."""
        assert self.turn_reading is not None
        self.turn_reading.after_block(layer, states, self._images())

    def visible_turns(self) -> Tensor:
        """What each position attends to in that pass; see `visible`."""
        assert self.turn_reading is not None and self.sites is not None
        return visible(self.turn_reading.turns, self.sites.prompt)

    def after_block(self, layer: int, states: Tensor) -> Tensor:
        """States (rows, length, d) after block `layer`, shifted where policy and gates say so.

        Positions that are not shifted keep their bits. No host synchronization.
        """
        if self.sites is None and self._decoded is None:
            self._ran.add(layer)
            return states
        if states.shape[:2] != (self.span.rows, self.span.length):
            raise AttachError(
                f"block {layer} carries {tuple(states.shape[:2])} states, the input has "
                f"{(self.span.rows, self.span.length)} tokens: this model changes the length on the way"
            )
        self._ran.add(layer)
        kind = states.device.type  # entering an autocast costs as much as half a dozen operations
        with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
            self._read(layer, states)
            for positions, numbers in self._stack.shifters.get(layer, {}).items():
                states = self._shift(layer, positions, numbers, states)
        return states

    def _read(self, layer: int, states: Tensor) -> None:
        for number in self._stack.readers.get(layer, []):
            if self.sites is not None:
                self._read_prompt(number, layer, states)
            if self._decoded is not None and self._stack.groups[number].plan.policy.decode:
                self._decode_scores.read(number, layer, states)

    def _read_prompt(self, number: int, layer: int, states: Tensor) -> None:
        plan = self._stack.groups[number].plan
        site = plan.site(layer)
        if site == "last":
            self._read_last(number, layer, states)
        elif site == "image" and not self._pictures:
            self._prompt_scores.skip(number, layer, states)
        else:
            where = self._on(f"{site} of {number}", self._tokens(number, site), states.device)
            if site == "text":
                self._prompt_scores.read_highest(number, layer, states, where)
            else:
                self._read_pictures(number, layer, states, where)
        whole = self._prompt_scores.by_group[number]
        if self.turn_reading is not None and plan.turns is not None:
            whole[layer] = self.turn_reading.decided(number, layer, site, whole[layer])
        if self._turns is not None and plan.turns is not None:
            # Outside the chat format, naming or showing a person is enough. A system message alone always fires.
            name = "unmarked" if site == "last" else "headless"
            unknown = self._on(name, getattr(self._turns, name), states.device)[:, None, None]
            whole[layer] = torch.where(unknown, -NO_SITE, whole[layer])

    def _read_last(self, number: int, layer: int, states: Tensor) -> None:
        """Score the last prompt token, and the place where the answer begins: its first words may be given."""
        self._prompt_scores.read(number, layer, self._last(states)[:, None])
        if self._turns is None or self._stack.groups[number].plan.turns is None:
            return
        asked = states[self._rows(states.device), self._on("asked", self._turns.asked, states.device)]
        begun = SiteScores(self._stack, None)
        begun.read(number, layer, asked[:, None])
        whole = self._prompt_scores.by_group[number]
        whole[layer] = torch.maximum(whole[layer], begun.by_group[number][layer])

    def _read_pictures(self, number: int, layer: int, states: Tensor, where: Tensor) -> None:
        """Score the mean state of every picture, and of every frame of a video.

        If placeholders of two pictures touch, their mean could hide a face. On a CPU that is an error. On a GPU, where
        asking would wait for the device, every face counts as found.
        """
        frames, most = self._media.frames, self._pictures
        if frames is not None:
            frames, most = frames.to(states.device), self.span.length
        means, present = image_spans.run_means(states, where, most, frames)
        missing = self._media.missing(present)
        if image_spans.may_look(states.device) and bool(missing):
            raise AttachError(
                "more pictures are shown than stand apart in the prompt: each needs a placeholder of its own, and text "
                "between it and the next"
            )
        self._prompt_scores.read_highest(number, layer, means, present)
        self._prompt_scores.find_all(number, layer, missing)

    def _last(self, states: Tensor) -> Tensor:
        """(rows, d) states at the last prompt tokens."""
        assert self.sites is not None
        return states[self._rows(states.device), self._on("index", self.sites.index, states.device)]

    def _rows(self, device: torch.device) -> Tensor:
        """(rows,) row numbers."""
        key = ("rows", device)
        if key not in self._moved:
            self._moved[key] = torch.arange(self.span.rows, device=device)
        return self._moved[key]

    def _tokens(self, number: int, site: Site) -> Tensor:
        """(rows, length) real text tokens of the prompt, or its image placeholders."""
        assert self.sites is not None
        if self._ids is None:
            raise AttachError("the eraser looks for a person in the prompt's tokens: give input_ids, not embeddings")
        image = self._media.images(self._ids, self._stack.groups[number].plan.image_token)
        return self.sites.prompt & (~image if site == "text" else image)

    def _shift(self, layer: int, positions: Positions, numbers: list[int], states: Tensor) -> Tensor:
        if self.sites is not None and positions == "last":
            states = self._add_last(layer, numbers, states)
        elif self.sites is not None:
            where = self._on(positions, self.sites.prompt, states.device)
            states = self._add(layer, numbers, states, self._prompt_scores, where)
        decoding = [number for number in numbers if self._stack.groups[number].plan.policy.decode]
        if self._decoded is not None and decoding:
            here = None if self._all_decoded else self._on("decoded", self._decoded, states.device)
            states = self._add(layer, decoding, states, self._decode_scores, here)
        return states

    def _add_last(self, layer: int, numbers: list[int], states: Tensor) -> Tensor:
        """As `_add`, at the last prompt tokens alone. Other positions are copied, not computed."""
        assert self.sites is not None
        amplitudes = self._amplitudes(layer, numbers, states, self._prompt_scores)[:, 0]
        last = self._last(states)
        moved = last + (amplitudes @ self._directions(layer, numbers, states)).to(states.dtype)
        if not self.sites.complete:  # else every row has a last token here, and an amplitude of 0 moves it by 0
            present = self._on("found", self.sites.found, states.device)
            moved = torch.where((present & (amplitudes != 0).any(-1))[:, None], moved, last)
        return states.index_put((self._rows(states.device), self._on("index", self.sites.index, states.device)), moved)

    def _add(self, layer: int, numbers: list[int], states: Tensor, scores: SiteScores, where: Tensor | None) -> Tensor:
        """Add sum_k (s_k a_k) v_k at the positions `where` (rows, length) with an amplitude; None: everywhere."""
        amplitudes = self._amplitudes(layer, numbers, states, scores)
        shift = (amplitudes @ self._directions(layer, numbers, states)).to(states.dtype)
        if where is None:
            return states + shift
        return torch.where((where & (amplitudes != 0).any(-1))[..., None], states + shift, states)

    def _amplitudes(self, layer: int, numbers: list[int], states: Tensor, scores: SiteScores) -> Tensor:
        """(rows, sites, plans) s_k a_k of the plans of these groups."""
        return _joined([scores.amplitude(number, layer).to(states.device) for number in numbers], -1)

    def _directions(self, layer: int, numbers: list[int], states: Tensor) -> Tensor:
        """(plans, d) directions v_k of the same plans."""
        return _joined([self._stack.groups[n].directions(layer, states.device) for n in numbers], 0)

    def _on(self, name: str, tensor: Tensor, device: torch.device) -> Tensor:
        key = (name, device)
        if key not in self._moved:
            self._moved[key] = tensor.to(device)
        return self._moved[key]

    def fired(self) -> Tensor:
        """(rows,) bool: rows on which a prompt-masking eraser fired."""
        assert self.sites is not None
        fired = [
            (self._prompt_scores.amplitude(n, self._stack.groups[n].plan.reads[-1]) != 0).flatten(1).any(-1)
            for n in self._stack.masking
        ]
        return reduce(torch.logical_or, [one.to(self.sites.prompt.device) for one in fired])

    def replying(self, before: Tensor | None) -> Tensor:
        """(rows,) the choice of each row (see `Replies`); rows that ended in a piece before keep theirs."""
        assert self.sites is not None
        device = self.sites.prompt.device
        columns = [
            (self._prompt_scores.amplitude(n, group.plan.reads[-1])[:, 0] != 0).to(device)
            for n, group in enumerate(self._stack.groups)
        ]
        return self._stack.replies.choice(self._stack.in_order(columns), self.sites, before)

    @property
    def missed(self) -> list[int]:
        """Layers to be read or shifted that did not run."""
        return sorted(set(self._stack.layers) - self._ran)

    def readings(self, before: Readings | None) -> Readings:
        """Gate scores at the last prompt tokens; rows read in an earlier piece are kept."""
        assert self.sites is not None
        present = self.sites.found
        before = None if self.span.fresh else before
        by_group, pooled, amplitudes = [], [], []
        for number, group in enumerate(self._stack.groups):
            old = before.by_group[number] if before else {}
            fresh = self._prompt_scores.by_group[number].items()
            scores = {k: _merge(present, v[:, 0].detach().to(present.device), old.get(k)) for k, v in fresh}
            by_group.append(scores)
            pooled.append(group.per_plan(group.plan.policy.combine(list(scores.values()))))
            amplitudes.append(group.amplitude(pooled[-1]))
        table = self._stack.in_order(amplitudes)
        if self._chosen is not None:
            table = torch.where(self._chosen.to(table.device), table, torch.zeros_like(table))
        return Readings(self._stack.names, self._stack.in_order(pooled), table, tuple(by_group), self._stack.groups)


def _joined(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Concatenate; a single part is not copied, since a thousand erasers make it large."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=axis)


def _merge(present: Tensor, new: Tensor, old: Tensor | None) -> Tensor:
    return torch.where(present[:, None], new, torch.full_like(new, torch.nan) if old is None else old)


def _rows_of(selection: Tensor | None, span: Span) -> Tensor | None:
    """A selection (requests, erasers) as one per row of the batch; beams repeat that of their request."""
    if selection is None:
        return None
    chosen = selection.repeat_interleave(span.repeats, dim=0)
    if chosen.shape[0] != span.rows:
        rows = span.rows // span.repeats
        raise InputError(f"the selection is for {selection.shape[0]} rows, the batch has {rows}")
    return chosen
