"""All states that a fit of the gate `subject` reads, captured once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mllmeraser.erasure.states.prompt_states import PromptStates
from mllmeraser.samples.sample import IMPERSONAL, Sample


def asks_for(sample: Sample, attributes: Sequence[str]) -> bool:
    """Whether a sample asks for one of the attributes; without attributes, for any fact about a person."""
    return sample.attribute in attributes if attributes else sample.attribute not in IMPERSONAL


@dataclass(frozen=True)
class Captured:
    """Samples and, in the same order, their states."""

    samples: Sequence[Sample]
    states: Sequence[PromptStates]

    def __len__(self) -> int:
        return len(self.samples)

    def where(self, keep: Sequence[bool]) -> Captured:
        """Those at which `keep` is true."""
        chosen = [i for i, flag in enumerate(keep) if flag]
        return Captured([self.samples[i] for i in chosen], [self.states[i] for i in chosen])

    def asking(self, attributes: Sequence[str] = (), *, wanted: bool = True) -> Captured:
        """Those that ask for the attributes (see `asks_for`), or those that do not."""
        return self.where([asks_for(sample, attributes) == wanted for sample in self.samples])

    def by_name(self) -> Captured:
        """Those without a picture."""
        return self.where([sample.image is None for sample in self.samples])

    def fitted(self) -> Captured:
        """Two of three: a fit of them."""
        return self.where([i % 3 != 2 for i in range(len(self))])

    def held_out(self) -> Captured:
        """Every third, which `fitted` leaves out."""
        return self.where([i % 3 == 2 for i in range(len(self))])

    def __add__(self, other: Captured) -> Captured:
        return Captured([*self.samples, *other.samples], [*self.states, *other.states])

    def faces(self) -> dict[str, Tensor]:
        """Person -> states (pictures, d) of the face, for people with several pictures."""
        pictures: dict[str, list[Tensor]] = defaultdict(list)
        for sample, states in zip(self.samples, self.states, strict=True):
            if sample.subject and len(states.image):
                pictures[sample.subject].append(states.image)
        return {person: torch.cat(own) for person, own in pictures.items() if len(own) > 1}


@dataclass(frozen=True)
class SubjectStates:
    """States of one request on one model, by the part of the fit that uses them.

    Attributes:
        forget: For each subject its fitted prompts.
        held_out: For each subject the prompts kept out of the fit.
        mentions: For each subject its names in varied sentences.
        forms: For each subject other forms of its names, each in the same sentences.
        other_forms: Forms of placeholder names.
        retain: Prompts that gates are fitted on; `calibration` set thresholds, `check` only measure.
        strangers: Prompts about people that the model has never seen.
        shift_layers: Layers of the states in `PromptStates.shifts`.
    """

    forget: dict[str, Captured]
    held_out: dict[str, Captured]
    mentions: dict[str, Captured]
    forms: dict[str, dict[str, Captured]]
    other_forms: Captured
    retain: Captured
    strangers: Captured
    calibration: Captured
    check: Captured
    width: int
    shift_layers: tuple[int, ...]

    def measured(self) -> dict[str, Captured]:
        """For each subject the prompts that measure it: held out, or fitted where there are none."""
        return {key: self.held_out[key] if len(self.held_out[key]) else fitted for key, fitted in self.forget.items()}
