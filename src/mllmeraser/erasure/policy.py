"""When the gate is read, how its reading becomes an amplitude, and where the shift is applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mllmeraser.samples.errors import InputError

Read = Literal["per-layer", "request"]
Positions = Literal["prompt", "last"]
Phi = Literal["linear", "clamp", "threshold"]
Pooling = Literal["mean", "subject"]
Action = Literal["shift", "reply", "both"]


@dataclass(frozen=True)
class Policy:
    """A stated rule, kept in the artifact; never a side effect of a tensor's shape.

    Attributes:
        name: One of `PRESETS` for the rules that ship.
        read: `"per-layer"`: each shifted layer reads its own gate. `"request"`: one decision per request, from gates of
            earlier layers, before any state is shifted.
        positions: `"last"`: shift the last real prompt token alone, so that earlier positions keep the cached states of
            the bare model. `"prompt"`: shift every real prompt position.
        decode: Whether decoded tokens are steered too, each by a decision read from its own states.
        phi: From score to amplitude a. `"linear"`: a = score. `"clamp"`: a = min(max(score, 0), 1). `"threshold"`:
            a = 1 if score > threshold else 0.
        pooling: How the scores of several layers become one. `"mean"`: the mean over layers per subject, then the
            maximum over subjects. `"subject"`: min(max(name, face), topic) per subject, then the maximum. The first
            layer reads names at every text token, the second the topic at the last prompt token (is a fact about a
            person wanted?). The third reads faces in the mean over the tokens of each picture. In a conversation each
            turn is read by itself (see `steering.conversation`).
        masks_prompt: Whether the answer to a prompt that fired attends to its first and last token alone (see
            `prompt_masking.py`). It needs a decision over the whole prompt. Without a shift nothing is masked.
        action: What happens when it fires. `"shift"`: states move. `"reply"`: the answer is a given sentence, enforced
            token by token (see `reply.py`). `"both"`: states move and the sentence is enforced.
    """

    name: str
    read: Read
    positions: Positions
    decode: bool
    phi: Phi
    pooling: Pooling = "mean"
    masks_prompt: bool = False
    action: Action = "shift"

    def __post_init__(self) -> None:
        """Refuse unknown values (artifacts are read from disk), and values that do not go together."""
        known = {
            "read": ("per-layer", "request"),
            "positions": ("prompt", "last"),
            "decode": (False, True),
            "phi": ("linear", "clamp", "threshold"),
            "pooling": ("mean", "subject"),
            "masks_prompt": (False, True),
            "action": ("shift", "reply", "both"),
        }
        for field, values in known.items():
            if (value := getattr(self, field)) not in values:
                options = ", ".join(map(repr, values))
                raise InputError(f"policy {self.name!r}: {field} is one of {options}, not {value!r}")
        if self.masks_prompt and self.pooling != "subject":
            raise InputError(f"policy {self.name!r}: masks_prompt needs a decision over the whole prompt")
        if self.pooling == "subject" and self.phi == "linear":
            raise InputError(f"policy {self.name!r}: the pooling 'subject' needs a threshold, or the phi 'clamp'")
        if self.replies and (self.read != "request" or self.phi != "threshold"):
            raise InputError(f"policy {self.name!r}: a reply needs one decision per request, by a threshold")
        if self.replies and self.decode:
            raise InputError(f"policy {self.name!r}: a reply is decided at the prompt, not at decoded tokens")

    @property
    def shifts(self) -> bool:
        """Whether states move when it fires."""
        return self.action != "reply"

    @property
    def replies(self) -> bool:
        """Whether a sentence is enforced when it fires."""
        return self.action != "shift"

    @property
    def whole_prompt(self) -> bool:
        """Whether the prompt has to pass through the model in one piece, without a cached prefix.

        Shifts of early positions need the state of the last one. A search for a person has to see the whole prompt.
        """
        return self.positions == "prompt" or self.pooling == "subject"

    def amplitude(self, scores: Tensor, threshold: float | Tensor) -> Tensor:
        """The amplitude phi(score) of scores, any shape, in their dtype; no host synchronisation.

        A tensor of thresholds has one for each of the last axis.
        """
        if self.phi == "linear":
            return scores
        if self.phi == "clamp":
            return scores.clamp(0.0, 1.0)
        return (scores > threshold).to(scores.dtype)

    def pool(self, scores: Sequence[Tensor]) -> Tensor:
        """One score (...) of those of several layers, each (..., subjects): the maximum over subjects of `combine`."""
        return self.combine(scores).amax(-1)

    def combine(self, scores: Sequence[Tensor]) -> Tensor:
        """One score for each subject, (..., subjects), of those of several layers, each (..., subjects).

        The mean over layers; where every layer thresholds by itself, the maximum.
        """
        if self.pooling == "subject":
            name, topic, face = scores
            return torch.minimum(torch.maximum(name, face), topic)
        layers = torch.stack(tuple(scores))
        every_layer = self.read == "per-layer" and self.phi == "threshold"
        return layers.amax(0) if every_layer else layers.mean(0)


#: The paper (arXiv 2510.04217): gate and shift per layer, at prefill, whole prompt, amplitude h_last . g.
PAPER = Policy("paper", read="per-layer", positions="prompt", decode=False, phi="linear")
#: One calibrated decision per request; only the last prompt token's state moves.
TAIL = Policy("tail", read="request", positions="last", decode=False, phi="threshold")
#: As `TAIL`, and the decision is read again at every decoded token, from that token's own states.
PERSISTENT = Policy("persistent", read="request", positions="last", decode=True, phi="threshold")

#: One decision per request from who is asked about, wherever in the prompt, and whether a fact is asked for; the answer
#: then no longer sees who it was.
SUBJECT = Policy(
    "subject", read="request", positions="last", decode=False, phi="threshold", pooling="subject", masks_prompt=True
)
PRESETS: dict[str, Policy] = {policy.name: policy for policy in (PAPER, TAIL, PERSISTENT, SUBJECT)}


def preset(name: str) -> Policy:
    """The shipped policy called `name`."""
    if name not in PRESETS:
        raise InputError(f"unknown policy {name!r}: known are {', '.join(PRESETS)}")
    return PRESETS[name]
