"""The erasers in force: on the model, seen to be there, and seen to act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.steering.attach import Readings, SteeringAttachment, attach_all
from mllmeraser.erasure.steering.plan import Steerable, SteeringPlan
from mllmeraser.models.fingerprint import taken_once
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import AttachError

PROBE = "\0probe"
"""Name of the copy of an eraser that always fires; no request selects it."""
ALWAYS = -1e9
QUESTION = "Who is this?"


class EraserSetView(Protocol):
    """What is in force, as those who choose from it know it."""

    @property
    def version(self) -> int:
        """Grows with every change."""


@dataclass(frozen=True)
class NamedSet:
    """The view where none was given: version and names."""

    version: int
    names: frozenset[str]


@dataclass(frozen=True)
class Applied:
    """What came into force.

    Attributes:
        version: Of the set.
        names: Of its erasers, sorted.
        digests: Name -> SHA-256 of the eraser's tensors.
        hooks: Hooks on the model.
        at: When, in UTC.
    """

    version: int
    names: tuple[str, ...]
    digests: Mapping[str, str]
    hooks: int
    at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))


class InForce:
    """A set of erasers on a model; nothing is attached where it is empty.

    Attributes:
        applied: What it is.
        view: What is handed to those who choose from it.
    """

    def __init__(self, model: MultimodalModel, version: int, erasers: Mapping[str, Steerable], view: Any = None):
        """Attach `erasers`, and beside them a copy of the first that always fires: the probe of all of them.

        Raises:
            InputError: If one does not fit the model.
            AttachError: If one could not be attached, or is not seen to act; nothing is left on the model.
        """
        self._model = model
        self._attachment: SteeringAttachment | None = None
        try:
            self._attach(version, erasers, view)
            self.probe()
        except BaseException:
            self.detach()
            raise

    def _attach(self, version: int, erasers: Mapping[str, Steerable], view: Any) -> None:
        before = _hooks(self._model.hf)
        plans = _plans(self._model, erasers)
        if plans:
            self._attachment = attach_all(self._model, {**plans, PROBE: _probe(plans[min(plans)])})
        self._hooks = {key: hook for key, hook in _hooks(self._model.hf).items() if key not in before}
        self._needed = {layer for plan in plans.values() for layer in (*plan.reads, *_shifted(plan))}
        digests = {name: eraser.digest() for name, eraser in sorted(erasers.items()) if isinstance(eraser, Eraser)}
        self.applied = Applied(version, tuple(sorted(plans)), digests, len(self._hooks))
        self.view = NamedSet(version, frozenset(plans)) if view is None else view

    def detach(self) -> None:
        """Take everything off the model."""
        if self._attachment is not None:
            self._attachment.detach()

    def select(self, rows: Sequence[frozenset[str]]) -> None:
        """Choose for each row of the batch that follows what applies to it."""
        if self._attachment is not None:
            self._attachment.select(rows)

    @property
    def readings(self) -> Readings | None:
        """Of the last batch, the column of the probe included; None where nothing is attached."""
        return None if self._attachment is None else self._attachment.readings

    def fresh_readings(self, before: Readings | None, rows: int) -> Readings | None:
        """Of the batch of `rows` rows whose prompt has just been read, on the CPU; None where nothing is attached.

        Raises:
            AttachError: If the gates did not read that batch.
        """
        if self._attachment is None:
            return None
        found = self._attachment.readings
        if found is None or found is before or found.pooled.shape[0] != rows:
            raise AttachError("the erasers did not read the prompt")
        return replace(
            found,
            pooled=found.pooled.cpu(),
            amplitudes=found.amplitudes.cpu(),
            by_bundle=tuple({layer: scores.cpu() for layer, scores in read.items()} for read in found.by_bundle),
        )

    @torch.no_grad()
    def probe(self) -> None:
        """See that every hook is in place, every gate reads, and a shift reaches the row it is for and no other.

        Raises:
            AttachError: If not.
        """
        if self._attachment is None:
            return
        self._check_hooks()
        text = self._model.family.render(self._model.processor, QUESTION, False)
        inputs = self._model.encode_texts([text, text], [None, None])
        before = self.readings
        steered = self._logits(inputs, [{PROBE}, set()])
        readings = self.fresh_readings(before, 2)
        bare = self._logits(inputs, [set(), set()])
        assert readings is not None
        if missing := set(self.applied.names) - set(readings.names):
            raise AttachError(f"no gate of {sorted(missing)[0]} is read")
        if not bool(readings.pooled.isfinite().all()):
            raise AttachError("a gate gives scores that are not finite")
        moved, still = (steered - bare).abs().amax(-1).tolist()
        # Not `moved > 0`: rows of one batch may differ by rounding.
        if not moved > 10 * still:
            raise AttachError("the erasers are attached and change nothing")

    def _check_hooks(self) -> None:
        assert self._attachment is not None
        present = _hooks(self._model.hf)
        lost = [key for key, hook in self._hooks.items() if present.get(key) is not hook]
        blocks = {id(block): layer for layer, block in enumerate(self._model.layers)}
        held = {blocks[module] for module, *_ in self._hooks if module in blocks}
        if lost or not self._attachment.attached or self._needed - held:
            raise AttachError("hooks of the erasers are missing on the model")
        if not hasattr(self._model.hf.__dict__.get("generate"), "mllmeraser_tap"):
            raise AttachError("generate of the model was replaced: the erasers do not follow it")

    def _logits(self, inputs: Any, rows: Sequence[set[str]]) -> Tensor:
        assert self._attachment is not None
        self._attachment.select(rows)
        logits: Tensor = self._model.hf(**inputs, use_cache=False, logits_to_keep=1).logits
        return logits[:, -1].float()


def _plans(model: MultimodalModel, erasers: Mapping[str, Steerable]) -> dict[str, SteeringPlan]:
    with taken_once():
        return {name: replace(eraser.plan(model), name=name) for name, eraser in erasers.items()}


def _probe(plan: SteeringPlan) -> SteeringPlan:
    """The same plan with its gate open, whatever it reads."""
    policy = replace(plan.policy, phi="threshold")
    return replace(plan, name=PROBE, policy=policy, threshold=ALWAYS, strength=plan.strength or 1.0)


def _shifted(plan: SteeringPlan) -> tuple[int, ...]:
    return plan.shift_layers if plan.strength > 0.0 else ()


def _hooks(hf: nn.Module) -> dict[tuple[int, str, int], Any]:
    """(module, kind, number) -> hook, of all modules."""
    return {
        (id(module), kind, number): hook
        for module in hf.modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks")
        for number, hook in getattr(module, kind).items()
    }
