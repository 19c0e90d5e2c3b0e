"""The model card of an eraser: what it is, how to use it, what was measured, and what it does not promise."""

from __future__ import annotations

import re

from mllmeraser.erasure.artifact.manifest import Calibration, EraserConfig

TAGS = ["machine-unlearning", "activation-steering", "multimodal"]

_TEXT = """---
{{ card_data }}
---

# Eraser for {{ base }}

A detachable eraser made by mllmeraser: it makes a frozen multimodal model
answer as if it had never known {{ subjects }} (test-time erasure after MLLMEraser, arXiv 2510.04217). It holds
directions and gates, no weights of the model, and no name, picture, question or answer of anybody.

## Use

```python
from mllmeraser import Eraser, ask, load_model

model = load_model("{{ base }}")
with Eraser.from_pretrained("{{ repo }}").attached(model):
    print(ask(model, "Where does this person live?", image="picture.png").answer)
```

It attaches to this model alone: other weights, another chat format or another precision are refused with a clear error.

| | |
|---|---|
{% for name, value in facts %}| {{ name }} | {{ value }} |
{% endfor %}
## What was measured

{% if measured %}On prompts that neither the gates nor the threshold were fitted on:

| | |
|---|---|
{% for name, value in measured %}| {{ name }} | {{ value }} |
{% endfor %}{% else %}Nothing: this eraser was not calibrated.
{% endif %}
## What it does not promise

- The weights still hold what the eraser hides. Whoever has them can run the model without the eraser.
- It was measured on prompts of the kinds above. Other languages, styles of pictures and attacks may get through.
- Whoever looks very much like the forgotten person may be taken for that person.
"""


def card_of(config: EraserConfig, repo_id: str) -> str:
    """Text of the card of an eraser, YAML head and all; nothing in it names a person.

    Args:
        config: The manifest.
        repo_id: Where the card will stand, for the example.
    """
    from huggingface_hub import ModelCard, ModelCardData

    # the hub checks that this is a repository; a folder or an embedded model is none
    base = config.base_model if re.fullmatch(r"[\w.-]+/[\w.-]+", config.base_model) else None
    data = ModelCardData(base_model=base, library_name="mllmeraser", tags=TAGS)
    card = ModelCard.from_template(
        data,
        template_str=_TEXT,
        base=config.base_model,
        repo=repo_id,
        subjects=_people(len(config.subjects)),
        facts=_facts(config),
        measured=[*_calibrated(config.calibration), *_verified(config)],
    )
    return str(card)


def _people(count: int) -> str:
    return "one subject" if count == 1 else f"{count} subjects"


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
    ]
    return [(name, value) for name, value in rows if value is not None]


def _alarms(found: Calibration) -> str | None:
    share, stated = _percent(found.false_alarms), _percent(found.false_alarm_target)
    return share if share is None or stated is None else f"{share} ({stated} stated)"


def _verified(config: EraserConfig) -> list[tuple[str, str]]:
    return [(f"verified: {name}", f"{value:.4g}") for name, value in sorted(config.verification.items())]


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f} %"
