"""The rows of the ablation as data: what each section changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from mllmeraser.erasure import PAPER as PER_LAYER
from mllmeraser.erasure import PERSISTENT, DirectionSettings, FitSettings, PGDSettings, Policy
from mllmeraser.erasure import TAIL as ONE_DECISION
from mllmeraser.erasure.settings import resolve_layers
from mllmeraser.studies.ablation.edits import Edit, Exchanged, Only, Open, Raised, Refitted, Shifted, Strength
from mllmeraser.studies.ablation.lab import RequestSpec


@dataclass(frozen=True)
class Row:
    """One change; the name is unique within the section.

    Attributes:
        settings: Of the fit; None: the bare model.
        alone: Whether every person gets an own request and artifact.
    """

    section: str
    name: str
    settings: FitSettings | None
    edits: tuple[Edit, ...] = ()
    request: RequestSpec = RequestSpec()
    alone: bool = False

    @property
    def key(self) -> str:
        """Key of the row in the report."""
        return f"{self.section}: {self.name}"


def changed(settings: FitSettings, **changes: Any) -> FitSettings:
    """Settings with some fields changed; a mapping changes fields of a field."""
    content = settings.model_dump()
    for name, value in changes.items():
        content[name] = {**content[name], **value} if isinstance(value, dict) else value
    return FitSettings.model_validate(content)


DEFAULT, TAIL, PAPER = (FitSettings.preset(name) for name in ("default", "tail", "paper"))
REFUSAL = Exchanged(PAPER.direction)
CLEAN: dict[str, object] = {"kind": "unknown"}
"""A direction from states that the fit reads anyway. The fit uses it where `REFUSAL` replaces it afterwards."""
Section = Callable[[int], list[Row]]


def policies(_depth: int) -> list[Row]:
    """The presets that everything else is compared with."""
    persistent = changed(TAIL, policy=PERSISTENT)
    named = {"bare model": None, "default": DEFAULT, "tail": TAIL, "persistent": persistent, "paper": PAPER}
    return [Row("policies", name, settings) for name, settings in named.items()]


def directions(_depth: int) -> list[Row]:
    """Every direction under the gates and policy of two presets."""
    rows = []
    for preset, settings, note in (("paper", PAPER, ""), ("default", DEFAULT, ""), ("default", DEFAULT, "long")):
        for kind in ("text-only", "clean-image", "refusal", "unknown", "idk"):
            name = f"{kind}, {preset} gate" + (", as long as unknown" if note else "")
            if kind != settings.direction.kind:
                other = Exchanged(DirectionSettings(kind=kind), same_length=bool(note))
                rows.append(Row("directions", name, settings, (other,)))
            elif not note:
                rows.append(Row("directions", name, settings))
    return rows


def attack(_depth: int) -> list[Row]:
    """Size and number of the steps that perturb pictures."""
    rows = []
    for epsilon, steps in ((4, 40), (8, 40), (16, 40), (32, 40), (16, 1), (16, 2), (16, 5), (16, 10), (16, 20)):
        refusal = DirectionSettings(kind="refusal", pgd=PGDSettings(epsilon=epsilon / 255, steps=steps))
        name = f"epsilon {epsilon}/255, {steps} step{'s' if steps > 1 else ''}"
        rows.append(Row("attack", name, PAPER, (Exchanged(refusal),)))
    return rows


def null_space(_depth: int) -> list[Row]:
    """Hard and soft null spaces with other settings."""
    hard = [(ratio, 1.0) for ratio in (0.1, 0.3, 0.5, 0.7, 0.9)] + [(0.3, gamma) for gamma in (0.1, 10.0, 100.0)]
    soft = [(beta, 0.01) for beta in (0.1, 1.0, 10.0, 100.0)] + [(1.0, gamma) for gamma in (0.001, 0.1, 1.0)]
    return [
        *(_hard(ratio, gamma) for ratio, gamma in hard),
        *(_soft(beta, gamma) for beta, gamma in soft),
        *(_paper(ratio) for ratio in (0.1, 0.3, 0.5, 0.7)),
    ]


def _hard(ratio: float, gamma: float, section: str = "null space", name: str = "") -> Row:
    settings = changed(TAIL, gate={"kind": "hard", "ratio": ratio, "gamma": gamma})
    return Row(section, name or f"tail, hard, ratio {ratio:g}, gamma {gamma:g}", settings)


def _soft(beta: float, gamma: float, section: str = "null space", name: str = "") -> Row:
    settings = changed(TAIL, gate={"kind": "soft", "beta": beta, "gamma": gamma})
    return Row(section, name or f"tail, soft, beta {beta:g}, gamma {gamma:g}", settings)


def _paper(ratio: float, section: str = "null space", name: str = "") -> Row:
    name = name or f"paper, ratio {ratio:g}"
    if ratio == PAPER.gate.ratio:
        return Row(section, name, PAPER)
    return Row(section, name, changed(PAPER, gate={"ratio": ratio}, direction=CLEAN), (REFUSAL,))


def no_null_space(_depth: int) -> list[Row]:
    """Gates fitted without the retain data."""
    section = "no null space"
    return [
        _hard(1.0, 1.0, section, "tail, hard, all directions (ratio 1)"),
        _soft(0.0, 0.01, section, "tail, soft, no retain energy (beta 0)"),
        _paper(1.0, section, "paper, all directions (ratio 1)"),
    ]


def no_gate(_depth: int) -> list[Row]:
    """The shift for every prompt."""
    every_layer = Policy("paper-open", read="per-layer", positions="prompt", decode=False, phi="threshold")
    always_one = changed(PAPER, policy=every_layer, direction=CLEAN)
    return [
        Row("no gate", "default, always open", DEFAULT, (Open(),)),
        Row("no gate", "tail, always open", TAIL, (Open(),)),
        Row("no gate", "paper, amplitude 1 always", always_one, (REFUSAL, Open())),
    ]


def gates(_depth: int) -> list[Row]:
    """Functions from score to amplitude, and gates that are not linear."""
    rows = []
    for preset, settings, policy in (("tail", TAIL, ONE_DECISION), ("paper", PAPER, PER_LAYER)):
        for phi in ("linear", "clamp", "threshold"):
            name = f"{preset}, amplitude by {phi}"
            if phi == policy.phi:
                rows.append(Row("gates", name, settings))
                continue
            other = Policy(f"{policy.name}-{phi}", policy.read, policy.positions, policy.decode, phi)
            edits = (REFUSAL,) if settings is PAPER else ()
            rows.append(Row("gates", name, changed(settings, policy=other, direction=CLEAN), edits))
    return [
        *rows,
        Row("gates", "tail, one linear gate for all people", changed(TAIL, gate={"per_subject": False})),
        Row("gates", "tail, quadratic", changed(TAIL, gate={"kind": "quadratic"})),
        Row("gates", "tail, neural", changed(TAIL, gate={"kind": "neural"})),
        Row("gates", "default, name, face and topic", DEFAULT),
    ]


def layers(depth: int) -> list[Row]:
    """Layers of the shift, and layers that the gate reads."""
    name = "layers"
    reads = resolve_layers(DEFAULT.read_layers, depth)
    early = tuple(range(len(reads)))
    late = tuple(range(early[-1] + 1, depth))
    earlier = changed(DEFAULT, read_layers=early, shift_layers=late)
    alone = [(layer,) for layer in range(depth - 1)]
    bands = [(layer, layer + 1) for layer in range(depth - 2)] + [tuple(range(depth - 1))]
    tail_shifts = TAIL.layers(depth)[1][0]
    return [
        *(Row(name, f"default, shift after {_list(s)}", DEFAULT, _shifted(s, DEFAULT, depth))
          for s in _bands(reads[-1] + 1, depth)),
        *(Row(name, f"default, read {_list(early)}, shift after {_list(s)}", earlier, _shifted(s, earlier, depth))
          for s in _bands(early[-1] + 1, depth)),
        *(Row(name, f"tail, shift after {_list(s)}", TAIL, _shifted(s, TAIL, depth))
          for s in _bands(tail_shifts[0], depth)),
        *(Row(name, f"tail, read {_list(r)}", changed(TAIL, read_layers=r)) for r in (*alone, *bands)),
        *(Row(name, f"paper, only {_list(o)}", PAPER, (Only(o),))
          for o in (tuple(range(depth // 2)), tuple(range(depth // 2, depth)))),
    ]  # fmt: skip


def _shifted(wanted: tuple[int, ...], settings: FitSettings, depth: int) -> tuple[Shifted, ...]:
    return () if settings.layers(depth)[1] == (wanted,) else (Shifted(wanted),)


def _bands(first: int, depth: int) -> list[tuple[int, ...]]:
    """Each single layer from `first`, and all layers from each of them."""
    singles = [(layer,) for layer in range(first, depth)]
    return [*singles, *(tuple(range(start, depth)) for start in range(first, depth - 1))]


def _list(chosen: tuple[int, ...]) -> str:
    return " ".join(map(str, chosen))


def inputs(depth: int) -> list[Row]:
    """Fits on a block's output, which is where they are applied, and fits on its input (the published code)."""
    name, later = "block input", tuple(range(1, depth))
    reads, (shifts, *_) = TAIL.layers(depth)
    lower_reads, lower_shifts = (tuple(layer - 1 for layer in one) for one in (reads, shifts))
    before = resolve_layers(DEFAULT.read_layers, depth)[-1]
    both, gate, direction = Raised(True, True), Raised(True, False), Raised(False, True)
    lower = changed(TAIL, read_layers=lower_reads, shift_layers=lower_shifts)
    lower_gate = changed(TAIL, read_layers=lower_reads, shift_layers=shifts)
    return [
        Row(name, "paper, both at the output", PAPER, (Only(later),)),
        Row(name, "paper, both at the input", PAPER, (both,)),
        Row(name, "paper, gate at the input", PAPER, (gate,)),
        Row(name, "paper, direction at the input", PAPER, (direction,)),
        Row(name, "tail, both at the output", TAIL),
        Row(name, "tail, both at the input", lower, (both,)),
        Row(name, "tail, gate at the input", lower_gate, (gate,)),
        Row(name, "default, direction at the output", DEFAULT),
        Row(name, "default, direction at the input", DEFAULT, (Shifted(tuple(range(before, depth - 1))), direction)),
    ]


