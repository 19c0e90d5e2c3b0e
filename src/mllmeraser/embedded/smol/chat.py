"""ChatML as SmolLM2 was tuned on it, with pictures before the text of their turn."""

from __future__ import annotations

from transformers import CLIPImageProcessorPil, LlavaProcessor, PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.architecture import IMAGE_SIZE
from mllmeraser.embedded.recipe.llava import PATCH
from mllmeraser.embedded.recipe.packing import Prefix
from mllmeraser.embedded.recipe.tokenizer import ChatMarks

IMAGE = "<reponame>"
"""A token of SmolLM2 that no chat uses. So the vocabulary keeps its size."""
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""The system text that SmolLM2's own template writes where a conversation has none."""
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n" + SYSTEM + "<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}" + IMAGE + "{{ '\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% endif %}<|im_end|>{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{{ '\n' }}{% endif %}"
)


def marks(tokenizer: PreTrainedTokenizerFast) -> ChatMarks:
    """The ids around texts, as `TEMPLATE` writes them."""

    def ids(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    return ChatMarks(
        user=ids("<|im_start|>user\n"),
        assistant=ids("<|im_end|>\n<|im_start|>assistant\n"),
        end=ids("<|im_end|>"),
        system=ids("<|im_start|>system\n"),
        system_end=ids("<|im_end|>\n"),
        close=ids("\n"),
    )


def prefixes(tokenizer: PreTrainedTokenizerFast, patches: int) -> tuple[Prefix, Prefix]:
    """The tokens before a question, without a picture and with one of so many patches."""
    user = list(marks(tokenizer).user)
    image = [tokenizer.convert_tokens_to_ids(IMAGE)] * patches
    after = tokenizer("\n", add_special_tokens=False)["input_ids"]
    return _prefix(user), _prefix([*user, *image, *after])


def _prefix(ids: list[int]) -> Prefix:
    return Prefix(ids, [(place,) for place in range(len(ids))], len(ids))


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """The usual LLaVA processor, with the pictures of the embedded LLaVA."""
    size, crop_size = {"shortest_edge": IMAGE_SIZE}, {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    tokenizer.padding_side, tokenizer.chat_template = "left", TEMPLATE
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size=size, crop_size=crop_size, do_convert_rgb=True),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=TEMPLATE,
    )
