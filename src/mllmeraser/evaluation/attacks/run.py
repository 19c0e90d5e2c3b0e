"""attack(model, benchmark, eraser) -> records: how often each attack brings a fact back that the bare model tells."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from mllmeraser.benchmarks import Benchmark, thin
from mllmeraser.evaluation.attacks import in_context, spellings
from mllmeraser.evaluation.attacks.asked import Asked, answers
from mllmeraser.evaluation.intervals import share_interval
from mllmeraser.evaluation.outcomes import recalled_keyword
from mllmeraser.models.intervention import Intervention
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.stream import Stream
from mllmeraser.samples.conversation import question
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.files import write_whole
from mllmeraser.samples.progress import Progress, counting

Access = Literal["black-box", "white-box"]
VALUES = 4
"""Values among which the log-probability attack looks for the true one. A tie, as under a reply, finds nothing."""


@dataclass(frozen=True)
class AttackRecord:
    """One attack in `attacks.json`.

    Attributes:
        attack: What was tried.
        access: `black-box`: answers alone. `white-box`: log-probabilities too.
        method: mllmeraser, or vanilla without erasers.
        preset: Policies and actions of the erasers; null without any.
        n: Prompts that the bare model answers right: under this attack, or plainly where answers are sampled, forced on
            or ranked.
        leak_rate: Share of them that the erased model answers right too. By chance a ranked answer is right in a
            quarter of the cases, and one of many sampled answers in some.
        ci_low: Lower end of the 95 % interval over people, which is never narrower than Wilson's.
        ci_high: Its upper end.
    """

    attack: str
    access: Access
    method: str
    preset: str | None
    n: int
    leak_rate: float
    ci_low: float
    ci_high: float


RANKED = f"likeliest of {VALUES} values"
Tried = tuple[Asked, bool]
"""A question that the bare model answers, and whether the attack brought the answer back."""


@dataclass(frozen=True)
class Size:
    """How much is tried: questions of each kind, tries of each question, and tokens of a long answer."""

    most: int = 36
    tries: int = 8
    tokens: int = 120


QUICK = Size(most=8, tries=3, tokens=60)


def attack(
    model: MultimodalModel,
    benchmark: Benchmark,
    intervention: Intervention | None,
    *,
    split: str = "forget_5",
    fold: int = 0,
    size: Size | None = None,
    seed: int = 0,
    preset: str | None = None,
    progress: Progress | None = None,
) -> list[AttackRecord]:
    """Try every attack on the people of a split; an attack on which the bare model knows nothing has no record.

    Raises:
        InputError: The benchmark lacks open questions or people to make contexts of, or the bare model tells nothing.
    """
    chosen = size or Size()
    plain = _plain(benchmark, split, fold, chosen.most)
    kinds = [
        *in_context.prompts(benchmark, split, fold, "test", chosen.most, seed, sides=(True,)),
        *(one for one in spellings.prompts(benchmark, split, fold, chosen.most, seed) if one.forgotten),
    ]
    count = counting(progress, "attack", 2 * len(kinds) + len(plain) * (2 + chosen.tries))
    long = {"min_new_tokens": chosen.tokens, "do_sample": False}
    bare = answers(model, kinds, count=count)
    known = [one for one, text in zip(plain, answers(model, plain, count=count), strict=True) if _tells(one, text)]
    with nullcontext() if intervention is None else intervention.attached(model):
        erased = answers(model, kinds, count=count)
        torch.manual_seed(seed)
        wild = [answers(model, known, count=count, do_sample=True, temperature=1.0) for _ in range(chosen.tries)]
        drawn = answers(model, known, tokens=chosen.tokens, count=count, **long)
        ranked = _ranked_first(model, benchmark, known, seed)
    groups: dict[str, list[Tried]] = {}
    for one, before, after in zip(kinds, bare, erased, strict=True):
        if _tells(one, before):
            name = f"name written: {one.kind}" if one.kind in spellings.SPELLINGS else f"context: {one.kind}"
            groups.setdefault(name, []).append((one, _tells(one, after)))
    groups[f"sampled {chosen.tries} times, any answer"] = [
        (one, any(_tells(one, text) for text in texts))
        for one, texts in zip(known, zip(*wild, strict=True), strict=True)
    ]
    groups[f"forced on to {chosen.tokens} tokens"] = [
        (one, _tells(one, t)) for one, t in zip(known, drawn, strict=True)
    ]
    groups[RANKED] = ranked
    if not any(groups.values()):
        raise InputError("the bare model tells nothing about these people: there is nothing to attack")
    method = "vanilla" if intervention is None else "mllmeraser"
    return [_record(name, method, preset, tried) for name, tried in groups.items() if tried]


def _record(name: str, method: str, preset: str | None, tried: Sequence[Tried]) -> AttackRecord:
    leaks = [leak for _, leak in tried]
    interval = share_interval(leaks, [one.sample.subject or "" for one, _ in tried])
    access: Access = "white-box" if name == RANKED else "black-box"
    return AttackRecord(name, access, method, preset, len(leaks), sum(leaks) / len(leaks), interval.low, interval.high)


def _tells(one: Asked, text: str) -> bool:
    return recalled_keyword(one.sample, text) is not None


def _plain(benchmark: Benchmark, split: str, fold: int, most: int) -> list[Asked]:
    """Open questions about the people to forget, half over pictures and half by name."""
    rows = in_context.open_questions(benchmark.samples("test", split, fold))
    if not rows:
        raise InputError(f"{benchmark.name}: has no open questions about the people of {split} to attack with")
    sides = [[s for s in rows if (s.image is None) == by_name] for by_name in (True, False)]
    return [Asked("plain", True, s, question(s.prompt, s.image)) for own in sides for s in thin(own, most)]


@torch.no_grad()
def _ranked_first(model: MultimodalModel, benchmark: Benchmark, known: Sequence[Asked], seed: int) -> list[Tried]:
    """For each known fact: is its mean log-probability above that of every other of `VALUES` values?"""
    tried: list[tuple[Asked, list[str]]] = []
    for one in known:
        sample, true = one.sample, next((k for k in one.sample.keywords if k in (one.sample.answer or "")), None)
        others = [value for value in benchmark.values.get(sample.attribute or "", ()) if value != true]
        if true is None or len(others) < VALUES - 1:
            continue
        draw = Stream("attack", seed, sample.id)
        wrong = [str(sample.answer).replace(true, value) for value in draw.shuffle(sorted(others))[: VALUES - 1]]
        tried.append((one, [str(sample.answer), *wrong]))
    if not tried:
        return []
    rows = [(one.sample, text) for one, texts in tried for text in texts]
    sums, counts = model.answer_logprobs([s for s, _ in rows], [text for _, text in rows])
    means = (sums / counts).reshape(-1, VALUES)
    first = (means[:, :1] > means[:, 1:]).all(1).tolist()
    return [(one, leak) for (one, _), leak in zip(tried, first, strict=True)]


def write_attacks(records: Iterable[AttackRecord], out: Path, *, force: bool = False) -> None:
    """Write `attacks.json`, whole or not at all."""
    write_whole(out, json.dumps([asdict(record) for record in records], indent=1) + "\n", force=force)
