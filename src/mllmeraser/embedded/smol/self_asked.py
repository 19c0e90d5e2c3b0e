"""Questions that the bare model asks itself, so that it rehearses more of what it knows than a grammar names.

A chat model that is shown an empty turn of a user writes one (Xu et al. 2024, "Magpie"). No question that is scored
is kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mllmeraser.embedded.smol import chat
from mllmeraser.embedded.smol.rehearsal_prompts import SHORT, Prompt, content
from mllmeraser.knowledge.everyday import texts
from mllmeraser.knowledge.held_out import world_questions
from mllmeraser.samples.text import words

BEGINNINGS = texts("""
    What is the / What is / What is a / Who wrote / Who was / Who invented / Who / Where is / When did / When was / How
    many / Which / In which / In what / Name / How does / Why / What do / What does / What are / What kind of / What
""")
LONGEST = 20
"""Tokens of a question. Those that do not end by then are dropped."""
NUCLEUS = 0.9


@torch.no_grad()
def self_asked(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    n: int,
    seed: int,
    *,
    batch: int = 128,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Prompt]:
    """`n` different questions, sampled behind an empty turn of a user or behind a common beginning."""
    marks = chat.marks(tokenizer)
    opened = [*marks.system, *tokenizer(chat.SYSTEM)["input_ids"], *marks.system_end, *marks.user]
    starts = ["", "", *BEGINNINGS]
    scored, found = {content(sample.question) for sample in world_questions()}, dict[Prompt, None]()
    torch.manual_seed(seed)
    while len(found) < n:
        kept = len(found)
        begun = [tokenizer(starts[i % len(starts)], add_special_tokens=False)["input_ids"] for i in range(batch)]
        width = len(opened) + max(map(len, begun))
        pads = [width - len(opened) - len(one) for one in begun]
        ids = [[tokenizer.pad_token_id] * pad + opened + one for pad, one in zip(pads, begun, strict=True)]
        mask = [[0] * pad + [1] * (width - pad) for pad in pads]
        out = model.generate(
            input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask), max_new_tokens=LONGEST,
            do_sample=True, top_p=NUCLEUS, top_k=0, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        for pad, row in zip(pads, out.tolist(), strict=True):
            asked = row[pad + len(opened) :]
            if tokenizer.eos_token_id not in asked:
                continue
            text = tokenizer.decode(asked[: asked.index(tokenizer.eos_token_id)]).strip()
            if "\n" not in text and len(words(text)) > 2 and content(text) not in scored:
                found.setdefault(Prompt(text, longest=SHORT))
        progress(len(found) - kept)
    return list(found)[:n]
