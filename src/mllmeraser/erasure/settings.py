"""All settings of a fit. The artifact stores those that act after it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mllmeraser.erasure.policy import PAPER, SUBJECT, TAIL, Action, Policy
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.expansion import ViewSettings

Share = Annotated[float, Field(gt=0, lt=1)]
Sentence = Annotated[str, Field(min_length=1, max_length=500)]


class Frozen(BaseModel):
    """Base of the settings: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SubjectSettings(Frozen):
    """Constants of the gate `subject`, at the values it had before they became settings.

    Attributes:
        impostors: Words that compete with each name, so that a syllable of two names does not pass for one.
        background_cohort: Retained faces that compete with all subjects: those most like a subject. 160 keep the
            artifact below 1.5 MB at the width of a 7B model.
        rivalry: Score that a state loses per unit of cosine by which a competitor fits it better.
        look_alikes: Retained faces that each subject is compared with one by one.
        pair_margin: Room below a subject's lowest picture, as a share of the distance between two faces. Without it,
            up to an eighth of the pictures of people with a double were taken for the double (`studies.room`).
        veto: Score that a face loses per unit on a look-alike's side of the boundary; the two means are 1 apart.
        name_share: Share of the false-alarm rate for a name that overlaps with other words. Others take 1 / (n + 1).
        face_share: Share of the false-alarm rate for the face of one subject. It is small: an eraser may hold many.
        margin: How far a threshold rises towards the lowest held-out forget score, as a share of the gap.
        topic_margin: How far the topic threshold lies above all other questions, as a share of the gap to the facts.
        topic_ridge: Ridge of the topic gate, as a share of the mean energy of a state.
        open_question_images: Pictures over which open questions are asked.
        name_forms: Most forms of its names that count for a subject: first name, last name, both in lower case, joined.
            Five take 0.6 kB at rank 60.
    """

    impostors: int = Field(default=4, ge=1)
    background_cohort: int = Field(default=160, ge=0)
    rivalry: float = Field(default=4.0, ge=0)
    look_alikes: int = Field(default=4, ge=0)
    pair_margin: float = Field(default=0.2, ge=0)
    veto: float = Field(default=16.0, ge=0)
    name_share: Share = 1 / 2
    face_share: Share = 1 / 20
    margin: float = Field(default=1 / 3, ge=0, le=1)
    topic_margin: float = Field(default=1 / 10, ge=0, le=1)
    topic_ridge: float = Field(default=0.05, gt=0)
    open_question_images: int = Field(default=96, ge=0)
    name_forms: int = Field(default=5, ge=0)


class NeuralSettings(Frozen):
    """Training of the gate `neural` (AdamW). The gate is for comparison; these numbers were not searched."""

    steps: int = Field(default=300, ge=1)
    batch: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)


class GateSettings(Frozen):
    """Kind of the gate and its numbers; each kind reads its own.

    Attributes:
        kind: `hard` (the paper), `soft`, `discriminant`, `quadratic`, `neural`, or `subject` (names and faces anywhere
            in the prompt; needs the policy `subject`).
        per_subject: One gate per subject and the maximum over them, or one gate for all (key `all`).
        ratio: Share of the width that counts as null space (`hard`).
        gamma: Ridge (`hard`: against sums of states; `soft`: against means), shrinkage of the retain covariance
            (`quadratic`).
        beta: Weight of the retain energy (`soft`).
        shrink: Shrinkage of a subject's covariance towards the retain covariance (`quadratic`).
        rank: Directions that are kept, None for all (`quadratic`, `subject`).
        hidden: Hidden units (`neural`).
        ridge: Share of the retain covariance added to the variation within a person (`subject`); share of the mean
            variance added to that within both sides (`discriminant`).
        miss_rate: Share of the lowest forget scores that a threshold may ignore (`subject`).
    """

    kind: str = "soft"
    per_subject: bool = True
    ratio: float = Field(default=0.3, gt=0, le=1)
    gamma: float = Field(default=0.01, ge=0)
    beta: float = Field(default=1.0, ge=0)
    shrink: float = Field(default=0.5, gt=0, le=1)
    rank: int | None = Field(default=32, ge=1)
    hidden: int = Field(default=128, ge=1)
    ridge: float = Field(default=0.05, gt=0)
    miss_rate: Share = 0.005
    subject: SubjectSettings = SubjectSettings()
    neural: NeuralSettings = NeuralSettings()