def strengths(_depth: int) -> list[Row]:
    """Strengths of the shift."""
    wanted = [
        *(("default", DEFAULT, s) for s in (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)),
        *(("paper", PAPER, s) for s in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)),
    ]
    return [Row("strength", f"{name}, strength {s:g}", settings, (Strength(s),)) for name, settings, s in wanted]


def samples(_depth: int) -> list[Row]:
    """Number of pictures and names in a request, and of its retain prompts."""
    name, spec = "samples", RequestSpec
    shares = (("a third", 1 / 3), ("half", 0.5), ("all", 1.0))
    alone = "default, each person by themselves, one picture and the name"
    return [
        *(Row(name, f"default, pictures {n}, and the name", DEFAULT, request=spec(pictures=n)) for n in (1, 2, 4, 8)),
        *(Row(name, f"default, pictures {n}, no name", DEFAULT, request=spec(n, names=False)) for n in (1, 4)),
        Row(name, "default, no picture, the name", DEFAULT, request=spec(pictures=0)),
        Row(name, alone, DEFAULT, request=spec(pictures=1), alone=True),
        *(
            Row(name, f"{preset}, {part} of the retain prompts", settings, request=spec(retain=share))
            for part, share in shares
            for preset, settings in (("default", DEFAULT), ("tail", TAIL))
        ),
    ]


def refits(_depth: int) -> list[Row]:
    """All layers fitted on the bare model, or each on the model with the layers before it steered."""
    return [
        Row("refit", "paper, all layers at once", PAPER),
        Row("refit", "paper, layer after layer", PAPER, (Refitted(),)),
    ]


SECTIONS: tuple[Section, ...] = (
    policies, directions, attack, null_space, no_null_space, no_gate, gates, layers, inputs, strengths, samples, refits,
)  # fmt: skip


def all_rows(depth: int) -> list[Row]:
    """Every row, for a decoder of `depth` blocks."""
    return list(chain.from_iterable(section(depth) for section in SECTIONS))
