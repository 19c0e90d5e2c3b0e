"""The erasers in force: attach them, check that every hook is in place, and check that they change logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mllmeraser.erasure.steering import Readings, SteeringAttachment, attach_all
from mllmeraser.erasure.steering.plan import Steerable, SteeringPlan
from mllmeraser.models.fingerprint import taken_once
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import AttachError

PROBE = "\0probe"
"""Name of the copy of an eraser that always fires; no request can select it."""
ALWAYS = -1e9
QUESTION = "Who is this?"


class Applied(NamedTuple):
    """A set of erasers in force: its version, the sorted names, and the number of hooks on the model."""

    version: int
    names: tuple[str, ...]
    hooks: int


class InForce:
    """A set of erasers on a model; an empty set attaches nothing. `view` is what requests choose their erasers from."""

    def __init__(self, model: MultimodalModel, version: int, erasers: Mapping[str, Steerable], view: Any = None):
        """Attach `erasers`, plus a copy of the first one that always fires: the probe.

        Raises `InputError` if an eraser does not fit the model, and `AttachError` if one cannot be attached or has no
        effect. Then nothing stays on the model.
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
        with taken_once():
            plans = {name: replace(eraser.plan(self._model), name=name) for name, eraser in erasers.items()}
        if plans:
            self._attachment = attach_all(self._model, {**plans, PROBE: _probe(plans[min(plans)])})
        self._hooks = {key: hook for key, hook in _hooks(self._model.hf).items() if key not in before}
        self._needed = {layer for plan in plans.values() for layer in (*plan.reads, *plan.shifts)}
        self.applied = Applied(version, tuple(sorted(plans)), len(self._hooks))
        self.view = self.applied if view is None else view

    def detach(self) -> None:
        """Remove everything from the model."""
        if self._attachment is not None:
            self._attachment.detach()

    def select(self, rows: Sequence[frozenset[str]]) -> None:
        """Choose the erasers of each row of the next batch."""
        if self._attachment is not None:
            self._attachment.select(rows)

    @property
    def readings(self) -> Readings | None:
        """Gate readings of the last batch, including the probe's column; None if nothing is attached."""
        return None if self._attachment is None else self._attachment.readings

    def fresh_readings(self, before: Readings | None, rows: int) -> Readings | None:
        """Return new gate readings of `rows` rows, on the CPU, or raise `AttachError`; None if nothing is attached."""
        if self._attachment is None:
            return None
        readings = self._attachment.readings
        if readings is None or readings is before or readings.pooled.shape[0] != rows:
            raise AttachError("the erasers did not read the prompt")
        return replace(
            readings,
            pooled=readings.pooled.cpu(),
            amplitudes=readings.amplitudes.cpu(),
            by_group=tuple({layer: scores.cpu() for layer, scores in read.items()} for read in readings.by_group),
        )

    @torch.no_grad()
    def probe(self) -> None:
        """Raise `AttachError` unless every hook is in place, every gate reads, and a shift reaches its own row only."""
        if self._attachment is None:
            return
        self._check_hooks(self._attachment)
        text = self._model.family.render(self._model.processor, QUESTION, False)
        inputs = self._model.encode_texts([text, text], [None, None])
        before = self.readings
        steered = self._logits(inputs, [{PROBE}, set()])
        readings = self.fresh_readings(before, 2)
        bare = self._logits(inputs, [set(), set()])
        assert readings is not None
        if missing := set(self.applied.names) - set(readings.names):
            raise AttachError(f"no gate of {sorted(missing)[0]} is read")
        if not bool((readings.pooled < torch.inf).all()):  # -inf: a prompt with nothing to read
            raise AttachError("a gate gives scores that are not finite")
        moved, still = (steered - bare).abs().amax(-1).tolist()
        # Not `moved > 0`: rows of one batch may differ by rounding.
        if not moved > 10 * still:
            raise AttachError("the erasers are attached and change nothing")

    def _check_hooks(self, attachment: SteeringAttachment) -> None:
        present = _hooks(self._model.hf)
        lost = [key for key, hook in self._hooks.items() if present.get(key) is not hook]
        blocks = {id(block): layer for layer, block in enumerate(self._model.layers)}
        hooked = {blocks[module] for module, *_ in self._hooks if module in blocks}
        if lost or not attachment.attached or self._needed - hooked:
            raise AttachError("hooks of the erasers are missing on the model")
        if not hasattr(self._model.hf.__dict__.get("generate"), "mllmeraser_tap"):
            raise AttachError("generate of the model was replaced: the erasers do not follow it")

    def _logits(self, inputs: Any, rows: Sequence[set[str]]) -> Tensor:
        assert self._attachment is not None
        self._attachment.select(rows)
        logits: Tensor = self._model.hf(**inputs, use_cache=False, logits_to_keep=1).logits
        return logits[:, -1].float()


def _probe(plan: SteeringPlan) -> SteeringPlan:
    """Return the same plan with a gate that is always open."""
    policy = replace(plan.policy, phi="threshold")
    return replace(plan, name=PROBE, policy=policy, threshold=ALWAYS, strength=plan.strength or 1.0)


def _hooks(hf: nn.Module) -> dict[tuple[int, str, int], Any]:
    """(module, kind, number) -> hook, of all modules."""
    return {
        (id(module), kind, number): hook
        for module in hf.modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks")
        for number, hook in getattr(module, kind).items()
    }
