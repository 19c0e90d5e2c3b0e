"""What the gates read in a conversation, and the rule by which the turns make one decision."""

from __future__ import annotations

import torch
from torch import Tensor

from mllmeraser.erasure.gates.base import NO_SITE
from mllmeraser.erasure.gates.topic import TopicGate
from mllmeraser.erasure.states import image_spans
from mllmeraser.erasure.steering.conversation.turns import Turns
from mllmeraser.erasure.steering.plan import Site
from mllmeraser.erasure.steering.plan_group import PlanStack, SiteScores


class TurnReading:
    """Scores of each turn by itself: of the current one, and the highest of the earlier ones.

    The current question decides. Names and pictures of earlier turns count if it points back to somebody, or names no
    person and shows no picture ("where do they live?"). What earlier turns asked counts as far as it is a bare request
    ("go on"): those scores are capped by the score of `TopicGate.requests`.
    """

    def __init__(self, stack: PlanStack, turns: Turns, points: Tensor, frames: Tensor | None) -> None:
        """Start empty; for `points` see `points_back`. `frames` are first positions of video frames (rows, length)."""
        self.turns, self._points, self._stack, self._frames = turns, points, stack, frames
        self._now, self._before = SiteScores(stack, None), SiteScores(stack, None)
        self._requests: dict[int, Tensor] = {}

    @property
    def last_layer(self) -> int:
        """The last layer that is read."""
        return max(layer for layer in self._stack.readers for number in self._groups(layer))

    def _groups(self, layer: int) -> list[int]:
        groups = self._stack.groups
        return [n for n in self._stack.readers.get(layer, []) if groups[n].plan.turns is not None]

    def after_block(self, layer: int, states: Tensor, images: Tensor) -> None:
        """Read the isolated states (rows, length, d); `images` (rows, length) bool are the placeholders."""
        for number in self._groups(layer):
            site = self._stack.groups[number].plan.site(layer)
            if site == "last":
                self._read_topic(number, layer, states)
                continue
            for scores, part in ((self._now, self.turns.current), (self._before, self.turns.earlier)):
                where = (part & (images if site == "image" else ~images)).to(states.device)
                if site == "text":
                    scores.read_highest(number, layer, states, where)
                else:
                    frames = None if self._frames is None else self._frames.to(states.device)
                    means, present = image_spans.run_means(states, where, (states.shape[1] + 1) // 2, frames)
                    scores.read_highest(number, layer, means, present)

    def _read_topic(self, number: int, layer: int, states: Tensor) -> None:
        rows = torch.arange(states.shape[0], device=states.device)
        asked, last = (states[rows, at.to(states.device)] for at in (self.turns.asked, self.turns.last))
        self._now.read(number, layer, torch.stack([asked, last], 1))
        found = self._now.by_group[number]
        found[layer] = found[layer].amax(1, keepdim=True)
        self._before.read_highest(number, layer, states, self.turns.asked_before.to(states.device))
        gate = self._stack.groups[number].gate(layer, states.device)
        unknown = asked.new_full(rows.shape, torch.inf)
        self._requests[number] = gate.requests(asked.float()) if isinstance(gate, TopicGate) else unknown

    def decided(self, number: int, layer: int, site: Site, whole: Tensor) -> Tensor:
        """The scores (rows, 1, subjects) that count, where `whole` are those of the pass over the whole prompt."""
        now, before = (scores.by_group[number][layer].to(whole.device) for scores in (self._now, self._before))
        if site == "last":
            before, most = torch.maximum(before, whole), self._requests[number].to(whole)
        else:
            most = torch.where(self._points.to(whole.device), -NO_SITE, NO_SITE).to(whole)
        scores = torch.maximum(now, torch.minimum(before, most[:, None, None]))
        return torch.where(self.turns.several.to(whole.device)[:, None, None], scores, whole)
