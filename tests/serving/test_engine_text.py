"""What may be sent of an answer as it grows: whole characters, and nothing of a stop text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from mllmeraser.serving.engine.logprobs import TokenLogprob, TokenNames
from mllmeraser.serving.engine.text import UNFINISHED, Detokenizer, StopFilter, TextStream
from tiny import LLAVA_TEMPLATE, build_tokenizer

BYTE_LEVEL = build_tokenizer(["<|user|>", "<image>", "<|end|>"], eos="<|end|>", template=LLAVA_TEMPLATE)


def sentence_piece() -> PreTrainedTokenizerFast:
    """As Llama's: spaces as a sign before words, bytes as tokens of their own, the first space dropped."""
    words = ["<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "\u2581the", "\u2581cat", "s", "."]
    backend = Tokenizer(models.BPE({word: n for n, word in enumerate(words)}, [], byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>")


SENTENCE_PIECE = sentence_piece()
TOKENIZERS = pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, SENTENCE_PIECE], ids=["byte-level", "sentence-piece"])


def streamed(tokenizer: PreTrainedTokenizerFast, tokens: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer)
    return [*(detokenizer.add(token) for token in tokens), detokenizer.end()]


@TOKENIZERS
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_pieces_together_are_the_text_decoded_at_once(tokenizer: PreTrainedTokenizerFast, data: st.DataObject) -> None:
    tokens = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=30))
    whole = tokenizer.decode(tokens, skip_special_tokens=True)
    # One byte that makes no character spoils all byte tokens beside it, those that were sent too.
    if tokenizer is BYTE_LEVEL or UNFINISHED not in whole:
        assert "".join(streamed(tokenizer, tokens)) == whole


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=30))
def test_no_piece_holds_half_a_character(text: str) -> None:
    tokens = BYTE_LEVEL(text, add_special_tokens=False)["input_ids"]
    pieces = streamed(BYTE_LEVEL, tokens)
    assert "".join(pieces) == BYTE_LEVEL.decode(tokens, skip_special_tokens=True)
    if UNFINISHED not in text:
        assert not any(UNFINISHED in piece for piece in pieces)


def test_a_character_comes_when_its_last_byte_does() -> None:
    tokens = BYTE_LEVEL("a\u20acb", add_special_tokens=False)["input_ids"]
    assert len(tokens) == 5
    assert streamed(BYTE_LEVEL, tokens) == ["a", "", "", "\u20ac", "b", ""]
    assert streamed(BYTE_LEVEL, tokens[:3]) == ["a", "", "", UNFINISHED]


def test_the_space_of_a_word_comes_with_it() -> None:
    the, cat = SENTENCE_PIECE.convert_tokens_to_ids(["\u2581the", "\u2581cat"])
    assert streamed(SENTENCE_PIECE, [the, cat, 1, cat]) == ["the", " cat", "", " cat", ""]


SIGNS = st.text("ab\u20ac", max_size=12)


@settings(max_examples=400, deadline=None)
@given(parts=st.lists(SIGNS, max_size=8), stops=st.lists(st.text("ab\u20ac", min_size=1, max_size=4), max_size=3))
def test_nothing_of_a_stop_text_is_let_out(parts: list[str], stops: list[str]) -> None:
    watch, out, whole = StopFilter(stops), "", ""
    for part in parts:
        whole += part
        text, stopped = watch.add(part)
        out += text
        assert not any(stop in out for stop in stops)
        if stopped:
            assert any(whole.startswith(out + stop) for stop in stops)
            return
        held = whole[len(out) :]
        assert whole.startswith(out) and (not held or any(stop.startswith(held) for stop in stops))
    assert not any(stop in whole for stop in stops)
    assert out + watch.end() == whole


def entries(tokens: list[int]) -> list[TokenLogprob]:
    names = TokenNames(BYTE_LEVEL)
    return [names.named(token, -1.0) for token in tokens]


def test_log_probabilities_never_run_ahead_of_the_text() -> None:
    tokens = BYTE_LEVEL("xa\u20acby", add_special_tokens=False)["input_ids"]
    stream, told, text = TextStream(BYTE_LEVEL, ["\u20acb"]), [], ""
    for token, entry in zip(tokens, entries(tokens), strict=True):
        said = stream.add(token, entry)
        text, told = text + said.text, [*told, *said.logprobs]
        assert b"".join(one.bytes for one in told) == text.encode()
        if said.stopped:
            break
    assert (text, said.stopped) == ("xa", True)


def test_a_token_that_runs_into_a_stop_text_is_not_told() -> None:
    tokens = BYTE_LEVEL(" person", add_special_tokens=False)["input_ids"]
    assert len(tokens) == 1
    said = TextStream(BYTE_LEVEL, ["son"]).add(tokens[0], entries(tokens)[0])
    assert said == (" per", (), True)


def test_what_was_held_back_comes_at_the_end_with_its_log_probabilities() -> None:
    tokens = BYTE_LEVEL("ab", add_special_tokens=False)["input_ids"]
    stream = TextStream(BYTE_LEVEL, ["abc"])
    told = entries(tokens)
    assert [stream.add(*pair)[:2] for pair in zip(tokens, told, strict=True)] == [("", ())] * len(tokens)
    assert stream.end() == ("ab", tuple(told), False)


def test_a_stop_text_in_the_very_last_bytes_still_ends_it() -> None:
    half = BYTE_LEVEL("\u20ac", add_special_tokens=False)["input_ids"][0]
    stream = TextStream(BYTE_LEVEL, [UNFINISHED])
    stream.add(half, None)
    assert stream.end() == ("", (), True)


@TOKENIZERS
def test_bytes_of_tokens_make_the_text(tokenizer: PreTrainedTokenizerFast) -> None:
    names = TokenNames(tokenizer)
    tokens = list(range(3, len(tokenizer)))
    for token in tokens:
        data = names.bytes_of(token)
        decoded = tokenizer.decode([token, token])
        if UNFINISHED not in decoded and data.strip():
            assert (data + data).decode().strip(" ") == decoded.strip(" ")
    assert {bytes([byte]) for byte in range(256)} <= {names.bytes_of(token) for token in range(len(tokenizer))}
    assert names.named(tokenizer.eos_token_id, 0.0).token == tokenizer.eos_token
