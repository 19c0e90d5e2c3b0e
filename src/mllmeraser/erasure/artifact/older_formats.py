"""Manifests of older formats, brought to the newest one as they are read.

The format rises with every new field, since readers refuse unknown ones. It also rises when a field gets another
meaning, another name or a value that older readers would misread.

1: first release.
2: the face gate of the policy `subject` reads the mean over a picture, no longer its last token.
3: the constants of scoring are settings in the manifest; asked and promised false-alarm rates are stored apart; the
   policy says `masks_prompt`, `linear` and `subject` where it said `hide_prompt` and `identity`, and has an action.
   Reply and rates in contexts are new. The manifest states its own digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from mllmeraser.samples.errors import ArtifactError
from mllmeraser.samples.sealed import unsealed

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
    """The content of a manifest in the newest format; `source` names it in errors."""
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
        return unsealed(content, source)
    policy = _renamed(content.get("policy"), {"hide_prompt": "masks_prompt"}, {"phi": "linear", "pooling": "subject"})
    if version == 1 and policy.get("pooling") == "subject":
        raise ArtifactError(
            f"{source}: written by mllmeraser {release} before format 2, when its gate read other states: fit it again"
        )
    return {
        **content,
        "format_version": FORMAT_VERSION,
        "policy": policy,
        "gate": {**_renamed(content.get("gate"), {"spare": "miss_rate"}, {"kind": "subject"}), **BEFORE_3},
        "views": VIEWS_BEFORE_3,
        "calibration": _renamed(content.get("calibration"), {"false_alarm_target": "false_alarm_rate_promised"}, {}),
    }


def _renamed(old: Any, names: Mapping[str, str], identity: Mapping[str, str]) -> dict[str, Any]:
    """An object of a manifest with new names of fields, and what `identity` is called now in a field."""
    fields = {names.get(name, name): value for name, value in dict(old or {}).items()}
    return {**fields, **{name: new for name, new in identity.items() if fields.get(name) == "identity"}}
