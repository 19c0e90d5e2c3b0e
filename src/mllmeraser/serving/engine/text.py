"""Turn tokens into text that may be sent: whole characters only, and nothing of a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mllmeraser.serving.engine.logprobs import TokenLogprob

UNFINISHED = "\ufffd"
"""Tokenizers decode bytes that form no character (yet) to this."""


class Chunk(NamedTuple):
    """Text that may be sent, the log-probabilities of its tokens, and whether a stop text was reached."""

    text: str
    logprobs: tuple[TokenLogprob, ...]
    stopped: bool = False


class Detokenizer:
    """Decode a growing sequence of tokens; the parts joined equal the sequence decoded at once.

    Exception: a tokenizer with byte tokens may decode a run of them to U+FFFD once one forms no character. The bytes
    before it were already sent as their characters.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Decode with `tokenizer`; special tokens have no text."""
        self._tokenizer = tokenizer
        self._known: list[int] = []
        self._fresh: list[int] = []

    def add(self, token: int) -> str:
        """Return the text that this token completes; empty while a character is incomplete."""
        self._fresh.append(token)
        text = self._new_text()
        if not text or text.endswith(UNFINISHED):
            return ""
        # These tokens stay as context: how a tokenizer decodes a token depends on the one before it.
        self._known, self._fresh = self._fresh, []
        return text

    def end(self) -> str:
        """Return the rest, with incomplete characters as U+FFFD."""
        text = self._new_text() if self._fresh else ""
        self._known, self._fresh = self._fresh, []
        return text

    def _new_text(self) -> str:
        return self._text(self._known + self._fresh)[len(self._text(self._known)) :]

    def _text(self, tokens: list[int]) -> str:
        if not tokens:
            return ""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class StopFilter:
    """Hold back text that may be the beginning of a stop text."""

    def __init__(self, stops: Sequence[str]) -> None:
        """Watch for `stops`."""
        self._stops = tuple(stops)
        self._held = ""

    def add(self, text: str) -> tuple[str, bool]:
        """Return the text that belongs to no stop text, and whether a stop text was reached."""
        self._held += text
        places = [place for place in (self._held.find(stop) for stop in self._stops) if place >= 0]
        if places:
            text, self._held = self._held[: min(places)], ""
            return text, True
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text, False

    def end(self) -> str:
        """Return the text held back, now that nothing follows."""
        text, self._held = self._held, ""
        return text


class TextStream:
    """The growing answer of one row; a log-probability is released together with the text of its token."""

    def __init__(self, tokenizer: Any, stops: Sequence[str]) -> None:
        """Decode with `tokenizer`, end at one of `stops`."""
        self._detokenizer = Detokenizer(tokenizer)
        self._filter = StopFilter(stops)
        self._read = 0
        self._sent = 0
        self._unread: list[TokenLogprob] = []
        self._unsent: list[tuple[int, TokenLogprob]] = []

    def add(self, token: int, logprob: TokenLogprob | None) -> Chunk:
        """Add one token."""
        if logprob is not None:
            self._unread.append(logprob)
        text = self._detokenizer.add(token)
        return self._chunk(text) if text else Chunk("", ())

    def end(self) -> Chunk:
        """Return the rest of an answer without a stop text; the rest may still contain one."""
        chunk = self._chunk(self._detokenizer.end())
        if chunk.stopped:
            return chunk
        rest = self._filter.end()
        self._sent += len(rest)
        return Chunk(chunk.text + rest, chunk.logprobs + self._released())

    def _chunk(self, text: str) -> Chunk:
        self._read += len(text)
        self._unsent += [(self._read, logprob) for logprob in self._unread]
        self._unread.clear()
        text, stopped = self._filter.add(text)
        self._sent += len(text)
        return Chunk(text, self._released(), stopped)

    def _released(self) -> tuple[TokenLogprob, ...]:
        """Log-probabilities of tokens sent completely: a token that runs into a stop text would reveal part of it."""
        ready = tuple(logprob for end, logprob in self._unsent if end <= self._sent)
        self._unsent = self._unsent[len(ready) :]
        return ready


def _overlap(text: str, stop: str) -> int:
    """Length of the longest suffix of `text` that is a proper prefix of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if stop.startswith(text[-size:])), 0)
