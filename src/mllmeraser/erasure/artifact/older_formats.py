"""Manifests of older formats, brought to the newest one as they are read.

The format rises when a field gets another meaning, another name or a value that older readers would misread, and when a
constant of scoring becomes a setting. It does not rise for a new optional field that a reader may ignore: there is none,
since readers refuse unknown fields. So every new field raises it.

1: first release.
2: the face gate of the policy `subject` reads the mean over a picture, no longer its last token.
3: the constants of scoring are settings in the manifest; asked and promised false-alarm rates are stored apart; the
   policy says `masks_prompt`, `linear` and `subject` where it said `hide_prompt` and `identity`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from mllmeraser.samples.errors import ArtifactError

FORMAT_VERSION: Literal[3] = 3

#: Constants with which erasers of formats 1 and 2 were calibrated. They never change, whatever the defaults become.
BEFORE_3: Mapping[str, Mapping[str, float]] = {
    "subject": {
        "impostors": 4, "background_cohort": 160, "rivalry": 4.0, "look_alikes": 4, "pair_margin": 0.2, "veto": 16.0,
        "name_share": 1 / 2, "face_share": 1 / 20, "margin": 1 / 3, "topic_margin": 1 / 10, "topic_ridge": 0.05,
        "open_question_images": 96,
    },
    "neural": {"steps": 300, "batch": 256, "learning_rate": 2e-3, "weight_decay": 1e-4},
}  # fmt: skip

VIEWS_BEFORE_3: Mapping[str, float] = {"crop": 0.08, "rotation": 8.0, "shift": 0.04, "colour": 0.15, "blur": 0.008}


def upgraded(content: dict[str, Any], source: str) -> dict[str, Any]:
    """The content of a manifest in the newest format; `source` names it in errors.

    Raises:
        ArtifactError: This package cannot use the eraser: its format is newer, or its gates read other states.
    """
    version = content.get("format_version")
    if not isinstance(version, int):
        raise ArtifactError(f"{source}: not the configuration of an eraser")
    release = content.get("package_version", "an unknown release")
    if version > FORMAT_VERSION:
        raise ArtifactError(
            f"{source}: written by mllmeraser {release} in format {version}, and this release reads up to format "
            f"{FORMAT_VERSION}: upgrade mllmeraser"
        )
    if version == FORMAT_VERSION:
        return content
    policy = _policy(content.get("policy"))
    if version == 1 and policy.get("pooling") == "subject":
        raise ArtifactError(
            f"{source}: written by mllmeraser {release} before format 2, when its gate read other states: fit it again"
        )
    return {
        **content,
        "format_version": FORMAT_VERSION,
        "policy": policy,
        "gate": _gate(content.get("gate")),
        "views": VIEWS_BEFORE_3,
        "calibration": _calibration(content.get("calibration")),
    }


def _policy(old: Any) -> dict[str, Any]:
    policy = dict(old or {})
    if "hide_prompt" in policy:
        policy["masks_prompt"] = policy.pop("hide_prompt")
    if policy.get("phi") == "identity":
        policy["phi"] = "linear"
    if policy.get("pooling") == "identity":
        policy["pooling"] = "subject"
    return policy


def _gate(old: Any) -> dict[str, Any]:
    gate = {**dict(old or {}), **BEFORE_3}
    if "spare" in gate:
        gate["miss_rate"] = gate.pop("spare")
    if gate.get("kind") == "identity":
        gate["kind"] = "subject"
    return gate


def _calibration(old: Any) -> dict[str, Any]:
    calibration = dict(old or {})
    if "false_alarm_target" in calibration:
        calibration["false_alarm_rate_promised"] = calibration.pop("false_alarm_target")
    return calibration
