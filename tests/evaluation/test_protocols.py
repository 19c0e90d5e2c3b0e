"""What each protocol asks, and how it counts the same answers."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from parrot import Parrot

from mllmeraser.benchmarks import Benchmark, load_benchmark
from mllmeraser.embedded.twins import FOLDER as TWINS
from mllmeraser.evaluation import PROTOCOLS, default_protocol, evaluate, get_protocol, read_scores
from mllmeraser.evaluation.scores import generation_scores
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError, Sample

NAMES: dict[str, Any] = {"method": "vanilla", "benchmark": "release", "split": "forget_10"}


def test_ids_and_defaults(release_folder: Path) -> None:
    assert list(PROTOCOLS) == ["portraits", "strict", "official", "official-zero-shot"]
    assert all(get_protocol(name).id == name for name in PROTOCOLS)
    assert default_protocol(load_benchmark("portraits:unit")).id == "portraits"
    assert default_protocol(load_benchmark(str(release_folder))).id == "strict"
    with pytest.raises(
        InputError, match="unknown protocol 'best'; known protocols: portraits, strict, official"
    ) as error:
        get_protocol("best")
    assert "\n" not in str(error.value)


def test_portraits_is_the_benchmark_as_it_stands() -> None:
    benchmark, rules = load_benchmark("portraits:unit"), get_protocol("portraits")
    sets = rules.with_context(rules.read(benchmark, "forget_5"), benchmark, "forget_5", family="llava")
    plain = benchmark.sets("forget_5")
    assert list(sets) == list(plain)
    for name, samples in plain.items():
        assert [(s.id, s.digest(), s.answer, s.keywords) for s in sets[name]] == [
            (s.id, s.digest(), s.answer, s.keywords) for s in samples
        ]
    assert (rules.max_new_tokens, rules.options, rules.official) == (24, None, False)


def test_official_prompts(release: Benchmark) -> None:
    sets = get_protocol("official-zero-shot").read(release, "forget_10")
    assert list(sets) == ["forget", "test", "retain", "celebrity"]
    first = {
        task: next(s for s in sets["forget"] if s.task == task) for task in ("classification", "generation", "cloze")
    }
    question, *options, request = first["classification"].prompt.split("\n")
    assert question == "Town of this person, question 0?"
    assert options == ["A: Rome", "B: Oslo", "C: Riga", "D: Bern"]
    assert "one letter" in request
    cloze = first["cloze"].prompt
    assert cloze.startswith("0: this person lives in [Blank].\n") and "__" not in cloze
    assert "nothing but the missing content" in cloze and cloze.count("[Blank]") == 2
    generation = first["generation"].prompt
    assert generation.startswith("0: Where does this person live?\n")
    assert all(words in generation for words in ("one sentence", "English", "trained knowledge"))
    # Gold answers and keywords are those of the data set.
    assert (first["cloze"].answer, first["cloze"].keywords) == ("Bern", ("Bern",))


def test_official_shows_one_picture_per_row_and_strict_all(release: Benchmark, release_folder: Path) -> None:
    official = get_protocol("official-zero-shot").read(release, "forget_10", names=["test"])["test"]
    strict = get_protocol("strict").read(load_benchmark(str(release_folder)), "forget_10", names=["test"])["test"]
    for subject in ("0003", "0011"):
        pictures = [
            {s.image.tobytes() for s in samples if s.subject == subject and s.image is not None}
            for samples in (official, strict)
        ]
        assert (len(pictures[0]), len(pictures[1])) == (1, 4) and pictures[0] < pictures[1]
    again = get_protocol("official").read(release, "forget_10", names=["test"])["test"]
    assert [s.digest() for s in again] == [s.digest() for s in official]


def test_a_benchmark_read_in_another_form_is_refused(release: Benchmark) -> None:
    with pytest.raises(InputError, match="protocol strict needs a benchmark loaded with prompts='instructed'"):
        get_protocol("strict").read(release, "forget_5")


def scored(rules_id: str, samples: list[Sample], *answers: str) -> Any:
    said = {sample.id: answer for sample, answer in zip(samples, answers, strict=True)}
    parrot = Parrot(lambda sample: said[sample.id])
    rules = replace(get_protocol(rules_id), options=None)
    result = evaluate(cast(MultimodalModel, parrot), {"forget": samples}, protocol=rules, **NAMES)
    return result, parrot


def test_substring_over_credits_and_whole_words_do_not() -> None:
    cloze = Sample("They love __.", answer="art", task="cloze", keywords=("art",), subject="1")
    samples = [replace(cloze, id=f"c{i}") for i in range(4)]
    answers = ("He plays darts.", "ART", "I do not know, but it will start soon.", "Music.")
    shares = {}
    for name in PROTOCOLS:
        result, _ = scored(name, samples, *answers)
        (record,) = result.records
        shares[name] = record.accuracy
        assert record.protocol == name
        # Outcomes are judged alike under every protocol: over-credit shows as accuracy above recall.
        assert record.outcomes["recalled"] == 1 and record.outcomes["unknown"] == 1
    assert shares == {"portraits": 0.25, "strict": 0.25, "official": 0.75, "official-zero-shot": 0.75}


def test_first_character_against_the_letter_that_is_meant() -> None:
    options = (("A", "judge"), ("B", "baker"), ("C", "pilot"), ("D", "nurse"))
    choice = Sample("Which job?", answer="B", task="classification", options=options, subject="1")
    answers = ["B", "b) baker", " B.", "The answer is B", "baker", "Because", "A, not B", ""]
    samples = [replace(choice, id=f"q{i}") for i in range(len(answers))]
    official, _ = scored("official", samples, *answers)
    strict, _ = scored("strict", samples, *answers)
    assert [i["correct"] for i in official.items] == [True, True, True, False, True, True, False, False]
    assert [i["correct"] for i in strict.items] == [True, True, True, True, True, False, False, False]


def test_official_generation_has_rouge_and_bleu() -> None:
    gold = "They live in the old town of Oslo."
    samples = [Sample("Where?", answer=gold, keywords=("Oslo",), subject="1", id=f"g{i}") for i in range(2)]
    result, parrot = scored("official", samples, gold, "Somewhere else entirely.")
    (record,) = result.records
    assert set(record.scores) == {"rouge_1", "rouge_2", "bleu"}
    assert record.scores["rouge_1"] == record.scores["rouge_2"] == record.rouge_l == pytest.approx(0.5)
    assert record.scores["bleu"] == pytest.approx(0.5)
    assert record.accuracy == 0.5, "the script has no rule for generation: recall by keyword"
    assert parrot.options[0]["max_new_tokens"] == 50
    plain, parrot = scored("portraits", samples, gold, gold)
    assert plain.records[0].scores == {} and parrot.options[0]["max_new_tokens"] == 24


def test_smoothed_bleu_by_hand() -> None:
    found = generation_scores("the cat sat down", "the cat sat up there")
    # 3/4 words, 2/3 pairs, 1/2 triples, no group of four (0.1/1); one word shorter than the gold answer.
    precision = (3 / 4 * 2 / 3 * 1 / 2 * 0.1) ** 0.25
    assert found["bleu"] == pytest.approx(precision * math.exp(1 - 5 / 4))
    assert found["rouge_1"] == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5))
    assert found["rouge_2"] == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert generation_scores("worked cats", "work cat")["rouge_2"] == 1.0, "stemmed"
    assert set(generation_scores("", "the cat").values()) == {0.0}


def test_strict_ranks_the_options_beside_the_letter(tiny_llava: MultimodalModel, release_folder: Path) -> None:
    rules = get_protocol("strict")
    sets = rules.read(load_benchmark(str(release_folder)), "forget_5", names=["forget"])
    choices = [s for s in sets["forget"] if s.task == "classification"][:4]
    demands = {"generation": "Answer in one sentence.", "cloze": "Answer with the missing words only."}
    assert all(s.prompt.endswith(demands.get(s.task, "one letter.")) for s in sets["forget"])
    result = evaluate(tiny_llava, {"forget": choices}, protocol=rules, max_new_tokens=2, **NAMES)
    (record,) = result.records
    assert record.protocol == "strict" and set(record.scores) == {"option_accuracy", "option_probability"}
    assert record.scores["option_accuracy"] == sum(bool(i["option_correct"]) for i in result.items) / len(choices)
    assert 0 < record.scores["option_probability"] < 1


def test_scores_without_a_protocol_still_load() -> None:
    files = sorted(TWINS.rglob("*.scores.json"))
    assert {file.parts[-3] for file in files} == {"llava", "qwen2.5-vl"} and len(files) == 6
    for file in files:
        records = read_scores(file)
        assert records and Counter(r.protocol for r in records) == {"portraits": len(records)}
        assert all(r.scores == {} for r in records if "protocol" not in file.read_text())
