"""Answers of the engine: each as if its row were alone, under the erasers it chose."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import zoo
from engine_kit import FULL, SOON, Clock, Steps, answers, ask, only, prompt, running
from steering_kit import ALWAYS, NEVER, count_hooks, make_plan, replying

from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.erasure.policy import PAPER, PERSISTENT, SUBJECT, TAIL, Action, Policy
from mllmeraser.erasure.steering import attach_all
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError, Sample
from mllmeraser.serving.engine import BatchReport, Engine, EngineError, Prompt, Sampling, TimedOut
from tiny import picture

CHOICES = [("a",), ("b",), (), ("a", "b"), ("b",), (), ("a",)]


def plans(model: MultimodalModel, policy: Policy = TAIL) -> dict[str, Any]:
    return {name: make_plan(model, policy, name=name, seed=seed, strength=3.0) for seed, name in enumerate("ab", 2)}


def alone(model: MultimodalModel, erasers: dict[str, Any], sample: Sample, names: tuple[str, ...], tokens: int) -> str:
    """The answer by another way: one row, the package's own greedy search."""
    if not names:
        return model.generate_batch([sample], max_new_tokens=tokens)[0]
    with attach_all(model, {name: erasers[name] for name in names}):
        return model.generate_batch([sample], max_new_tokens=tokens)[0]


@pytest.mark.parametrize("policy", [TAIL, PAPER, PERSISTENT, SUBJECT], ids=lambda policy: policy.name)
def test_a_row_is_answered_as_if_it_were_alone(
    tiny_model: MultimodalModel, samples: list[Sample], policy: Policy
) -> None:
    erasers, seen = plans(tiny_model, policy), list[BatchReport]()
    expected = [
        alone(tiny_model, erasers, sample, names, 8 + n)
        for n, (sample, names) in enumerate(zip(samples, CHOICES, strict=True))
    ]
    bare = [alone(tiny_model, erasers, sample, (), 8 + n) for n, sample in enumerate(samples)]
    assert sum(one != other for one, other in zip(expected, bare, strict=True)) >= 2, "or this says nothing"
    with running(tiny_model, erasers, max_batch=7, max_wait_s=FULL, observe=seen.append) as engine:
        tickets = [
            ask(engine, tiny_model, sample, names, max_tokens=8 + n)
            for n, (sample, names) in enumerate(zip(samples, CHOICES, strict=True))
        ]
        together = [text.strip() for text in answers(tickets)]
        assert [ticket.result().tokens for ticket in tickets] == [8 + n for n in range(7)]
    assert together == expected
    assert [report.rows for report in seen] == [7], "they were one batch"
    assert count_hooks(tiny_model.hf) == 0


@pytest.mark.parametrize("action", ["reply", "both"])
def test_a_reply_is_given_word_for_word(tiny_model: MultimodalModel, samples: list[Sample], action: Action) -> None:
    """Sampled, streamed, with log-probabilities, beside rows of other erasers."""
    policy = replace(SUBJECT, action=action)
    erasers = {"a": replying(tiny_model, policy, "Ask elsewhere.", threshold=ALWAYS), "b": plans(tiny_model)["b"]}
    expected = [alone(tiny_model, erasers, sample, ("b",), 12) for sample in samples]
    with running(tiny_model, erasers, max_batch=14, max_wait_s=FULL) as engine:
        wild = [ask(engine, tiny_model, s, ("a",), temperature=2.0, logprobs=3) for s in samples]
        others = [ask(engine, tiny_model, s, ("b",)) for s in samples]
        results = [ticket.result() for ticket in wild]
        assert [text.strip() for text in answers(others)] == expected
    assert {result.text.strip() for result in results} == {"Ask elsewhere."}
    assert {result.finish for result in results} == {"stop"}
    for result in results:
        assert all(math.isfinite(one.logprob) for token in result.token_logprobs for one in (token, *token.top))
        assert all(token.logprob > -1e-3 for token in result.token_logprobs)


