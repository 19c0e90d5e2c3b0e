"""Scores of answers: ROUGE and BLEU, the official rules of MLLMU-Bench, and option likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Sample

if TYPE_CHECKING:
    from torch import Tensor

    from mllmeraser.models.model import MultimodalModel

OptionRule = Literal["letter", "text"]


@dataclass(frozen=True, slots=True)
class OptionChoice:
    """The most likely option under a model: its letter, whether it is right, and the right option's probability."""

    letter: str
    correct: bool
    probability: float


def rouge_l(answer: str, gold: str) -> float:
    """ROUGE-L F-measure with stemming, between 0 and 1, as MLLMU-Bench reports it."""
    return float(_scorer("rougeL").score(gold, answer)["rougeL"].fmeasure)


def generation_scores(answer: str, gold: str) -> dict[str, float]:
    """The other scores of the published evaluation of generation, between 0 and 1.

    `rouge_1` and `rouge_2` are F-measures with stemming. `bleu` is sentence BLEU of up to four words, split at blanks.
    It uses 0.1 for a count of zero (method 1 of Chen and Cherry 2014).
    """
    rouge = _scorer("rouge1", "rouge2").score(gold, answer)
    return {
        "rouge_1": float(rouge["rouge1"].fmeasure),
        "rouge_2": float(rouge["rouge2"].fmeasure),
        "bleu": _bleu(answer.split(), gold.split()),
    }


def official_correct(sample: Sample, answer: str) -> bool:
    """Correct by the rules of the published evaluation script, for comparison with published numbers.

    Classification: the first character, in upper case, is the letter. Cloze: the gold value is a substring, case
    ignored (this credits short values too often). Generation has no such rule.

    Raises:
        InputError: The sample is a generation sample or has no answer.
    """
    if sample.answer is None or sample.task == "generation":
        raise InputError(f"{sample.id or sample.question!r}: no official rule of correctness for this sample")
    if sample.task == "classification":
        return answer.strip()[:1].upper() == sample.answer.upper()
    return sample.answer.casefold() in answer.casefold()


def option_choices(
    model: MultimodalModel, samples: Sequence[Sample], *, rule: OptionRule = "letter"
) -> list[OptionChoice]:
    """The most likely option of each classification sample, under a model with its attached interventions.

    The rule `"letter"` compares the letters as the next token after the prompt. `"text"` compares the mean
    log-probability of the options' texts as answers to the question without options. It does not require that the model
    can bind a value to a letter.

    Raises:
        InputError: A sample has no options, or its answer is not the letter of one.
    """
    for sample in samples:
        if (sample.answer or "") not in dict(sample.options):
            name = sample.id or repr(sample.question)
            raise InputError(f"{name}: option likelihood needs options and the letter of the right one")
    if not samples:
        return []
    scores = _letter_scores(model, samples) if rule == "letter" else _text_scores(model, samples)
    return [_choice(sample, row) for sample, row in zip(samples, scores, strict=True)]


def _letter_scores(model: MultimodalModel, samples: Sequence[Sample]) -> list[Tensor]:
    import torch

    rows = []
    for sample, row in zip(samples, model.next_token_logits(samples), strict=True):
        tokens = [_letter_tokens(model.processor.tokenizer, letter) for letter, _ in sample.options]
        rows.append(torch.stack([row[ids].logsumexp(0) for ids in tokens]))
    return rows


def _text_scores(model: MultimodalModel, samples: Sequence[Sample]) -> list[Tensor]:
    asked = [Sample(s.question, s.image, subject=s.subject, id=s.id) for s in samples for _ in s.options]
    texts = [text for sample in samples for _, text in sample.options]
    sums, counts = model.answer_logprobs(asked, texts)
    means = sums / counts.clamp(min=1)
    return list(means.split([len(sample.options) for sample in samples]))


def _letter_tokens(tokenizer: Any, letter: str) -> list[int]:
    """Ids of a letter at the start of an answer: tokenizers differ on the blank before it."""
    spelt = (tokenizer.encode(text, add_special_tokens=False) for text in (letter, f" {letter}"))
    return sorted({ids[-1] for ids in spelt if ids})


def _choice(sample: Sample, scores: Tensor) -> OptionChoice:
    letters = [letter for letter, _ in sample.options]
    right = letters.index(sample.answer or "")
    best = int(scores.argmax())
    return OptionChoice(letters[best], best == right, float(scores.double().softmax(0)[right]))


def _bleu(answer: list[str], gold: list[str]) -> float:
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    return float(sentence_bleu([gold], answer, smoothing_function=SmoothingFunction().method1))


@lru_cache(maxsize=4)
def _scorer(*kinds: str) -> Any:
    # The import takes half a second, and only scoring needs it.
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(kinds), use_stemmer=True)
