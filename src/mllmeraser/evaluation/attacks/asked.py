"""Questions that try to bring something back, the answers to them, and the facts that these tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mllmeraser.evaluation.outcomes import recalled_keyword
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.conversation import Conversation, plan
from mllmeraser.samples.intervals import wilson
from mllmeraser.samples.progress import Count
from mllmeraser.samples.sample import Sample

GREEDY: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


@dataclass(frozen=True)
class Asked:
    """A question in a context: its kind, whether its person is to be forgotten, and how its answer is scored."""

    kind: str
    forgotten: bool
    sample: Sample
    conversation: Conversation


@torch.no_grad()
def answers(
    model: MultimodalModel,
    asked: Sequence[Asked],
    *,
    tokens: int = 16,
    rows: int = 24,
    count: Count | None = None,
    **options: Any,
) -> list[str]:
    """Answers to conversations, in order; a begun answer is part of it. `options` of `generate`; greedy without any."""
    found = [""] * len(asked)
    tokenizer = model.processor.tokenizer
    for part in plan([one.conversation for one in asked], rows):
        inputs = model.encode_conversations([asked[i].conversation for i in part])
        output = model.hf.generate(
            **inputs, max_new_tokens=tokens, num_beams=1, repetition_penalty=1.0, pad_token_id=tokenizer.pad_token_id,
            **(options or GREEDY),
        )  # fmt: skip
        texts = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for i, text in zip(part, texts, strict=True):
            found[i] = f"{asked[i].conversation.begun} {text.strip()}".strip()
        if count is not None:
            count(len(part))
    return found


def compared(asked: Sequence[Asked], bare: Sequence[str], erased: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each side and kind: prompts, those that the bare model answers right, and those that still are."""
    groups: dict[str, list[int]] = defaultdict(list)
    for i, one in enumerate(asked):
        groups[f"{'forgotten' if one.forgotten else 'stays'}, {one.kind}"].append(i)
    entries = {}
    for key, numbers in groups.items():
        known = [i for i in numbers if recalled_keyword(asked[i].sample, bare[i])]
        left = [i for i in known if recalled_keyword(asked[i].sample, erased[i])]
        low, high = wilson(len(left), len(known)) if known else (0.0, 1.0)
        entries[key] = {
            "n": len(numbers), "known": len(known), "left": len(left),
            "share": len(left) / len(known) if known else None, "low": low, "high": high,
            "leaked": [asked[i].sample.id for i in left] if asked[numbers[0]].forgotten else [],
        }  # fmt: skip
    return entries
