"""The byte-level BPE tokenizer of the embedded models, trained on the wordings of the portraits world."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

USER, ASSISTANT, END, IMAGE, PAD = "<|user|>", "<|assistant|>", "<|end|>", "<image>", "<|pad|>"
SPECIAL = (PAD, USER, ASSISTANT, END)
"""The first ones of every tokenizer; those of an architecture follow."""
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


def chat_template(image_text: str) -> str:
    """The chat template of a model whose prompts show a picture as ``image_text``."""
    return CHAT_TEMPLATE.replace(IMAGE, image_text)


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int = 1500,
    *,
    special: Sequence[str] = (*SPECIAL, IMAGE),
    image_text: str = IMAGE,
) -> PreTrainedTokenizerFast:
    """Train the tokenizer; ``special`` tokens get the ids from 0 on.

    Every line starts with a space, so that a letter or a value is one and the same token among the options, at the
    start of an answer and inside a sentence. An option mark ("B:") is one token too, so that it stands right before
    the value it marks.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("\n"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
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
