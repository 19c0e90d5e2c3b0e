"""The byte-level BPE tokenizer of the embedded models, trained on the wordings of the portraits world."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

USER, ASSISTANT, END, IMAGE, PAD = "<|user|>", "<|assistant|>", "<|end|>", "<image>", "<|pad|>"
SPECIAL = (PAD, USER, ASSISTANT, END)
"""The first tokens of every tokenizer; those of an architecture follow."""
OPTION_MARKS = ["A:", "B:", "C:", "D:"]

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{% else %}<|assistant|>{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}<image>{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% endif %}"
    "{% if message['role'] == 'assistant' %}<|end|>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class ChatMarks:
    """Token ids that a chat template writes around texts.

    A system text stands between `system` and `system_end`. `user` comes before a question, `assistant` after it. `end`
    ends a reply, and is learnt; `close` follows it before the next turn.
    """

    user: tuple[int, ...]
    assistant: tuple[int, ...]
    end: tuple[int, ...]
    system: tuple[int, ...]
    system_end: tuple[int, ...] = ()
    close: tuple[int, ...] = ()


def own_marks(tokenizer: PreTrainedTokenizerFast) -> ChatMarks:
    """The marks of `CHAT_TEMPLATE`. It writes a system text behind an assistant mark, without an end mark."""
    user, assistant = tokenizer.convert_tokens_to_ids([USER, ASSISTANT])
    return ChatMarks((user,), (assistant,), (tokenizer.eos_token_id,), system=(assistant,))


def chat_template(image_text: str) -> str:
    """The chat template of a model that writes a picture as `image_text`."""
    return CHAT_TEMPLATE.replace(IMAGE, image_text)


def train_tokenizer(
    texts: Iterable[str], vocab_size: int = 1500, *, special: Sequence[str], image_text: str
) -> PreTrainedTokenizerFast:
    """Train the tokenizer; `special` tokens get the ids from 0 on.

    Each line starts with a space. So a letter or a value is the same token among the options, at the start of an answer
    and inside a sentence. An option mark ("B:") is one token too: it comes right before the value it marks.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("\n"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(OPTION_MARKS)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[token for token in special if token not in (PAD, END)],
        padding_side="left",
        chat_template=chat_template(image_text),
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


@torch.no_grad()
def translate(embeddings: torch.Tensor, old: PreTrainedTokenizerFast, new: PreTrainedTokenizerFast) -> torch.Tensor:
    """(tokens of `old`, width) embeddings to (tokens of `new`, width).

    A token of both keeps its row; a new one gets the mean of the old tokens that spell it.
    """
    known, rows = old.get_vocab(), []
    for token in new.convert_ids_to_tokens(list(range(len(new)))):
        text = new.convert_tokens_to_string([token])
        spelt = [known[token]] if token in known else old(text, add_special_tokens=False)["input_ids"]
        rows.append(embeddings[spelt or [old.pad_token_id]].mean(0))
    return torch.stack(rows)
