"""What pretraining gave, before and after: world questions, perplexity on plain text, rules of system prompts.

The bare language model is the one that `embedded:smol` was made of. Only questions that it answers right count.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from mllmeraser.evaluation.attacks.asked import Asked, answers
from mllmeraser.knowledge.held_out import plain_texts, system_prompts, world_questions
from mllmeraser.models.families import family_for
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.sample import Sample
from mllmeraser.samples.text import contains
from mllmeraser.studies.record import begin, study_parser

LONGEST = 24
"""Tokens of an answer to a world question."""
RULED = Sample("An answer after a system text that sets a rule.")


def bare_model() -> MultimodalModel:
    """SmolLM2 as it is in its file, behind the same chat format; it was taught no pictures."""
    from mllmeraser.embedded.smol.architecture import Smol, assemble
    from mllmeraser.embedded.smol.base import base_file, load_base

    language, tokenizer = load_base(base_file())
    model = assemble(language, tokenizer)
    return MultimodalModel("smollm2", model, Smol().build_processor(tokenizer), family_for(model.config))


def measured(model: MultimodalModel) -> dict[str, Any]:
    """Ids of the world questions that a model answers right, its perplexity, and the rules that it keeps."""
    asked = world_questions()
    said = model.generate(list(asked), max_new_tokens=LONGEST, batch_size=32)
    right = [s.id for s, answer in zip(asked, said, strict=True) if any(contains(answer, key) for key in s.keywords)]
    ruled = system_prompts()
    told = answers(model, [Asked("rule", False, RULED, one.conversation) for one in ruled])
    kept = [one.kept(answer) for one, answer in zip(ruled, told, strict=True)]
    return {
        "right": right,
        "asked": len(asked),
        "perplexity": perplexity(model),
        "rules kept": sum(kept),
        "rules": len(kept),
    }


@torch.no_grad()
def perplexity(model: MultimodalModel) -> float:
    """Of plain texts, without a chat format: exp of the mean negative log-likelihood of a token."""
    losses, count = 0.0, 0
    for text in plain_texts():
        ids = model.processor.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        logits = model.hf(input_ids=ids.to(model.device)).logits[0, :-1].float()
        losses += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:].to(logits.device), reduction="sum"))
        count += ids.shape[1] - 1
    return math.exp(losses / count)


def compared(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What is left of what a model could do before."""
    known = set(before["right"])
    return {
        "known before": len(known),
        "still right": len(known & set(after["right"])) / len(known),
        "perplexity": after["perplexity"] / before["perplexity"] - 1,
        "rules": [before["rules kept"] / before["rules"], after["rules kept"] / after["rules"]],
    }


def main(argv: list[str] | None = None) -> None:
    """Measure the bare model and the taught one, and write the results."""
    parser = study_parser("pretrained", __doc__, "pretrained-NAME.json")
    parser.set_defaults(model="embedded:smol")
    _, model, _, report = begin(parser, argv)
    for name, make in (("bare", bare_model), ("taught", lambda: model)):
        if name not in report:
            report.add(name, measured(make()))
    print(compared(report["bare"], report["taught"]), flush=True)


if __name__ == "__main__":
    main()
