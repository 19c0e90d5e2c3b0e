"""The `Gate`: how much a state belongs to each subject of an eraser, at one layer."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from mllmeraser.erasure.policy import Policy
from mllmeraser.erasure.settings import GateSettings
from mllmeraser.samples.errors import ArtifactError, InputError, NumericalError

NO_SITE = -math.inf
"""Score where a prompt has nothing to read, such as a face in a prompt without a picture."""
SUBJECTS = "subjects"
STEPS = 127
G = TypeVar("G", bound="Gate")


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a gate kind.

    Attributes:
        name: Key in `Gate.tensors`.
        axes: Names of its axes. A first axis `subjects` means one row per subject, any other that all share it.
        stored: Name in the artifact, where it differs.
        half: Whether its values fit float16 exactly, and are stored so.
        steps: Whether its values are steps of 1/127 in [-1, 1] (see `in_steps`), and are stored as one byte each.
        optional: Whether a gate may lack it.
    """

    name: str
    axes: tuple[str, ...]
    stored: str = ""
    half: bool = False
    steps: bool = False
    optional: bool = False

    @property
    def key(self) -> str:
        """Name in the artifact."""
        return self.stored or self.name

    @property
    def per_subject(self) -> bool:
        """Whether the tensor has one row per subject."""
        return self.axes[0] == SUBJECTS

    def nbytes(self, sizes: Mapping[str, int]) -> int:
        """Bytes in an artifact, with the length of each axis; 0 where an axis is not in use."""
        if not set(self.axes) <= set(sizes):
            return 0
        return math.prod(sizes[axis] for axis in self.axes) * (1 if self.steps else 2 if self.half else 4)

    def packed(self, tensor: Tensor) -> Tensor:
        """The tensor as an artifact holds it."""
        if self.steps:
            return (tensor * STEPS).round().to(torch.int8)
        return tensor.half() if self.half else tensor.float()

    def unpacked(self, tensor: Tensor) -> Tensor:
        """The float32 tensor of an artifact's."""
        return tensor.float() / STEPS if self.steps else tensor.float()


def in_steps(units: Tensor) -> Tensor:
    """The nearest multiples of 1/127 to values in [-1, 1], so that calibration sees what is stored."""
    return (units * STEPS).round() / STEPS


AFFINE = (TensorSpec("scale", (SUBJECTS,)), TensorSpec("offset", (SUBJECTS,)))


