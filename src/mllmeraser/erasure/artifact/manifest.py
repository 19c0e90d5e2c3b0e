"""What an eraser says about itself: `eraser_config.json`. It never holds a name, a question or an answer."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from mllmeraser.erasure.artifact.older_formats import FORMAT_VERSION, upgraded
from mllmeraser.erasure.gates import Gate, gate_class
from mllmeraser.erasure.policy import Policy
from mllmeraser.erasure.settings import DirectionSettings, Frozen, GateSettings
from mllmeraser.models.turns import TurnFormat
from mllmeraser.samples.errors import ArtifactError
from mllmeraser.samples.expansion import ViewSettings
from mllmeraser.samples.sealed import sealed

NUMBERS = re.compile(r"\[\n([\d,\s]+?)\n *\]")
"""A list of whole numbers, one on each line. No string of JSON holds a line break."""
LISTS = re.compile(r"\],\n *\[")
"""The line between two lists in a list."""
CONFIG_FILE = "eraser_config.json"
TENSOR_FILE = "eraser_model.safetensors"
TOKEN_KINDS = "token_kinds"
"""Tensor with the kind of every token of the vocabulary; see `models.wording`."""


class DataDigests(Frozen):
    """Salted SHA-256 digests of the data and how many samples there were. The salt is not in the artifact."""

    forget: str = ""
    retain: str = ""
    strangers: str = ""
    contrast: str = ""
    counts: dict[str, int] = {}


class GridPoint(Frozen):
    """One point of the calibration curve, measured by generating on held-out prompts.

    Attributes:
        forget_kept: Share of forget prompts that keep the bare model's answer.
        forget_reached: Share answered like a stranger's prompt, where the direction has strangers.
        degenerate: Share of forget answers that are empty or repeat themselves.
        retain_changed: Share of retain prompts that do not keep it: the utility spent.
    """

    strength: float
    shift_layers: tuple[int, ...]
    forget_kept: float
    forget_reached: float | None = None
    degenerate: float = 0.0
    retain_changed: float = 0.0


class ContextRates(Frozen):
    """Decisions in one kind of context, on held-out prompts: about the subjects, and other ones of the third set."""

    detected: int
    forget: int
    false_alarms: int
    retain: int


class Calibration(Frozen):
    """How the threshold and the strength were chosen, and what the decision does on other data.

    Attributes:
        false_alarm_rate_asked: Rate that the settings asked for; None without a threshold, and in older artifacts.
        false_alarm_rate_promised: Rate that the thresholds keep to on retain prompts; None without a threshold. With
            the gate `subject` it is the sum over the subjects, and may exceed what was asked.
        n: Held-out retain prompts behind the threshold.
        n_check: Retain prompts of the third set, which measures `false_alarms` (with a 95 % Wilson interval).
        detected: Share of held-out forget prompts above the threshold.
        auc: Area under the curve of the decision, held-out forget against the third set.
        mean_forget: Mean score on held-out forget prompts; `mean_retain`: on the third set.
        flip_rate: Share of contrast pairs with a perturbed image that made the model comply.
        utility_budget: Largest share of retained answers that may change.
        contexts: Decisions by kind of context; empty for policies that take a conversation for one question.
    """

    false_alarm_rate_asked: float | None = None
    false_alarm_rate_promised: float | None = None
    n: int = 0
    n_check: int = 0
    false_alarms: float | None = None
    false_alarms_interval: tuple[float, float] | None = None
    detected: float | None = None
    auc: float | None = None
    mean_forget: float | None = None
    mean_retain: float | None = None
    flip_rate: float | None = None
    utility_budget: float | None = None
    curve: tuple[GridPoint, ...] = ()
    contexts: dict[str, ContextRates] = {}


class Reply(Frozen):
    """A sentence that a policy enforces, and its tokens; the last one ends the answer."""

    text: str = Field(min_length=1)
    tokens: tuple[int, ...] = Field(min_length=2)


class EraserConfig(Frozen):
    """The manifest of an eraser.

    `subjects` are opaque keys in the order of the gates' rows, `counts` the samples behind each one's share of the
    direction. `turns` are the marks of turns in a conversation. `reply` is the sentence of a policy that replies.
    `tensors_sha256` binds the tensor file. `derived_from` is the digest of the eraser before a revocation.
    """

    format_version: Literal[3] = FORMAT_VERSION
    package_version: str
    created: str
    base_model: str
    revision: str | None = None
    fingerprint: str
    dtype: str
    prompt_hash: str
    hidden_size: int = Field(gt=0)
    num_layers: int = Field(gt=0)
    read_layers: tuple[int, ...] = Field(min_length=1)
    shift_layers: tuple[int, ...] = Field(min_length=1)
    policy: Policy
    gate: GateSettings = GateSettings()
    direction: DirectionSettings = DirectionSettings()
    views: ViewSettings = ViewSettings()
    strength: float = Field(default=1.0, ge=0)
    threshold: float | None = None
    turns: TurnFormat | None = None
    reply: Reply | None = None
    subjects: tuple[str, ...] = Field(min_length=1)
    counts: tuple[int, ...] = ()
    data: DataDigests = DataDigests()
    calibration: Calibration = Calibration()
    verification: dict[str, float] = {}
    tensors_sha256: str = ""
    derived_from: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> EraserConfig:
        for layer in (*self.read_layers, *self.shift_layers):
            if not 0 <= layer < self.num_layers:
                raise ValueError(f"layer {layer} does not exist: the model has layers 0 to {self.num_layers - 1}")
        if self.policy.phi == "threshold" and self.threshold is None:
            raise ValueError("the policy decides by a threshold, and there is none")
        if self.policy.replies and self.reply is None:
            raise ValueError("the policy replies with a sentence, and there is none")
        return self

    def gate_class(self, layer: int) -> type[Gate]:
        """The class of the gate at a read layer."""
        return gate_class(self.gate.kind).at_layer(sorted(set(self.read_layers)).index(layer))

    def to_json(self) -> str:
        """The text of `eraser_config.json`."""
        text = json.dumps(sealed(self.model_dump(mode="json")), indent=2, sort_keys=True)
        text = NUMBERS.sub(lambda found: f"[{' '.join(found.group(1).split())}]", text)
        return LISTS.sub("], [", text) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str) -> EraserConfig:
        """Read a manifest; `source` names it in errors (`ArtifactError`)."""
        try:
            content: Any = json.loads(text)
        except ValueError as error:
            raise ArtifactError(f"{source}: not JSON ({error})") from error
        if not isinstance(content, dict):
            raise ArtifactError(f"{source}: not the configuration of an eraser")
        content = upgraded(content, source)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "configuration"
            writer = f"written by mllmeraser {content.get('package_version', 'of an unknown release')}"
            raise ArtifactError(f"{source}: {place}: {first['msg']} ({writer})") from error


def subject_key(subject: str, salt: str) -> str:
    """Opaque key of a subject: 16 hex digits of SHA-256 over the salt and its key in the request.

    Without the salt, which the artifact does not hold, a key cannot be tested against a guessed name.
    """
    return hashlib.sha256(f"{salt}\0{subject}".encode()).hexdigest()[:16]
