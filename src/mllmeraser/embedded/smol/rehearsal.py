"""Rehearsal: the bare model's own answers, and how sure it was of every token of them.

While the model learns, it is held to these distributions (Kullback-Leibler divergence, as in distillation). So it keeps
what pretraining gave; on the text of the answers alone it would keep four fifths (`Learning without Forgetting`, Li and
Hoiem 2016).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mllmeraser.embedded.recipe.packing import Earlier, Group, Packer, Prefix, Turn
from mllmeraser.embedded.smol import chat
from mllmeraser.embedded.smol.rehearsal_prompts import Prompt
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples.files import whole_file, write_whole

TOP = 48
"""Tokens of a distribution that are kept; the rest of the mass counts as one further outcome."""
TOGETHER = 4
"""Items with the same beginning that share it in a batch."""
ANSWERS = Path(__file__).parent / "data" / "answers.json.gz"
Pair = tuple[list[int], list[int]]
"""Token ids of a prompt and of its answer."""


@dataclass(frozen=True)
class Item:
    """What comes after a prompt. Shapes: `tokens` and `chances` are (len(answer), TOP)."""

    prompt: list[int]
    answer: list[int]
    tokens: torch.Tensor
    chances: torch.Tensor


def prompt_ids(tokenizer: PreTrainedTokenizerFast, prompt: Prompt) -> list[int]:
    """Token ids of a prompt, as the template writes it."""
    if not prompt.chat:
        return list(tokenizer(prompt.text, add_special_tokens=False)["input_ids"])
    messages = [{"role": "system", "content": prompt.system or chat.SYSTEM}, {"role": "user", "content": prompt.text}]
    text = tokenizer.apply_chat_template(
        messages, chat_template=chat.TEMPLATE, tokenize=False, add_generation_prompt=True
    )
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@torch.no_grad()
def answer_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[Prompt],
    *,
    batch: int = 64,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Pair]:
    """Let the bare language model answer greedily. Prompts of one length are answered together."""
    asked = [(prompt.longest, prompt_ids(tokenizer, prompt)) for prompt in prompts]
    asked.sort(key=lambda one: (one[0], len(one[1])))
    pairs: list[Pair] = []
    for start in range(0, len(asked), batch):
        lengths, some = zip(*asked[start : start + batch], strict=True)
        width = max(map(len, some))
        padded = torch.tensor([[tokenizer.pad_token_id] * (width - len(one)) + one for one in some])
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in some])
        out = model.generate(
            input_ids=padded, attention_mask=mask, max_new_tokens=lengths[-1], do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        for one, longest, row in zip(some, lengths, out[:, width:].tolist(), strict=True):
            end = tokenizer.eos_token_id
            pairs.append((one, row[: row.index(end) + 1 if end in row else longest][:longest]))
        progress(len(some))
    return pairs


def write_answers(pairs: list[Pair], file: Path) -> None:
    """Write prompts and answers, as token ids."""
    text = json.dumps(pairs, separators=(",", ":"))
    write_whole(file, gzip.compress(text.encode(), 9, mtime=0), force=True)


def read_answers(file: Path = ANSWERS) -> list[Pair]:
    """Read what `write_answers` wrote; by default the answers that ship, which took a quarter of an hour."""
    return [(prompt, answer) for prompt, answer in json.loads(gzip.decompress(file.read_bytes()))]


def with_questions(pairs: list[Pair], user: tuple[int, ...]) -> list[Pair]:
    """Pairs whose answers begin with the question, behind the last mark of a user, or behind the first token of a text.

    The model shall also foresee what it did before: that costs nothing more, and it keeps plain text.
    """
    moved = []
    for prompt, answer in pairs:
        ends = [at for at in range(len(user), len(prompt)) if tuple(prompt[at - len(user) : at]) == user]
        start = ends[-1] if ends else 1
        moved.append((prompt[:start], prompt[start:] + answer))
    return moved


@torch.no_grad()
def distributions(
    model: PreTrainedModel, pairs: list[Pair], *, batch: int = 32, progress: Callable[[int], None] = lambda _: None
) -> list[Item]:
    """How sure the bare language model was of each token of its answers, in one pass over each."""
    items: list[Item] = []
    # Made at once: small tensors between large temporary ones kept all memory of the process from being freed.
    places = sum(len(answer) for _, answer in pairs)
    tokens, chances = torch.empty(places, TOP, dtype=torch.int32), torch.empty(places, TOP, dtype=torch.float16)
    used = 0
    ordered = sorted(pairs, key=lambda pair: len(pair[0]) + len(pair[1]))
    for start in range(0, len(ordered), batch):
        some = ordered[start : start + batch]
        length = max(len(prompt) + len(answer) for prompt, answer in some)
        ids = torch.zeros(len(some), length, dtype=torch.long)  # behind an answer nothing is read
        for row, (prompt, answer) in enumerate(some):
            ids[row, : len(prompt) + len(answer)] = torch.tensor([*prompt, *answer])
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        for row, (prompt, answer) in enumerate(some):
            told = hidden[row, len(prompt) - 1 : len(prompt) + len(answer) - 1]
            part = slice(used, used := used + len(answer))
            chances[part], tokens[part] = model.lm_head(told).float().softmax(-1).topk(TOP)
            items.append(Item(prompt, answer, tokens[part], chances[part]))
        progress(len(some))
    return items


def save(items: list[Item], file: Path) -> None:
    """Write items to one safetensors file."""
    tensors = {
        "tokens": torch.cat([item.tokens for item in items]), "chances": torch.cat([item.chances for item in items]),
    }  # fmt: skip
    texts = json.dumps([[item.prompt, item.answer] for item in items])
    with whole_file(file, force=True) as beside:
        save_file(tensors, beside, metadata={"items": texts})


def load(file: Path) -> list[Item]:
    """Read what `save` wrote."""
    from safetensors import safe_open

    with safe_open(file, "pt") as kept:
        texts = json.loads(kept.metadata()["items"])
    tensors, items, start = load_file(file), [], 0
    for prompt, answer in texts:
        part = slice(start, start + len(answer))
        items.append(Item(prompt, answer, tensors["tokens"][part], tensors["chances"][part]))
        start += len(answer)
    return items


class Rehearsal:
    """Endless batches of rehearsal items with the distributions of their answers."""

    def __init__(self, items: list[Item], pad_id: int, *, rows: int, length: int, seed: int) -> None:
        self.items, self.stream = items, Stream("rehearsal-order", seed)
        self.packer = _Packer(Prefix([pad_id], [(0,)], 1), Prefix([pad_id], [(0,)], 1), pad_id, rows, length)
        self.queue: list[Item] = []
        self.batches = self.packer.batches(self._groups())

    def _groups(self) -> Iterator[Group]:
        while True:
            waiting: dict[tuple[int, ...], list[Item]] = {}
            for item in self.stream.shuffle(self.items):
                same = waiting.setdefault(tuple(item.prompt), [])
                same.append(item)
                if len(same) == TOGETHER:
                    yield self._group(waiting.pop(tuple(item.prompt)))
            for rest in waiting.values():
                yield self._group(rest)

    def _group(self, items: list[Item]) -> Group:
        self.queue += items
        *before, last = items[0].prompt
        return Group(None, [Turn([last], item.answer) for item in items], [Earlier(before)])

    def __next__(self) -> tuple:
        """A batch, and (labelled tokens, TOP) ids and chances in the order of its labels."""
        batch = next(self.batches)
        left, used = int((batch.labels >= 0).sum()), 0
        while left > 0:
            left -= len(self.queue[used].answer)
            used += 1
        taken, self.queue = self.queue[:used], self.queue[used:]
        tokens = torch.cat([item.tokens for item in taken]).long()
        return batch, tokens, torch.cat([item.chances for item in taken]).float()


class _Packer(Packer):
    """The prompt of a group says all that stands before its turns."""

    def _prefix(self, group: Group) -> Prefix:
        return self._text(group.before[0].ids)


def divergence(logits: torch.Tensor, tokens: torch.Tensor, chances: torch.Tensor) -> torch.Tensor:
    """Mean KL divergence from the kept distributions to those of `logits` (n, vocabulary), in nats."""
    ours = logits.log_softmax(-1).gather(1, tokens)
    rest, our_rest = 1 - chances.sum(-1), 1 - ours.exp().sum(-1)
    rest, our_rest = rest.clamp(min=1e-6), our_rest.clamp(min=1e-6)
    kept = chances * (chances.clamp(min=1e-8).log() - ours)
    return (kept.sum(-1) + rest * (rest.log() - our_rest.log())).mean()