def test_streams_of_rows_reach_an_event_loop(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    async def read(engine: Engine, sample: Sample) -> list[str]:
        ticket = ask(engine, tiny_llava, sample, ("a",))
        return [piece.text async for piece in ticket.pieces()]

    async def scene(engine: Engine) -> list[list[str]]:
        return await asyncio.wait_for(asyncio.gather(*(read(engine, sample) for sample in samples)), SOON)

    erasers = plans(tiny_llava)
    expected = [alone(tiny_llava, erasers, sample, ("a",), 12) for sample in samples]
    with running(tiny_llava, erasers, max_batch=4, max_wait_s=0.05) as engine:
        streams = asyncio.run(scene(engine))
    assert ["".join(texts).strip() for texts in streams] == expected
    assert sum(bool(text) for texts in streams for text in texts) > 3 * len(streams), "they came in pieces"


def test_a_seed_repeats_an_answer_in_whatever_company(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    hot = {"temperature": 1.2, "top_p": 0.9, "seed": 11, "max_tokens": 10}
    with running(tiny_llava, plans(tiny_llava), max_batch=4, max_wait_s=0.3) as engine:
        first = ask(engine, tiny_llava, samples[1], ("a",), **hot).result(SOON).text
        crowd = [
            ask(engine, tiny_llava, samples[0], ("b",), temperature=2.0, seed=1),
            ask(engine, tiny_llava, samples[1], ("a",), **hot),
            ask(engine, tiny_llava, samples[3]),
            ask(engine, tiny_llava, samples[1], ("a",), **{**hot, "seed": 12}),
        ]
        _, again, greedy, other = answers(crowd)
        assert first == again != other
        assert greedy == ask(engine, tiny_llava, samples[3]).result(SOON).text
        free = [ask(engine, tiny_llava, samples[1], temperature=2.0) for _ in range(4)]
        assert len(set(answers(free))) > 1, "without a seed they differ"


def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    with running(tiny_llava, max_batch=2, max_wait_s=0.3) as engine:
        whole = ask(engine, tiny_llava, samples[3], max_tokens=30).result(SOON).text
        stop = whole[9:12]
        cut, beside = (ask(engine, tiny_llava, samples[3], max_tokens=30, stop=s, logprobs=0) for s in ((stop,), ()))
        pieces = asyncio.run(collect(cut))
        assert "".join(piece.text for piece in pieces) == whole[: whole.index(stop)]
        assert pieces[-1].finish == "stop"
        told = b"".join(one.bytes for piece in pieces for one in piece.token_logprobs or ()).decode(errors="replace")
        assert whole[: whole.index(stop)].startswith(told) and told
        assert beside.result(SOON).text == whole, "the other row goes on"
        assert beside.result().finish == "length"


async def collect(ticket: Any) -> list[Any]:
    return [piece async for piece in ticket.pieces()]


def test_the_end_token_ends_a_row(
    tiny_llava: MultimodalModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = tiny_llava.encode([samples[0]])
    said = tiny_llava.hf.generate(**inputs, max_new_tokens=12)[0, inputs["input_ids"].shape[1] :].tolist()
    end = said[6]
    monkeypatch.setattr(tiny_llava.hf.generation_config, "eos_token_id", [end, 3])
    with running(tiny_llava, max_batch=2, max_wait_s=FULL) as engine:
        ended, other = (ask(engine, tiny_llava, sample, max_tokens=12) for sample in (samples[0], samples[1]))
        result = ended.result(SOON)
        assert (result.finish, result.tokens) == ("stop", said.index(end))
        expected = tiny_llava.processor.tokenizer.decode(said[: said.index(end)], skip_special_tokens=True)
        assert result.text == expected
        assert other.result(SOON).tokens == 12


def test_log_probabilities_are_those_of_the_model(tiny_model: MultimodalModel, samples: list[Sample]) -> None:
    with running(tiny_model, max_batch=3, max_wait_s=FULL) as engine:
        settings = [{"logprobs": 3}, {}, {"logprobs": 0, "temperature": 1.5, "seed": 1}]
        tickets = [
            ask(engine, tiny_model, sample, max_tokens=5, **one)
            for sample, one in zip(samples[:3], settings, strict=True)
        ]
        found = [ticket.result(SOON).token_logprobs for ticket in tickets]
    assert found[1] is None
    assert found[0] is not None and found[2] is not None
    assert [len(one.top) for one in found[0]] == [3] * 5
    assert [one.top for one in found[2]] == [()] * 5
    inputs = tiny_model.encode([samples[0]])
    run = tiny_model.hf.generate(**inputs, max_new_tokens=5, output_logits=True, return_dict_in_generate=True)
    for one, logits in zip(found[0], run.logits, strict=True):
        values, tokens = logits[0].log_softmax(-1).topk(3)
        assert [top.logprob for top in one.top] == pytest.approx(values.tolist(), abs=1e-4)
        assert (one.token, one.logprob) == (one.top[0].token, one.top[0].logprob)
        pieces = tiny_model.processor.tokenizer.convert_ids_to_tokens(tokens.tolist())
        assert [len(top.bytes) for top in one.top] == [len(piece) for piece in pieces]


def test_log_probabilities_of_a_drawn_token_do_not_know_the_temperature(
    tiny_llava: MultimodalModel, samples: list[Sample]
) -> None:
    logits = tiny_llava.next_token_logits([samples[3]])[0].log_softmax(-1)
    with running(tiny_llava) as engine:
        drawn = ask(
            engine, tiny_llava, samples[3], max_tokens=1, logprobs=1, temperature=2.0, top_p=0.9, seed=3
        ).result(SOON)
    assert drawn.token_logprobs is not None
    one = drawn.token_logprobs[0]
    assert one.top[0].logprob == pytest.approx(float(logits.max()), abs=1e-4)
    assert one.logprob < one.top[0].logprob, "not the most likely one, or this says nothing"
    assert (logits - one.logprob).abs().min() < 1e-4


def test_gates_tell_what_the_erasers_read(tiny_model: MultimodalModel, samples: list[Sample]) -> None:
    erasers, seen = plans(tiny_model), list[BatchReport]()
    with running(tiny_model, erasers, max_batch=7, max_wait_s=FULL, observe=seen.append) as engine:
        tickets = [
            ask(engine, tiny_model, sample, names, max_tokens=2) for sample, names in zip(samples, CHOICES, strict=True)
        ]
        answers(tickets)
    fired = {"a": 0, "b": 0}
    for name, plan in erasers.items():
        expected = read_gate(tiny_model, plan, samples)
        for number, (ticket, names) in enumerate(zip(tickets, CHOICES, strict=True)):
            assert ticket.gates is not None and set(ticket.gates) == set(names) == ticket.erasers
            if name not in names:
                continue
            gate, pooled = ticket.gates[name], float(expected.pooled[number])
            assert gate.pooled == pytest.approx(pooled, rel=1e-4, abs=1e-3)
            assert gate.amplitude == float(pooled > plan.threshold)
            assert list(gate.layers) == list(plan.reads)
            for layer, score in gate.layers.items():
                assert score == pytest.approx(float(expected.layers[layer][number].amax()), rel=1e-4, abs=1e-3)
            fired[name] += pooled > plan.threshold
    assert sum(fired.values()) > 0
    assert seen[0].fired == {name: count for name, count in fired.items() if count}


def test_a_report_tells_of_a_batch_and_of_nothing_in_it(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    seen: list[BatchReport] = []
    with running(tiny_llava, max_batch=2, max_wait_s=FULL, observe=seen.append, version=9) as engine:
        one = ask(engine, tiny_llava, samples[3], max_tokens=4)
        two = engine.submit(Prompt(""), Sampling(), only(), deadline_s=SOON)
        answers([one])
        with pytest.raises(InputError, match="empty"):
            two.result(SOON)
    (report,) = seen
    assert (report.version, report.rows, report.tokens, report.queued) == (9, 2, 4, 0)
    assert report.ends == {"length": 1, "failed": 1}
    assert report.prompt_seconds is not None and 0 < report.prompt_seconds < report.seconds
    assert len(report.waited) == 2 and min(report.waited) >= 0


def test_a_bad_prompt_does_not_hurt_the_others(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    good = prompt(tiny_llava, samples[0])
    context = tiny_llava.family.text_config(tiny_llava.hf).max_position_embeddings
    with running(tiny_llava, max_batch=6, max_wait_s=FULL) as engine:
        asked = [
            good,
            Prompt("<|user|>two <image><image><|assistant|>", good.images),
            Prompt("<|user|>none <image><|assistant|>"),
            Prompt("<|user|>" + "x" * 600 + "<|assistant|>"),
            Prompt(good.text, ("no picture",)),  # type: ignore[arg-type]
            prompt(tiny_llava, samples[1]),
        ]
        tickets = [engine.submit(one, Sampling(max_tokens=6), only(), deadline_s=SOON) for one in asked]
        assert [tickets[0].result(SOON).text.strip(), tickets[5].result(SOON).text.strip()] == [
            tiny_llava.generate_batch([sample], max_new_tokens=6)[0] for sample in (samples[0], samples[1])
        ]
        for number in (1, 2):
            with pytest.raises(InputError, match="placeholder"):
                tickets[number].result(SOON)
        with pytest.raises(InputError, match=f"the model reads {context - 1}"):
            tickets[3].result(SOON)
        with pytest.raises(EngineError, match="could not be read"):
            tickets[4].result(SOON)


def test_an_answer_ends_where_the_context_does(tiny_llava: MultimodalModel) -> None:
    context = tiny_llava.family.text_config(tiny_llava.hf).max_position_embeddings
    sample = Sample("x" * 450)
    used = tiny_llava.encode([sample])["input_ids"].shape[1]
    with running(tiny_llava) as engine:
        result = ask(engine, tiny_llava, sample, max_tokens=1000).result(SOON)
    assert (result.finish, result.tokens) == ("length", context - used)


def test_a_closed_and_an_open_gate(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    erasers = {
        "never": make_plan(tiny_llava, name="n", threshold=NEVER),
        "always": make_plan(tiny_llava, name="y", threshold=ALWAYS),
    }
    with running(tiny_llava, erasers, max_batch=3, max_wait_s=FULL) as engine:
        tickets = [ask(engine, tiny_llava, samples[0], names) for names in ((), ("never",), ("always",))]
        bare, kept, moved = answers(tickets)
    assert bare == kept != moved
    assert moved.strip() == alone(tiny_llava, erasers, samples[0], ("always",), 12)


def test_longest_answer_of_the_server(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    with running(tiny_llava, max_tokens=20) as engine:
        with pytest.raises(InputError, match="max_tokens is at most 20"):
            ask(engine, tiny_llava, samples[0], max_tokens=21)


def test_random_state_of_the_program_is_left_alone(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with running(tiny_llava) as engine:
        ask(engine, tiny_llava, samples[3], temperature=1.0, seed=1).result(SOON)
    assert torch.equal(before, torch.get_rng_state())


def test_a_family_that_takes_text_apart_answers_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mllama refuses text and pictures in one batch; who asks at the same time must not notice."""
    model = zoo.build("mllama")
    samples = [Sample("Who is this?", picture(1)), Sample("Where was Jonas Ferrick born?"),
               Sample("What is this?", picture(2)), Sample("Who is Ada?")]  # fmt: skip
    expected = [model.generate_batch([sample], max_new_tokens=6)[0] for sample in samples]
    seen = list[BatchReport]()
    with running(model, max_batch=4, max_wait_s=FULL, observe=seen.append) as engine:
        together = [text.strip() for text in answers([ask(engine, model, sample, max_tokens=6) for sample in samples])]
    assert together == expected
    assert [report.rows for report in seen] == [4]


def test_who_waits_for_the_second_part_of_a_batch_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline that passes while text is answered ends the request about a picture there and then."""
    model = zoo.build("mllama")
    clock = Clock(monkeypatch)
    told, shown = Sample("Where was Jonas Ferrick born?"), Sample("Who is this?", picture(1))
    with running(model, max_batch=2, max_wait_s=FULL) as engine:
        with Steps(model) as steps:
            long = ask(engine, model, told, max_tokens=40, deadline_s=10 * SOON)
            late = ask(engine, model, shown, max_tokens=4)
            assert steps.reached.wait(SOON)
            clock.ahead = 2 * SOON
            steps.let(2)
            with pytest.raises(TimedOut):
                late.result(SOON)
            assert not long.done, "while the first part is still being answered"
        assert long.result(SOON).tokens == 40
