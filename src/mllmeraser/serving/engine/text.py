"""From tokens to text that may be sent: whole characters only, and nothing of a text that ends the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mllmeraser.serving.engine.logprobs import TokenLogprob

UNFINISHED = "\ufffd"
"""How a tokenizer writes bytes that make no character (yet)."""


class Said(NamedTuple):
    """Text that may be sent, the log-probabilities that belong to it, and whether a stop text came up."""

    text: str
    logprobs: tuple[TokenLogprob, ...]
    stopped: bool = False


class Detokeniser:
    """Text of a growing sequence of tokens; together it is the sequence decoded at once.

    A tokenizer that spells bytes as tokens of their own may write a whole run of them as U+FFFD once one of them makes
    no character: those before it have been sent as what they were.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Decode with `tokenizer`; special tokens have no text."""
        self._tokenizer = tokenizer
        self._known: list[int] = []
        self._fresh: list[int] = []

    def add(self, token: int) -> str:
        """Text that this token completes; empty while a character is not whole."""
        self._fresh.append(token)
        text = self._new_text()
        if not text or text.endswith(UNFINISHED):
            return ""
        # The next text is read beside these tokens: how a tokenizer writes one depends on the one before.
        self._known, self._fresh = self._fresh, []
        return text

    def end(self) -> str:
        """What is left, bytes that made no character as U+FFFD."""
        text = self._new_text() if self._fresh else ""
        self._known, self._fresh = self._fresh, []
        return text

    def _new_text(self) -> str:
        return self._text(self._known + self._fresh)[len(self._text(self._known)) :]

    def _text(self, tokens: list[int]) -> str:
        if not tokens:
            return ""
        said = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(said)


class StopFilter:
    """Holds back what may be the beginning of a stop text."""

    def __init__(self, stops: Sequence[str]) -> None:
        """Watch for `stops`."""
        self._stops = tuple(stops)
        self._held = ""

    def add(self, text: str) -> tuple[str, bool]:
        """Text that can be no part of a stop text, and whether one came up; then nothing is held any more."""
        self._held += text
        places = [place for place in (self._held.find(stop) for stop in self._stops) if place >= 0]
        if places:
            text, self._held = self._held[: min(places)], ""
            return text, True
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return text, False

    def end(self) -> str:
        """What was held back, now that nothing follows."""
        text, self._held = self._held, ""
        return text


class TextStream:
    """The answer of one row as it grows; log-probabilities come with the text of their token, never before it."""

    def __init__(self, tokenizer: Any, stops: Sequence[str]) -> None:
        """Decode with `tokenizer`, end at one of `stops`."""
        self._detokeniser = Detokeniser(tokenizer)
        self._filter = StopFilter(stops)
        self._read = 0
        self._sent = 0
        self._unread: list[TokenLogprob] = []
        self._unsent: list[tuple[int, TokenLogprob]] = []

    def add(self, token: int, logprob: TokenLogprob | None) -> Said:
        """Account for one token."""
        if logprob is not None:
            self._unread.append(logprob)
        text = self._detokeniser.add(token)
        return self._said(text) if text else Said("", ())

    def end(self) -> Said:
        """What is left when the answer ends without a stop text; one may still come up in it."""
        said = self._said(self._detokeniser.end())
        if said.stopped:
            return said
        rest = self._filter.end()
        self._sent += len(rest)
        return Said(said.text + rest, said.logprobs + self._released())

    def _said(self, text: str) -> Said:
        self._read += len(text)
        self._unsent += [(self._read, logprob) for logprob in self._unread]
        self._unread.clear()
        text, stopped = self._filter.add(text)
        self._sent += len(text)
        return Said(text, self._released(), stopped)

    def _released(self) -> tuple[TokenLogprob, ...]:
        """Those of tokens whose text was sent to its end: one that runs into a stop text would show some of it."""
        ready = tuple(logprob for end, logprob in self._unsent if end <= self._sent)
        self._unsent = self._unsent[len(ready) :]
        return ready


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins, `stop` itself excluded."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if stop.startswith(text[-size:])), 0)
