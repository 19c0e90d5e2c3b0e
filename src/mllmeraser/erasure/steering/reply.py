"""The action `reply`: a row that fired answers with a given sentence, enforced in the logits token by token.

The logits of the answer's n-th token leave only the n-th token of the sentence. So nothing of the prompt comes back,
whatever was begun, sampled or scored. No attention mask is needed. After the sentence its end token repeats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mllmeraser.erasure.states import image_spans
from mllmeraser.erasure.steering.plan import SteeringPlan
from mllmeraser.erasure.steering.prompt_positions import PromptSites
from mllmeraser.erasure.steering.prompt_tracker import Span
from mllmeraser.samples.errors import AttachError

REST = -9999.0
"""Logit of all other tokens. It is finite, so log-probabilities stay numbers, and far below any real logit."""


class Replies:
    """The sentences of the attached plans, and which one each row of the running prompt gives.

    A *choice* (rows,) is a number for each row: the plan that gives its sentence, or `none`.
    """

    def __init__(self, plans: Sequence[SteeringPlan]) -> None:
        """Take the sentences of `plans`; plans that only shift have none."""
        self._any = any(plan.policy.replies for plan in plans)
        self.speaks = torch.tensor([plan.policy.replies for plan in plans])
        self.none = len(plans)
        longest = max((len(plan.reply) for plan in plans), default=0)
        rows = [(*plan.reply, *plan.reply[-1:] * (longest - len(plan.reply))) or (0,) * longest for plan in plans]
        self._table = torch.tensor([*rows, (0,) * longest])
        self._on: dict[torch.device, Tensor] = {}
        self._forced: tuple[Tensor, Tensor] | None = None

    def __bool__(self) -> bool:
        return self._any

    def choice(self, fired: Tensor, sites: PromptSites, before: Tensor | None) -> Tensor:
        """The choice of `fired` (rows, plans) bool; a row that ends in another piece keeps that of `before`."""
        speaks = self.speaks.to(fired.device)
        numbers = torch.arange(self.none, device=fired.device)
        chosen = torch.where(fired & speaks, numbers, self.none).amin(1)
        old = torch.full_like(chosen, self.none) if before is None else before.to(chosen.device)
        return torch.where(sites.found.to(chosen.device), chosen, old)

    def refuse_loss(self, inputs: Mapping[str, Any]) -> None:
        """Refuse `labels` among the arguments of a pass: the model computes their loss before a reply is enforced."""
        if inputs.get("labels") is not None:
            raise AttachError("a loss would tell what the reply hides: leave labels out, or detach first")

    def enforce(
        self, output: Any, choice: Tensor | None, span: Span, sites: PromptSites | None, inputs: Mapping[str, Any]
    ) -> Any:
        """The output of a forward pass with the sentences in its logits.

        Args:
            output: Of the top model: with an attribute `logits` (rows, kept, vocabulary), or a tuple that holds them.
            choice: Of each row; None if the pass cannot tell.
            span: The columns of the pass.
            sites: Its prompt positions, if it holds any.
            inputs: Arguments of the pass, `logits_to_keep` among them.

        Raises:
            AttachError: There are no logits, or no choice.
        """
        if choice is None:
            raise AttachError("cannot tell whose prompt this is: a reply cannot be enforced")
        place = -1
        if isinstance(output, tuple):
            place = next((i for i, part in enumerate(output) if isinstance(part, Tensor) and part.dim() == 3), -1)
        logits = output[place] if place >= 0 else getattr(output, "logits", None)
        if not isinstance(logits, Tensor) or logits.dim() != 3:
            raise AttachError("the model gave no logits: a reply cannot be enforced")
        steps = _steps(span, sites, inputs.get("logits_to_keep"), logits)
        where, tokens = self._words(choice.to(logits.device), steps)
        self._forced = (where[:, -1:], tokens[:, -1:])
        written = _write(logits, where, tokens)
        if place >= 0:
            return (*output[:place], written, *output[place + 1 :])
        output.logits = written
        return output

    def last_word(self, _ids: Tensor, scores: Tensor) -> Tensor:
        """A logits processor: the sentence again, after processors that would ban its tokens or its end."""
        if self._forced is None:
            return scores
        return _write(scores[:, None], *(part.to(scores.device) for part in self._forced))[:, 0]

    def _words(self, choice: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, kept) whether a position gives a word of a sentence, and its token."""
        if choice.device not in self._on:
            self._on[choice.device] = self._table.to(choice.device)
        table = self._on[choice.device]
        tokens = table[choice[:, None], steps.clamp(0, table.shape[1] - 1)]
        return (choice != self.none)[:, None] & (steps >= 0), tokens


def _steps(span: Span, sites: PromptSites | None, keep: Any, logits: Tensor) -> Tensor:
    """(rows, kept) which token of the answer each row of logits tells: 0 for the first, below 0 in the prompt.

    Columns of padding after a prompt tell the first one too, since `generate` reads there.
    """
    columns = torch.arange(span.start, span.stop, device=logits.device)
    if keep is None or isinstance(keep, int):
        columns = columns[-logits.shape[1] :]
    else:
        columns = columns[keep.to(columns.device) if isinstance(keep, Tensor) else keep]
    if columns.shape[0] != logits.shape[1]:
        raise AttachError("cannot tell which positions these logits are of: leave logits_to_keep out")
    steps = columns - (torch.tensor(span.ends, device=logits.device) - 1)[:, None]
    if sites is None:
        return steps
    # A prompt that ended in an earlier piece has only padding here.
    last = torch.where(sites.found.to(logits.device), span.start + sites.index.to(logits.device), span.start)
    return torch.where(columns >= last[:, None], steps.clamp(min=0), -1)


def _write(logits: Tensor, where: Tensor, tokens: Tensor) -> Tensor:
    """Logits (rows, kept, vocabulary) that leave the `tokens` (rows, kept) alone at the positions `where`."""
    if image_spans.may_look(logits.device) and not bool(where.any()):
        return logits
    forced = torch.full_like(logits, REST).scatter(-1, tokens[..., None], 0.0)
    return torch.where(where[..., None], forced, logits)