class PGDSettings(Frozen):
    """Projected gradient descent on pixels. Sizes are on the 0 to 1 scale of a picture.

    Attributes:
        epsilon: Largest change of a pixel.
        flip_tokens: Leading tokens of the target text that greedy decoding must reproduce; None for all of it.
        batch_size: Pictures attacked together.
    """

    epsilon: float = Field(default=16 / 255, gt=0)
    step: float = Field(default=2 / 255, gt=0)
    steps: int = Field(default=40, ge=1)
    flip_tokens: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=16, ge=1)


class DirectionSettings(Frozen):
    """Kind of the direction (see `erasure.directions`), and what only some kinds need.

    Attributes:
        kind: `refusal`, `unknown`, `idk`, `text-only` or `clean-image`.
        pgd: Settings of the perturbed images (`refusal`).
        idk_answer: Answer put after the forget questions (`idk`).
    """

    kind: str = "unknown"
    pgd: PGDSettings = PGDSettings()
    idk_answer: str = "I do not know this person."


class LayerRange(Frozen):
    """Layers by depth: blocks that end in the part (start, stop] of the decoder, 0 to 1.

    `LayerRange(start=0.5, stop=1)` is the second half, `LayerRange(start=0, stop=1)` every layer.
    """

    start: float = Field(ge=0, le=1)
    stop: float = Field(ge=0, le=1)


class LayerPicks(Frozen):
    """One layer per entry, by depth: 0 is the first block, 1 the last, 0.5 the middle one."""

    at: tuple[float, ...] = Field(min_length=1)


Layers = LayerRange | LayerPicks | tuple[int, ...]


def resolve_layers(layers: Layers, depth: int) -> tuple[int, ...]:
    """The 0-based layers, sorted, that `layers` means in a decoder of `depth` blocks; at least one."""
    if isinstance(layers, LayerRange):
        # The tolerance keeps 0.5 of an even depth on the lower side, however it is rounded.
        chosen = [i for i in range(depth) if layers.start + 1e-9 < (i + 1) / depth <= layers.stop + 1e-9]
    elif isinstance(layers, LayerPicks):
        chosen = []
        for place in sorted(layers.at):  # different places stay different in a shallow decoder
            chosen.append(max(round(place * (depth - 1)), chosen[-1] + 1 if chosen else 0))
    else:
        chosen = sorted(set(layers))
    if not chosen:
        raise InputError(f"{layers} means no layer of a decoder with {depth} blocks")
    if chosen[0] < 0 or chosen[-1] >= depth:
        raise InputError(f"layer {chosen[-1]} does not exist: the model has layers 0 to {depth - 1}")
    return tuple(chosen)


