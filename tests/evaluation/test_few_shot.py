"""Items in context: whose they are, who is skipped, and that a model really sees them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from parrot import Parrot

from mllmeraser.benchmarks import Benchmark
from mllmeraser.evaluation import evaluate, get_protocol
from mllmeraser.evaluation.context_prompts import reading_context
from mllmeraser.evaluation.few_shot import ContextSample, add_context, drawn_people, shots_of
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError, Sample
from tiny import picture

OFFICIAL = get_protocol("official")


def prepared(
    release: Benchmark, split: str = "forget_15", family: str = "llava", seed: int = 0
) -> dict[str, list[Sample]]:
    rules = replace(OFFICIAL, seed=seed)
    return rules.with_context(rules.read(release, split), release, split, family=family)


def people(samples: list[Sample], task: str) -> set[str]:
    return {s.subject or "" for s in samples if s.task == task}


@pytest.mark.parametrize("name", ["forget", "test", "retain"])
def test_one_person_is_shown_and_then_skipped(release: Benchmark, name: str) -> None:
    before = OFFICIAL.read(release, "forget_15")[name]
    after = prepared(release)[name]
    shown = people(before, "classification") - people(after, "classification")
    assert len(shown) == 1
    for sample in after:
        if sample.task != "classification":
            continue
        shots = shots_of(sample)
        assert {s.subject for s in shots} == shown
        assert {s.modality for s in shots} == {sample.modality} and {s.task for s in shots} == {"classification"}
        # Every item of that person, each with its letter, over the picture of the evaluation form.
        (key,) = shown
        assert len(shots) == (6 if int(key) % 4 == 0 else 5) and all(s.answer in "ABCD" for s in shots if s.answer)
        assert not any(s.id.startswith("test/") for s in shots)


@pytest.mark.parametrize(("family", "count"), [("llava", 2), ("qwen2.5-vl", 1)])
def test_cloze_shows_llava_two_people(release: Benchmark, family: str, count: int) -> None:
    before, after = OFFICIAL.read(release, "forget_15"), prepared(release, family=family)
    for name in ("forget", "test", "retain"):
        gone = people(before[name], "cloze") - people(after[name], "cloze")
        assert len(gone) == count
        shots = [shots_of(s) for s in after[name] if s.task == "cloze"]
        assert all({s.subject for s in row} == gone and len(row) == 2 * count for row in shots)
        assert all("[Blank]" in s.question for row in shots for s in row)


def test_generation_and_celebrities_are_asked_without(release: Benchmark) -> None:
    before, after = OFFICIAL.read(release, "forget_15"), prepared(release)
    assert after["celebrity"] == before["celebrity"]
    for name in ("forget", "test", "retain"):
        plain = [s for s in before[name] if s.task == "generation"]
        assert [s for s in after[name] if s.task == "generation"] == plain and not any(map(shots_of, plain))


def test_same_seed_same_context_whatever_the_order(release: Benchmark) -> None:
    def digests(sets: dict[str, list[Sample]]) -> dict[str, list[str]]:
        return {name: [s.digest() for s in samples] for name, samples in sets.items()}

    first = digests(prepared(release))
    assert first == digests(prepared(release))
    assert any(digests(prepared(release, seed=seed))["retain"] != first["retain"] for seed in (1, 2, 3))
    samples = OFFICIAL.read(release, "forget_15")["retain"]
    drawn = drawn_people(samples, "retain", "cloze", 2, 0)
    assert drawn == drawn_people(samples[::-1], "retain", "cloze", 2, 0) and len(set(drawn)) == 2
    assert {drawn_people(samples, "retain", "cloze", 1, seed) for seed in range(40)} > {drawn[:1]}


def test_nobody_left_is_an_error_that_says_what_to_do(release: Benchmark) -> None:
    with pytest.raises(InputError, match="shows 1 of 1 people .* official-zero-shot") as error:
        prepared(release, "forget_5")
    assert "\n" not in str(error.value)
    zero = get_protocol("official-zero-shot")
    sets = zero.read(release, "forget_5")
    assert zero.with_context(sets, release, "forget_5", family="llava") == sets


def test_runs_with_other_seeds_are_about_the_same_items(release: Benchmark) -> None:
    sets = prepared(release)
    told = []
    for seed in (0, 7):
        parrot: Any = Parrot(lambda sample: sample.answer or "")
        # The stand-in has no prompts to show a context in.
        plain = {name: [_bare(s) for s in samples] for name, samples in sets.items()}
        result = evaluate(parrot, plain, method="vanilla", benchmark="b", split="s", protocol=OFFICIAL, seed=seed)
        told.append([item["id"] for item in result.items])
        assert {r.protocol for r in result.records} == {"official"} and {r.seed for r in result.records} == {seed}
        assert {r.accuracy for r in result.records} == {1.0}
    assert told[0] == told[1]


def _bare(sample: Sample) -> Sample:
    return Sample(
        sample.question,
        sample.image,
        sample.answer,
        sample.task,
        sample.options,
        sample.keywords,
        sample.subject,
        sample.id,
    )


# -- what a model sees ----------------------------------------------------------------------------------------------


@pytest.fixture
def conversation() -> list[ContextSample]:
    shot = Sample("Who is this?", picture(1), answer="Mara", subject="a")
    other = Sample("Who is that?", picture(2, (40, 30)), answer="Jonas", subject="a")
    text = Sample("Who lives in Tolm?", answer="Mara")
    return [
        ContextSample("Who is this?", picture(3), shots=(shot, other), id="image"),
        ContextSample("Who lives in Hesk?", shots=(text,), id="text"),
        ContextSample("And now?", picture(4), id="bare"),
    ]


def test_every_picture_has_its_place(tiny_model: MultimodalModel, conversation: list[ContextSample]) -> None:
    reader = reading_context(tiny_model)
    token = tiny_model.family.image_token(tiny_model.processor)
    rendered = reader.prompts.text(conversation[0])
    assert rendered.count(token) == 3
    assert rendered.index("Mara") < rendered.index("Who is that?") < rendered.index("Jonas") < rendered.rindex(token)
    batch = reader.encode(conversation)
    number = tiny_model.processor.tokenizer.convert_tokens_to_ids(token)
    pictures = [[*conversation[0].shots, conversation[0]], [], [conversation[2]]]
    wanted = [
        sum(
            tiny_model.family.placeholders(tiny_model.processor, reader.prompts.pixels(s.image)) for s in row if s.image
        )
        for row in pictures
    ]
    assert (batch["input_ids"] == number).sum(1).tolist() == wanted
    joined = tiny_model.family.join([reader.prompts.pixels(s.image) for row in pictures for s in row if s.image])
    assert torch.equal(batch["pixel_values"].cpu(), joined["pixel_values"].to(batch["pixel_values"].dtype))


def test_llava_agrees_with_its_own_processor(tiny_llava: MultimodalModel, conversation: list[ContextSample]) -> None:
    reader = reading_context(tiny_llava)
    sample = conversation[0]
    images = [s.image for s in (*sample.shots, sample)]
    theirs = tiny_llava.processor(images=images, text=reader.prompts.text(sample), return_tensors="pt")
    ours = reader.encode([sample])
    assert ours["input_ids"].tolist() == theirs["input_ids"].tolist()
    assert torch.equal(ours["pixel_values"], theirs["pixel_values"])


def test_the_context_is_read_and_a_batch_is_its_rows(
    tiny_model: MultimodalModel, conversation: list[ContextSample]
) -> None:
    reader = reading_context(tiny_model)
    together = reader.next_token_logits(conversation)
    alone = torch.cat([reader.next_token_logits([sample]) for sample in conversation])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        together[2:], tiny_model.next_token_logits([_bare(conversation[2])]), rtol=1e-4, atol=1e-4
    )
    first = conversation[0]
    changes = {
        "no context": replace(first, shots=()),
        "another answer": replace(first, shots=(replace(first.shots[0], answer="Jonas"), first.shots[1])),
        "another picture": replace(first, shots=(replace(first.shots[0], image=picture(9)), first.shots[1])),
    }
    for what, changed in changes.items():
        assert not torch.allclose(reader.next_token_logits([changed])[0], together[0], atol=1e-3), what
        assert changed.digest() != first.digest()


def test_a_question_that_spells_the_placeholder_is_refused(tiny_llava: MultimodalModel) -> None:
    shot = Sample("Who?", answer="Mara")
    with pytest.raises(InputError, match="1 image placeholders .* for 0 image"):
        reading_context(tiny_llava).encode([ContextSample("What is <image>?", shots=(shot,))])
    with pytest.raises(InputError, match="needs its answer"):
        reading_context(tiny_llava).encode([ContextSample("Who?", shots=(Sample("Who?"),))])


def test_a_whole_official_run(tiny_model: MultimodalModel) -> None:
    def asked(key: str, number: int) -> Sample:
        return Sample(
            f"Job {number}?",
            picture(number),
            "A",
            "classification",
            (("A", "x"), ("B", "y")),
            (),
            key,
            f"{key}/{number}",
        )

    samples = [asked(key, number) for key in "abc" for number in range(2)]
    sets = add_context({"forget": samples}, {"forget": samples}, family="llava", seed=0)
    assert len(sets["forget"]) == 4
    result = evaluate(
        tiny_model, sets, method="vanilla", benchmark="b", split="s", protocol=OFFICIAL, max_new_tokens=4, batch_size=4
    )
    (record,) = result.records
    assert (record.protocol, record.n, record.people) == ("official", 4, 2)
    reader = reading_context(tiny_model)
    assert [i["answer"] for i in result.items] == reader.generate(sets["forget"], max_new_tokens=4, batch_size=1)
