"""The model card of an eraser: what it is, how to use it, what was measured, and what it does not promise."""

from __future__ import annotations

import re
from pathlib import Path

from mllmeraser.erasure.artifact.manifest import Calibration, EraserConfig

TAGS = ["machine-unlearning", "activation-steering", "multimodal"]
TEMPLATE = Path(__file__).with_name("model_card.md.jinja")


def card_of(config: EraserConfig, repo_id: str) -> str:
    """Text of the card of an eraser in the repository `repo_id`, YAML head included. It names no person."""
    from huggingface_hub import ModelCard, ModelCardData

    # The hub checks that this is a repository. A folder or an embedded model is not.
    base = config.base_model if re.fullmatch(r"[\w.-]+/[\w.-]+", config.base_model) else None
    data = ModelCardData(base_model=base, library_name="mllmeraser", tags=TAGS)
    card = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        base=config.base_model,
        repo=repo_id,
        subjects="one subject" if len(config.subjects) == 1 else f"{len(config.subjects)} subjects",
        facts=_facts(config),
        measured=[
            *_calibrated(config.calibration),
            *((f"verified: {name}", f"{value:.4g}") for name, value in sorted(config.verification.items())),
        ],
    )
    return str(card)


def _facts(config: EraserConfig) -> list[tuple[str, str]]:
    return [
        ("model", f"{config.base_model}{'' if config.revision is None else f' at {config.revision}'}"),
        ("fingerprint of the weights", f"`{config.fingerprint[:16]}`"),
        ("precision", config.dtype),
        ("read after blocks", ", ".join(map(str, config.read_layers))),
        ("shifted after blocks", ", ".join(map(str, config.shift_layers))),
        ("gate, direction, policy", f"{config.gate.kind}, {config.direction.kind}, {config.policy.name}"),
        ("made", f"{config.created[:10]}, mllmeraser {config.package_version}"),
    ]


def _calibrated(found: Calibration) -> list[tuple[str, str]]:
    rows = [
        ("forgotten prompts recognised", _percent(found.detected)),
        ("false alarms on retained prompts", _alarms(found)),
        ("area under the curve of the decision", None if found.auc is None else f"{found.auc:.4f}"),
        *((f"recognised in a conversation ({kind})", f"{one.detected} of {one.forget}; false alarms {one.false_alarms} "
           f"of {one.retain}") for kind, one in found.contexts.items()),
    ]  # fmt: skip
    return [(name, value) for name, value in rows if value is not None]


def _alarms(found: Calibration) -> str | None:
    share, stated = _percent(found.false_alarms), _percent(found.false_alarm_rate_promised)
    return share if share is None or stated is None else f"{share} ({stated} promised)"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f} %"