class FitSettings(Frozen):
    """Everything a fit depends on beside the model and the request.

    Attributes:
        read_layers: Layers where gates are read. A request-level policy reads before the first shifted layer.
        shift_layers: Layers where states are shifted. A per-layer policy reads exactly these.
        strength: Strength of the shift in units of the direction; not used if `strengths` is set.
        strengths: Strengths to choose from by generating on held-out prompts; empty: `strength` as it is.
        shift_candidates: Sets of shift layers to choose from in the same way; empty: `shift_layers` alone.
        utility_budget: Largest share of held-out retain answers that a chosen point of the grid may change.
        tune_prompts: Held-out prompts per side that each point of the grid is tried on.
        max_new_tokens: Length of the answers generated for it.
        false_alarm_rate: Share of retain prompts that may fire. With the gate `subject`, names cost at least
            1 / (n + 1) each for n calibration prompts, so the artifact may promise more than this. It stores both.
        calibration_share: Share of the retain prompts that set the threshold.
        check_share: Share of the retain prompts that only measure.
        margin: How far each subject's threshold rises towards its lowest held-out score, as a share of the gap; 0 for
            one threshold for all, from retain prompts alone.
        forget_held_out: Share of a subject's views (by name alone: of the wordings) kept out of the fit.
        views: How far views of a picture differ from it, when a request is expanded.
        reply: Sentence of a policy that replies; None: what the model says of strangers.
        seed: Of the split and of everything random.
        salt: Of the opaque subject keys and data digests; None draws one. The artifact does not hold it.
    """

    policy: Policy = TAIL
    direction: DirectionSettings = DirectionSettings()
    gate: GateSettings = GateSettings()
    read_layers: Layers = LayerRange(start=0.25, stop=0.5)
    shift_layers: Layers = LayerRange(start=0.5, stop=1.0)
    strength: float = Field(default=1.0, ge=0)
    strengths: tuple[float, ...] = ()
    shift_candidates: tuple[Layers, ...] = ()
    utility_budget: float = Field(default=0.02, ge=0, le=1)
    tune_prompts: int = Field(default=48, ge=1)
    max_new_tokens: int = Field(default=24, ge=1)
    false_alarm_rate: Share = 0.005
    calibration_share: Share = 0.3
    check_share: Share = 0.2
    margin: float = Field(default=0.0, ge=0, le=1)
    forget_held_out: float = Field(default=0.25, ge=0, lt=1)
    views: ViewSettings = ViewSettings()
    batch_size: int = Field(default=32, ge=1)
    reply: Sentence | None = None
    seed: int = 0
    salt: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> FitSettings:
        if self.calibration_share + self.check_share >= 1:
            raise ValueError("calibration_share and check_share leave no retain prompts for the fit")
        if self.margin and (self.policy.phi != "threshold" or not self.gate.per_subject):
            raise ValueError("a margin needs a threshold, and a gate for each subject")
        if self.reply is not None and not self.policy.replies:
            raise ValueError("a reply needs a policy that replies: see with_action")
        return self

    @classmethod
    def preset(cls, name: str) -> FitSettings:
        """The settings `default` (people), `knowledge` (all else), `tail` (linear) or `paper` (arXiv 2510.04217)."""
        if name not in PRESETS:
            raise InputError(f"unknown preset {name!r}: known are {', '.join(PRESETS)}")
        return PRESETS[name]

    def with_action(self, action: Action | None = None, reply: str | None = None) -> FitSettings:
        """The same settings with another action and sentence; a sentence alone is enforced beside the shift.

        A sentence for the action `shift`, which says none, is an `InputError`.
        """
        if action == "shift" and reply is not None:
            raise InputError("the action 'shift' says no sentence: choose 'reply' or 'both', or leave the reply out")
        chosen = action or ("both" if reply is not None and not self.policy.replies else self.policy.action)
        said = None if chosen == "shift" else self.reply if reply is None else reply
        return self.model_copy(update={"policy": replace(self.policy, action=chosen), "reply": said})

    def layers(self, depth: int) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
        """Read layers, and the sets of shift layers to choose from, in a decoder of `depth` blocks.

        A decision that would be read after the first shift is an `InputError`.
        """
        shifts = tuple(resolve_layers(s, depth) for s in self.shift_candidates or (self.shift_layers,))
        if self.policy.read == "per-layer":
            return tuple(sorted({layer for shift in shifts for layer in shift})), shifts
        reads = resolve_layers(self.read_layers, depth)
        if isinstance(self.shift_layers, LayerRange) and not self.shift_candidates:
            # A range means "the later layers": those after the decision.
            shifts = (tuple(layer for layer in shifts[0] if layer > reads[-1]),)
            if not shifts[0]:
                raise InputError(f"a decoder of {depth} blocks has no layer to shift after the last one read")
        first = min(shift[0] for shift in shifts)
        if reads[-1] >= first:
            raise InputError(
                f"the decision is read in layers {list(reads)}, which have to come before the first shifted "
                f"layer, {first}"
            )
        return reads, shifts


EVERY = LayerRange(start=0.0, stop=1.0)
PRESETS: dict[str, FitSettings] = {
    "default": FitSettings(
        policy=SUBJECT,
        gate=GateSettings(kind="subject", rank=60),
        # Name in the first block, topic and face in the middle; of six blocks 0, 2 and 3, shifted after 4 and 5.
        read_layers=LayerPicks(at=(0.0, 0.4, 0.6)),
        shift_layers=LayerRange(start=0.7, stop=1.0),
        # At 1 an answer that begins with the fact itself (cloze) may survive; 1.2 to 2 were alike in validation.
        strength=1.5,
        false_alarm_rate=0.01,
    ),
    "knowledge": FitSettings(
        policy=replace(TAIL, action="reply"),
        gate=GateSettings(kind="discriminant", ridge=0.1),
        # By then the model has worked out what is asked about: in SmolLM2 the six subjects of this choice were apart.
        read_layers=LayerPicks(at=(0.83,)),
        shift_layers=LayerRange(start=0.9, stop=1.0),
        direction=DirectionSettings(idk_answer="I do not know."),
        false_alarm_rate=0.01,
        margin=0.3,
    ),
    "tail": FitSettings(),
    "paper": FitSettings(
        policy=PAPER,
        direction=DirectionSettings(kind="refusal"),
        gate=GateSettings(kind="hard", per_subject=False, ratio=0.3, gamma=1.0),
        read_layers=EVERY,
        shift_layers=EVERY,
    ),
}
