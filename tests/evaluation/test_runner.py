"""The runner on tiny random models: what it asks, counts, writes and leaves behind."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mllmeraser.evaluation import OUTCOMES, Record, evaluate, read_scores
from mllmeraser.evaluation.records import write_scores
from mllmeraser.evaluation.scores import official_correct, option_choices, rouge_l
from mllmeraser.models.intervention import Attachment, unwrap
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError, Sample

FIELDS = [
    "method", "preset", "model", "benchmark", "split", "set", "modality", "task", "n", "people", "accuracy",
    "ci_low", "ci_high", "rouge_l", "outcomes", "seed", "policy", "seconds", "protocol", "scores",
]  # fmt: skip
NAMES = {"method": "vanilla", "benchmark": "tiny", "split": "forget_5"}


class Silenced:
    """An intervention that makes every token equally likely: greedy answers are token 0 for ever."""

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken

    def attach(self, model: object) -> Attachment:
        head = unwrap(model).get_output_embeddings()
        assert isinstance(head, nn.Module)
        return Attachment(head.register_forward_hook(self._zero).remove)

    def _zero(self, module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        if self.broken:
            raise RuntimeError("broken on purpose")
        return torch.zeros_like(output)

    @contextmanager
    def attached(self, model: object) -> Iterator[Attachment]:
        with self.attach(model) as attachment:
            yield attachment


def known(model: MultimodalModel, samples: list[Sample]) -> list[Sample]:
    """Open samples whose gold answer is what the model says."""
    answers = model.generate(samples, max_new_tokens=8)
    return [
        replace(s, answer=a, keywords=(a,), id=f"s{i}") for i, (s, a) in enumerate(zip(samples, answers, strict=True))
    ]


@pytest.fixture
def recalled(tiny_llava: MultimodalModel, samples: list[Sample]) -> list[Sample]:
    opened = [replace(s, task="generation", options=(), subject=f"p{i % 3}") for i, s in enumerate(samples)]
    made = known(tiny_llava, opened)
    wordy = [s for s in made if any(c.isalnum() for c in s.answer or "")]
    assert len(wordy) >= 4 and {s.modality for s in wordy} == {"image", "text"}
    return wordy


def test_one_record_for_each_set_modality_and_task(tiny_llava: MultimodalModel, recalled: list[Sample]) -> None:
    lost = [replace(s, answer="quite different", keywords=("different",)) for s in recalled]
    told: list[int] = []
    result = evaluate(
        tiny_llava,
        {"forget": recalled, "retain": lost, "celebrity": []},
        max_new_tokens=8,
        progress=told.append,
        **NAMES,
    )
    assert {(r.set, r.modality, r.task) for r in result.records} == {
        (name, modality, "generation") for name in ("forget", "retain") for modality in ("image", "text")
    }
    assert sum(told) == len(result.items) == 2 * len(recalled) == sum(r.n for r in result.records)
    for record in result.records:
        assert record.accuracy == (1.0 if record.set == "forget" else 0.0)
        assert record.ci_low <= record.accuracy <= record.ci_high
        assert sum(record.outcomes.values()) == record.n and tuple(record.outcomes) == OUTCOMES
        cell = [i for i in result.items if (i["set"], i["modality"]) == (record.set, record.modality)]
        assert record.people == len({i["subject"] for i in cell})
    exact = [i for i in result.items if i["set"] == "forget" and i["answer"].isascii()]
    assert exact and all(i["rouge_l"] == pytest.approx(1.0) for i in exact)


def test_intervention_is_on_while_asked_and_off_afterwards(tiny_llava: MultimodalModel, recalled: list[Sample]) -> None:
    before = evaluate(tiny_llava, {"forget": recalled}, max_new_tokens=8, **NAMES)
    silenced = evaluate(tiny_llava, {"forget": recalled}, max_new_tokens=8, intervention=Silenced(), **NAMES)
    after = evaluate(tiny_llava, {"forget": recalled}, max_new_tokens=8, **NAMES)
    assert {r.accuracy for r in silenced.records} == {0.0}
    assert sum(r.outcomes["gibberish"] for r in silenced.records) == len(recalled)
    assert before.items == after.items
    with pytest.raises(RuntimeError, match="on purpose"):
        evaluate(tiny_llava, {"forget": recalled}, intervention=Silenced(broken=True), **NAMES)
    assert evaluate(tiny_llava, {"forget": recalled}, max_new_tokens=8, **NAMES).items == before.items


def test_option_likelihood(tiny_model: MultimodalModel) -> None:
    options = (("A", "baker"), ("B", "tailor"), ("C", "pilot"), ("D", "nurse"))
    base = Sample("What is the job of Jonas?", task="classification", options=options, subject="p")
    samples = [replace(base, answer=letter, id=letter) for letter in "ABCD"]
    for rule in ("letter", "text"):
        choices = option_choices(tiny_model, samples, rule=rule)
        assert sum(choice.correct for choice in choices) == 1
        assert sum(choice.probability for choice in choices) == pytest.approx(1.0, abs=1e-4)
        best = max(choices, key=lambda choice: choice.probability)
        assert best.correct and {choice.letter for choice in choices} == {best.letter}
        result = evaluate(tiny_model, {"forget": samples}, options=rule, max_new_tokens=4, **NAMES)
        assert [r.scores["option_accuracy"] for r in result.records] == [0.25]
        assert [i["option_correct"] for i in result.items] == [choice.correct for choice in choices]
    with pytest.raises(InputError, match="needs options"):
        option_choices(tiny_model, [replace(base, answer="E")])


def test_letter_rule_agrees_with_log_probabilities(tiny_llava: MultimodalModel) -> None:
    options = (("A", "baker"), ("B", "tailor"))
    sample = Sample("What is the job of Jonas?", answer="A", task="classification", options=options)
    tokenizer = tiny_llava.processor.tokenizer
    spellings = ["A", "B"]
    # Where a letter has a second spelling as one token (with a blank before it), both count.
    spellings += [f" {k}" for k in "AB" if len(tokenizer.encode(f" {k}", add_special_tokens=False)) == 1]
    sums, counts = tiny_llava.answer_logprobs([sample] * len(spellings), spellings)
    assert set(counts.tolist()) == {1}
    mass = {k: sum(math.exp(s) for t, s in zip(spellings, sums.tolist(), strict=True) if k in t) for k in "AB"}
    choice = option_choices(tiny_llava, [sample])[0]
    assert choice.probability == pytest.approx(mass["A"] / (mass["A"] + mass["B"]), abs=1e-4)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ({}, "every set is empty"),
        ({"forget": []}, "every set is empty"),
        ({"forget": [Sample("q")]}, "needs answers"),
        ({"forget": [Sample("q", answer="a", id="x"), Sample("r", answer="a", id="x")]}, "the first is 'x'"),
    ],
)
def test_bad_sets_are_refused_before_anything_runs(
    tiny_llava: MultimodalModel, sets: dict[str, list[Sample]], said: str
) -> None:
    told: list[int] = []
    with pytest.raises(InputError, match=said):
        evaluate(tiny_llava, sets, progress=told.append, **NAMES)
    assert told == []


def test_files(tiny_llava: MultimodalModel, recalled: list[Sample], tmp_path: Path) -> None:
    result = evaluate(
        tiny_llava, {"forget": recalled}, max_new_tokens=8, preset="paper", policy="tail", seed=3, **NAMES
    )
    result.write_scores(tmp_path / "scores.json")
    result.write_items(tmp_path / "items.jsonl")
    data = json.loads((tmp_path / "scores.json").read_text())
    assert [list(entry) for entry in data] == [FIELDS] * len(result.records)
    assert {(e["preset"], e["policy"], e["seed"]) for e in data} == {("paper", "tail", 3)}
    assert read_scores(tmp_path / "scores.json") == result.records
    lines = (tmp_path / "items.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line) for line in lines] == result.items
    with pytest.raises(InputError, match="exists already"):
        result.write_scores(tmp_path / "scores.json")
    write_scores(tmp_path / "scores.json", [], force=True)
    assert read_scores(tmp_path / "scores.json") == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["items.jsonl", "scores.json"]


@pytest.mark.parametrize(
    ("text", "said"), [("{}", "list of records"), ("[", "not a readable"), ('[{"n": 1}]', "method")]
)
def test_bad_score_files(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(InputError, match=said):
        read_scores(tmp_path / "s.json")


def test_record_refuses_other_fields_and_impossible_shares() -> None:
    good = dict(zip(FIELDS, ["v", None, "m", "b", "s", "forget", "image", "cloze", 2, 1, 0.5, 0.1, 0.9, None,
                             {"recalled": 1, "wrong": 1}, 0, None, 1.5, "strict", {}], strict=True))  # fmt: skip
    assert Record.model_validate(good).n == 2
    for change in ({"extra": 1}, {"accuracy": 1.2}, {"task": "poem"}, {"outcomes": {"lost": 1}}, {"n": 0}):
        with pytest.raises(ValueError):
            Record.model_validate({**good, **change})


def test_rouge_and_official_rules() -> None:
    assert rouge_l("They work as a baker.", "They work as a baker") == 1.0
    assert rouge_l("", "They work") == 0.0
    assert rouge_l("They worked", "They work") == 1.0
    assert rouge_l("a b c", "a x c") == pytest.approx(2 / 3)
    cloze = Sample("__", answer="art", task="cloze")
    assert official_correct(cloze, "He lives in Stuttgart: Start.")
    assert not official_correct(cloze, "music")
    choice = Sample("q", answer="B", task="classification", options=(("A", "x"), ("B", "y")))
    assert official_correct(choice, "baker") and not official_correct(choice, "The answer is B")
    with pytest.raises(InputError):
        official_correct(Sample("q", answer="a"), "a")
