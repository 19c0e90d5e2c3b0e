"""Move a trained model to another tokenizer: a new token begins as the mean of the old tokens that spelt it."""

from __future__ import annotations

import torch
from transformers import PreTrainedTokenizerFast


@torch.no_grad()
def translate(embeddings: torch.Tensor, old: PreTrainedTokenizerFast, new: PreTrainedTokenizerFast) -> torch.Tensor:
    """Rows of an embedding matrix for another tokenizer's tokens.

    Args:
        embeddings: (tokens of ``old``, width).
        old: The tokenizer they were trained with.
        new: The tokenizer to have rows for.

    Returns:
        (tokens of ``new``, width); a token that ``old`` has keeps its row.
    """
    known, rows = old.get_vocab(), []
    for token in new.convert_ids_to_tokens(list(range(len(new)))):
        ids = [known[token]] if token in known else _spelt(token, old, new)
        rows.append(embeddings[ids].mean(0))
    return torch.stack(rows)


def _spelt(token: str, old: PreTrainedTokenizerFast, new: PreTrainedTokenizerFast) -> list[int]:
    text = new.convert_tokens_to_string([token])
    ids: list[int] = old(text, add_special_tokens=False)["input_ids"]
    return ids or [old.pad_token_id]