@dataclass(frozen=True, eq=False)
class Gate(ABC):
    """The gates of all subjects at one layer.

    A kind states its tensors once, in `TENSORS`, and its formula, in `formula`. Everything else (subsets, merging,
    storing, sizes) follows. `scale` and `offset` (subjects,) are the affine map that calibration sets, so that scores
    of different subjects compare; they start at 1 and 0. `settings` act at scoring, and come from the artifact.
    """

    TENSORS: ClassVar[tuple[TensorSpec, ...]] = ()
    FITTED_ON: ClassVar[str] = "moments"
    """What a fit needs: `moments` (sums), `states`, or `prompts` (states at several sites of each prompt)."""

    tensors: Mapping[str, Tensor]
    settings: GateSettings = GateSettings()

    def __post_init__(self) -> None:
        """Refuse missing tensors (`ArtifactError`); fill in the neutral affine map."""
        missing = [spec.name for spec in self.TENSORS if not spec.optional and spec.name not in self.tensors]
        if missing:
            raise ArtifactError(f"a {type(self).__name__} lacks its tensors {', '.join(missing)}")
        first = next(self.tensors[spec.name] for spec in self.TENSORS if spec.per_subject)
        neutral = {"scale": first.new_ones(first.shape[0]), "offset": first.new_zeros(first.shape[0])}
        object.__setattr__(self, "tensors", {**neutral, **self.tensors})

    def __repr__(self) -> str:
        return f"{type(self).__name__}(subjects={self.subjects}, width={self.width})"

    @abstractmethod
    def formula(self, states: Tensor) -> Tensor:
        """(n, subjects) scores of states (n, d), both in the gate's dtype, before the affine map."""

    @classmethod
    def fit(cls, retain: Any, forget: Any, settings: GateSettings, seed: int = 0) -> Gate:
        """The gate of one subject, from `Moments` (or states, if `FITTED_ON` is `states`) of both sides."""
        raise InputError(f"a {cls.__name__} is fitted on {cls.FITTED_ON}, not on sums of states")

    @classmethod
    def at_layer(cls, position: int) -> type[Gate]:
        """The class of the gate at a read layer, by its position among the read layers."""
        return cls

    def scores(self, states: Tensor) -> Tensor:
        """(n, subjects) comparable scores of states (n, d): scale * raw + offset."""
        return torch.addcmul(self.tensors["offset"], self.raw(states), self.tensors["scale"])

    def raw(self, states: Tensor) -> Tensor:
        """(n, subjects) scores of states (n, d) before the affine map."""
        return self.formula(states.to(self.tensors["scale"]))

    def score(self, states: Tensor) -> Tensor:
        """(n,) maximum of `scores` over the subjects."""
        return self.scores(states).amax(-1)

    @classmethod
    def specs(cls) -> tuple[TensorSpec, ...]:
        """All tensors of this kind, the affine map included."""
        return (*cls.TENSORS, *AFFINE)

    @classmethod
    def spec(cls, stored: str) -> TensorSpec:
        """The tensor of a name in the artifact; an `ArtifactError` if this kind has none of that name."""
        for spec in cls.specs():
            if spec.key == stored:
                return spec
        raise ArtifactError(f"a {cls.__name__} has no tensor {stored!r}")

    @classmethod
    def forecast_bytes(cls, sizes: Mapping[str, int]) -> int:
        """Bytes of a gate in an artifact, from the length of each axis in use."""
        return sum(spec.nbytes(sizes) for spec in cls.specs())

    @property
    def subjects(self) -> int:
        """Number of subjects."""
        return self.tensors["scale"].shape[0]

    @property
    def width(self) -> int:
        """Length d of the states it reads."""
        return next(self.tensors[s.name].shape[s.axes.index("width")] for s in self.TENSORS if "width" in s.axes)

    def with_tensors(self: G, **changes: Tensor) -> G:
        """The same gate with some tensors replaced."""
        return replace(self, tensors={**self.tensors, **changes})

    def to(self: G, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> G:
        """The same gate on another device or in another dtype."""
        return self.with_tensors(**{name: t.to(device=device, dtype=dtype) for name, t in self.tensors.items()})

    def affine(self: G, scale: Tensor, offset: Tensor) -> G:
        """The same gate with another affine map, both (subjects,)."""
        like = self.tensors["scale"]
        return self.with_tensors(scale=scale.to(like), offset=offset.to(like))

    def above(self: G, thresholds: Tensor) -> G:
        """The same gate with thresholds (subjects,) moved to 0."""
        offset = self.tensors["offset"]
        return self.affine(self.tensors["scale"], offset - thresholds.to(offset))

    def select(self: G, rows: Sequence[int]) -> G:
        """The gate of the subjects at `rows` alone, in that order."""
        return self.with_tensors(**{s.name: self.tensors[s.name][list(rows)] for s in self._own() if s.per_subject})

    def stored(self) -> dict[str, Tensor]:
        """Tensors as an artifact holds them, by stored name: float32, or shorter where a spec says so."""
        return {spec.key: spec.packed(self.tensors[spec.name]) for spec in self._own()}

    @classmethod
    def from_stored(cls: type[G], parts: Mapping[str, Tensor], settings: GateSettings) -> G:
        """The gate of an artifact's tensors, in float32. Missing or unknown tensors are an `ArtifactError`."""
        specs = {key: cls.spec(key) for key in parts}
        return cls({specs[key].name: specs[key].unpacked(tensor) for key, tensor in parts.items()}, settings)

    def _own(self) -> list[TensorSpec]:
        return [spec for spec in self.specs() if spec.name in self.tensors]

    def fits_with(self, other: Gate) -> bool:
        """Whether both can be merged: one kind, equal shared tensors, the same sizes."""
        if type(other) is not type(self) or other.tensors.keys() != self.tensors.keys():
            return False
        pairs = [(spec, self.tensors[spec.name], other.tensors[spec.name]) for spec in self._own()]
        return all(
            one.shape[1:] == two.shape[1:] if spec.per_subject else one is two or torch.equal(one, two)
            for spec, one, two in pairs
        )

    @classmethod
    def merge(cls, gates: Sequence[Gate]) -> Gate:
        """One gate for the subjects of all `gates`, in order; each subject scores as before.

        Gates that do not fit together (see `fits_with`) are an `InputError`.
        """
        if not gates or not all(gates[0].fits_with(gate) for gate in gates[1:]):
            raise InputError("gates of one kind can be merged, at least one")
        if len(gates) == 1:
            return gates[0]
        return gates[0].with_tensors(**gates[0]._merged(gates))

    def _merged(self, gates: Sequence[Gate]) -> dict[str, Tensor]:
        rows = {s.name: torch.cat([gate.tensors[s.name] for gate in gates]) for s in self._own() if s.per_subject}
        shared = {s.name: self.tensors[s.name] for s in self._own() if not s.per_subject}
        return {**shared, **rows}


def pooled(gates: Mapping[int, Gate], states: Mapping[int, Tensor], policy: Policy) -> Tensor:
    """(n, subjects) scores of one decision, from states (n, d) by layer; see `Policy.combine`."""
    return policy.combine([gate.scores(states[layer]) for layer, gate in gates.items()])


def finite(gate: G, advice: str) -> G:
    """Return `gate` if all its tensors are finite; else a `NumericalError` that ends in `advice`."""
    if not all(bool(torch.isfinite(tensor).all()) for tensor in gate.tensors.values()):
        raise NumericalError(f"the {type(gate).__name__} came out as NaN or infinite: {advice}")
    return gate


def require_sides(*counts: int) -> None:
    """Refuse a fit in which one side has no states."""
    if not all(counts):
        raise InputError("a gate needs forget states and retain states")
