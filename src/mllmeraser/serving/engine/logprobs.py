"""Log-probabilities of the tokens of an answer, with the bytes that each token stands for."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Alternative(NamedTuple):
    """A token that could have come: its text, its bytes, and its log-probability in nats."""

    token: str
    bytes: bytes
    logprob: float


class TokenLogprob(NamedTuple):
    """The token that came, and the most likely ones at its place, the likeliest first."""

    token: str
    bytes: bytes
    logprob: float
    top: tuple[Alternative, ...]


class TokenNames:
    """What the tokens of a tokenizer stand for, each by itself."""

    def __init__(self, tokenizer: Any) -> None:
        """Read from `tokenizer` how its pieces spell bytes."""
        self._tokenizer = tokenizer
        self._added = {int(key) for key in tokenizer.added_tokens_decoder}
        backend = getattr(tokenizer, "backend_tokenizer", None)
        kinds = _decoders(getattr(backend, "decoder", None))
        self._alphabet = _byte_alphabet() if "ByteLevel" in kinds else None

    def bytes_of(self, token: int) -> bytes:
        """Bytes of one token; several tokens may share one character."""
        piece = str(self._tokenizer.convert_ids_to_tokens(token))
        if token in self._added:
            return piece.encode()
        if self._alphabet is not None and all(sign in self._alphabet for sign in piece):
            return bytes(self._alphabet[sign] for sign in piece)
        found = _BYTE.fullmatch(piece)
        return bytes([int(found[1], 16)]) if found else piece.replace("\u2581", " ").encode()

    def named(self, token: int, logprob: float) -> Alternative:
        """A token with its log-probability; a character that is not whole reads as U+FFFD."""
        data = self.bytes_of(token)
        return Alternative(data.decode(errors="replace"), data, logprob)


def token_logprobs(
    logits: Tensor, tokens: Sequence[int], wanted: Sequence[int | None], names: TokenNames
) -> list[TokenLogprob | None]:
    """Of the logits (rows, vocabulary) as the model gave them; `wanted` alternatives per row, None: no entry."""
    found: list[TokenLogprob | None] = [None] * len(wanted)
    rows = [row for row, count in enumerate(wanted) if count is not None]
    if not rows:
        return found
    scores = logits[rows].float().log_softmax(-1)
    most = min(max(wanted[row] or 0 for row in rows), scores.shape[-1])
    values, ids = (part.tolist() for part in scores.topk(most, dim=-1))
    chosen = scores.gather(-1, torch.tensor([tokens[row] for row in rows], device=scores.device)[:, None])[:, 0]
    for number, (row, value) in enumerate(zip(rows, chosen.tolist(), strict=True)):
        likely = list(zip(ids[number], values[number], strict=True))[: wanted[row]]
        top = tuple(names.named(token, logprob) for token, logprob in likely)
        found[row] = TokenLogprob(*names.named(tokens[row], value), top)
    return found


def _decoders(decoder: Any) -> set[str]:
    """Kinds of the steps by which a fast tokenizer makes text of tokens."""
    if decoder is None:
        return set()
    state = json.loads(decoder.__getstate__())
    return {str(step["type"]) for step in [state, *state.get("decoders", [])]}


def _byte_alphabet() -> dict[str, int]:
    """Sign of byte-level BPE -> its byte: printable ones stand for themselves, the others follow from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + n): byte for n, byte in enumerate(others)}
