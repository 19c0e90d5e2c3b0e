"""Log-probabilities of the tokens of an answer, with the bytes of each token."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.convert_slow_tokenizer import bytes_to_unicode

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenLogprob(NamedTuple):
    """A token with its log-probability in nats; ``top`` holds the most likely tokens at its place, likeliest first."""

    token: str
    bytes: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


class TokenNames:
    """Text and bytes of single tokens of a tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        """Read from `tokenizer` how its tokens spell bytes."""
        self._tokenizer = tokenizer
        self._added = {int(key) for key in tokenizer.added_tokens_decoder}
        backend = getattr(tokenizer, "backend_tokenizer", None)
        byte_level = "ByteLevel" in _decoder_kinds(getattr(backend, "decoder", None))
        self._alphabet = {sign: byte for byte, sign in bytes_to_unicode().items()} if byte_level else None

    def bytes_of(self, token: int) -> bytes:
        """Bytes of one token; several tokens may share one character."""
        piece = str(self._tokenizer.convert_ids_to_tokens(token))
        if token in self._added:
            return piece.encode()
        if self._alphabet is not None and all(sign in self._alphabet for sign in piece):
            return bytes(self._alphabet[sign] for sign in piece)
        byte = _BYTE.fullmatch(piece)
        return bytes([int(byte[1], 16)]) if byte else piece.replace("\u2581", " ").encode()

    def named(self, token: int, logprob: float) -> TokenLogprob:
        """Name a token; an incomplete character reads as U+FFFD."""
        data = self.bytes_of(token)
        return TokenLogprob(data.decode(errors="replace"), data, logprob)


def token_logprobs(
    logits: Tensor, tokens: Sequence[int], wanted: Sequence[int | None], names: TokenNames
) -> list[TokenLogprob | None]:
    """Read log-probabilities from raw logits (rows, vocabulary): `wanted` alternatives per row, None for no entry."""
    entries: list[TokenLogprob | None] = [None] * len(wanted)
    rows = [row for row, count in enumerate(wanted) if count is not None]
    if not rows:
        return entries
    scores = logits[rows].float().log_softmax(-1)
    most = min(max(wanted[row] or 0 for row in rows), scores.shape[-1])
    values, ids = (part.tolist() for part in scores.topk(most, dim=-1))
    chosen = scores.gather(-1, torch.tensor([tokens[row] for row in rows], device=scores.device)[:, None])[:, 0]
    for number, (row, value) in enumerate(zip(rows, chosen.tolist(), strict=True)):
        likely = list(zip(ids[number], values[number], strict=True))[: wanted[row]]
        top = tuple(names.named(token, logprob) for token, logprob in likely)
        entries[row] = names.named(tokens[row], value)._replace(top=top)
    return entries


def _decoder_kinds(decoder: Any) -> set[str]:
    """Kinds of the steps by which a fast tokenizer turns tokens into text."""
    if decoder is None:
        return set()
    state = json.loads(decoder.__getstate__())
    return {str(step["type"]) for step in [state, *state.get("decoders", [])]}
