"""The studies of what a model knew before: requests, sets, and the summary."""

from __future__ import annotations

from pathlib import Path

import pytest

from mllmeraser.benchmarks import load_benchmark
from mllmeraser.knowledge.rows import PRESETS
from mllmeraser.models import MultimodalModel
from mllmeraser.studies.knowledge import FACT, KINDS, main, measured, request_for, scored_sets, summary
from mllmeraser.studies.pretrained import compared, perplexity
from mllmeraser.studies.scoring import AnswerCache


@pytest.mark.parametrize("preset", list(FACT))
def test_a_request_states_no_fact(preset: str) -> None:
    benchmark = load_benchmark(f"knowledge:{preset}")
    (subject,) = request_for(benchmark, 1).subjects
    assert (subject.kind, len(subject.samples)) == ("entity", 1)
    (fact,) = request_for(benchmark, 1, FACT[preset]).subjects
    assert fact.kind == "fact"
    told = {value for values in benchmark.values.values() for value in values} - set(fact.names)
    assert not any(value in sample.question for sample in (*subject.samples, *fact.samples) for value in told)


def test_a_topic_is_given_by_name_and_a_concept_by_pictures() -> None:
    assert tuple(KINDS) == PRESETS
    (topic,) = request_for(load_benchmark("knowledge:topics"), 1).subjects
    assert (topic.kind, [sample.question for sample in topic.samples]) == ("topic", ["What is the moon?"])
    (concept,) = request_for(load_benchmark("knowledge:concepts"), 0).subjects
    assert (concept.kind, concept.names) == ("concept", ("circle",))
    assert all(sample.image is not None and "circle" not in sample.question for sample in concept.samples)
    assert all(sample.answer is None and not sample.keywords for sample in concept.samples)


@pytest.mark.parametrize("preset", ["topics", "concepts"])
def test_topics_and_concepts_have_every_set(preset: str) -> None:
    sets = scored_sets(load_benchmark(f"knowledge:{preset}"), 0, None, pictures=True)
    assert list(sets) == ["forget", "neighbours", "retain_heldout", "general"]
    assert all(len(samples) >= 8 for samples in sets.values())


def test_concepts_are_not_asked_by_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--model", "embedded:llava", "--no-pictures", "--out", str(tmp_path / "out.json")])
    assert stopped.value.code == 2
    assert "concepts are asked over pictures alone" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_a_fact_leaves_the_rest_of_its_subject() -> None:
    benchmark = load_benchmark("knowledge:countries")
    sets = scored_sets(benchmark, 1, "capital", pictures=False)
    assert {sample.attribute for sample in sets["forget"]} == {"capital"}
    assert {sample.attribute for sample in sets["same subject"]} == {"continent", "language", "currency"}
    assert {sample.subject for sample in sets["same subject"]} == set(benchmark.forget_ids("forget_1", 1))
    assert not any(sample.image for samples in sets.values() for sample in samples)
    assert any(sample.image for sample in scored_sets(benchmark, 1, None, pictures=True)["forget"])


def test_what_a_model_never_knew_is_counted_as_such(tiny_llava: MultimodalModel) -> None:
    benchmark = load_benchmark("knowledge:people")
    found = measured(tiny_llava, AnswerCache(tiny_llava), benchmark, 1, None, pictures=False)
    assert found["subject"] == "einstein"
    assert found["forget"]["asked"] == 9
    assert all(found[name]["known"] >= 0 for name in ("forget", "neighbours", "retain_heldout", "general"))


def test_the_summary_counts_the_known_alone() -> None:
    entries = [
        {"subject": "a", "forget": {"known": 4, "right": 1}},
        {"subject": "b", "forget": {"known": 6, "right": 0}},
        {"subject": "c", "forget": {"known": 0}},
    ]
    found = summary(entries, "forget")
    assert found is not None
    assert (found["share"], found["n"]) == (0.1, 10)
    assert summary(entries, "general") is None


def test_what_is_left_of_what_a_model_could() -> None:
    before = {"right": ["a", "b", "c", "d"], "perplexity": 20.0, "rules kept": 10, "rules": 20}
    after = {"right": ["a", "b", "c", "x"], "perplexity": 21.0, "rules kept": 9, "rules": 20}
    found = compared(before, after)
    assert found["still right"] == 0.75
    assert found["perplexity"] == pytest.approx(0.05)
    assert found["rules"] == [0.5, 0.45]


def test_perplexity_of_a_random_model_is_near_the_size_of_its_vocabulary(tiny_llava: MultimodalModel) -> None:
    size = len(tiny_llava.processor.tokenizer)
    assert size / 2 < perplexity(tiny_llava) < size * 4
