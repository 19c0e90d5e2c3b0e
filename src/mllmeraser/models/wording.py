"""Words that point back, and tokens that begin a name, for a tokenizer: what a forward pass can tell from ids.

The lists are short and in five languages. A name is recognised by its capital letter within a sentence. Where a script
has no capitals, no question counts as naming somebody of its own, so that earlier turns always count.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from mllmeraser.models.turns import Mark

PRONOUNS = (
    "he", "she", "they", "him", "her", "them", "his", "hers", "their", "theirs", "this person", "that person",
    "the person", "this man", "this woman", "that man", "that woman", "this one", "that one", "er", "sie", "ihn",
    "ihm", "ihr", "sein", "seine", "seiner", "ihre", "ihrer", "diese Person", "dieser Person", "dieser Mann",
    "diese Frau", "il", "elle", "lui", "leur", "cette personne", "cet homme", "cette femme", "ella", "ellos",
    "esta persona", "este hombre", "esta mujer", "lei", "loro", "questa persona", "quest'uomo", "questa donna",
)  # fmt: skip
"""They point to somebody who was named, unless the same turn shows a picture."""
BACKWARD = (
    "above", "before", "earlier", "previous", "previously", "mentioned", "spoke of", "spoke about", "talked about",
    "talked of", "the same", "the former", "the latter", "last question", "first question", "again", "oben", "vorhin",
    "zuvor", "vorher", "dieselbe", "derselbe", "nochmal", "avant", "encore", "antes", "anterior", "otra vez", "prima",
    "di nuovo",
)  # fmt: skip
"""They point to what was said before, pictures or not."""
NO_NAMES = frozenset({"I", "A"})
CAPITAL, UPPER, BLANK, OPEN, INSIDE, END, QUESTION = (1 << bit for bit in range(7))
"""Bits of `token_kinds`: `CAPITAL` is a space and a capital, `UPPER` a capital, `BLANK` a space alone. After `OPEN`
a word or sentence may go on; `INSIDE` may continue a word. `END` ends a sentence, `QUESTION` a question."""


def word_marks(tokenizer: Any, words: Iterable[str]) -> tuple[Mark, ...]:
    """Ids of each word, within a text and at its start, small and with a capital."""
    marks: dict[Mark, None] = {}
    for word in words:
        for spelling in (word, word[:1].upper() + word[1:]):
            for text in (f" {spelling}", spelling):
                mark = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
                if mark:
                    marks[mark] = None
    return tuple(marks)


def token_kinds(tokenizer: Any) -> Tensor:
    """(vocabulary,) uint8 with the bits of every token, 0 for special ones."""
    size = len(tokenizer)
    special = set(tokenizer.all_special_ids)
    kinds = torch.zeros(size, dtype=torch.uint8)
    for number, token in enumerate(tokenizer.convert_ids_to_tokens(range(size))):
        text = str(token or "").replace("\u0120", " ").replace("\u2581", " ")
        if number not in special and text:
            kinds[number] = BLANK if not text.strip() else _kind(text)
    return kinds


def _kind(text: str) -> int:
    word = text.strip()
    upper, spaced = word[0].isupper() and word not in NO_NAMES, text[0] == " "
    bits = {
        CAPITAL: upper and spaced, UPPER: upper and not spaced, OPEN: word[-1].isalnum() or word[-1] == ",",
        INSIDE: text[0].isalnum(), END: word[-1] in ".!?", QUESTION: "?" in word,
    }  # fmt: skip
    return sum(bit for bit, holds in bits.items() if holds)
