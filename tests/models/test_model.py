from __future__ import annotations

import copy
from contextlib import ExitStack
from functools import partial

import pytest
import torch
from torch import Tensor

from mllmeraser.models import HookPoint, MultimodalModel
from mllmeraser.models.capture import hidden_of, last_real_index
from mllmeraser.models.families import PixelInputs
from mllmeraser.models.prompts import IGNORED, Prompts
from mllmeraser.samples import InputError, NumericalError, Sample
from mllmeraser.samples.conversation import Turn, after, question
from tiny import encode, picture

CLOSE = {"rtol": 1e-4, "atol": 5e-5}


def states_by_hand(model: MultimodalModel, samples: list[Sample], side: str) -> dict[HookPoint, Tensor]:
    inputs = model.encode(samples, side)
    ids = inputs["input_ids"]
    index = last_real_index(inputs["attention_mask"], *ids.shape, ids.device)
    found: dict[HookPoint, Tensor] = {}

    def read(point: HookPoint, _block: object, _args: object, output: object) -> None:
        found[point] = hidden_of(output)[torch.arange(len(ids)), index]

    with torch.no_grad(), ExitStack() as hooks:
        for point in model.hookpoints():
            hooks.enter_context(model.layers[point.layer].register_forward_hook(partial(read, point)))
        model.hf(**inputs, use_cache=False)
    return found


@pytest.mark.parametrize("side", ["left", "right"])
def test_mixed_batch_equals_one_by_one(tiny_model: MultimodalModel, samples: list[Sample], side: str) -> None:
    batch = states_by_hand(tiny_model, samples, side)
    single = [states_by_hand(tiny_model, [sample], side) for sample in samples]
    for point in tiny_model.hookpoints():
        torch.testing.assert_close(batch[point], torch.cat([one[point] for one in single]), **CLOSE)


@pytest.mark.parametrize("side", ["left", "right"])
def test_rendered_texts_encode_as_the_samples_they_are_of(
    tiny_model: MultimodalModel, samples: list[Sample], side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tiny_model.encode(samples, side)
    # Equal pictures are not processed again.
    monkeypatch.setattr(tiny_model.family, "pixels", lambda *_: pytest.fail("it is in the cache"))
    texts, images = [tiny_model.prompts.text(sample) for sample in samples], [sample.image for sample in samples]
    found = tiny_model.encode_texts(texts, images, side)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_texts_that_cannot_be_encoded(tiny_llava: MultimodalModel) -> None:
    for texts, images, reason in (
        (["<|user|>a"], [], "1 prompts but 0 images"),
        (["<|user|>a <image>"], [None], "placeholder"),
        (["<|user|>a"], [picture(1)], "placeholder"),
        (["<|user|>a", ""], [None, None], "no tokens"),
    ):
        with pytest.raises(InputError, match=reason):
            tiny_llava.encode_texts(texts, images)


def test_a_text_is_tokenised_by_itself(tiny_llava: MultimodalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a begin token is written is a matter of the row: the first of a batch does not decide for the others."""
    seen: list[list[str]] = []
    plain = tiny_llava.processor.tokenizer
    monkeypatch.setattr(
        "mllmeraser.models.model.tokenize",
        lambda processor, texts: seen.append(list(texts)) or [plain(text)["input_ids"] for text in texts],
    )
    tiny_llava.encode_texts(["<|user|>a", "<|end|>b"], [None, None])
    assert seen == [["<|user|>a"], ["<|end|>b"]]


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_states_do_not_depend_on_the_batch(tiny_model: MultimodalModel, samples: list[Sample], batch_size: int) -> None:
    states = tiny_model.states(samples, tiny_model.hookpoints(), batch_size=batch_size)
    expected = states_by_hand(tiny_model, samples, "right")
    for point, found in states.items():
        assert found.shape == (len(samples), tiny_model.hidden_size)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected[point], **CLOSE)
    spread = torch.pdist(states[HookPoint(2)]).min()
    assert spread > 0.1, "states of different prompts must differ, or the comparison above says nothing"


@pytest.mark.parametrize("shown", [False, True])
def test_what_was_said_before_is_part_of_a_prompt(tiny_llava: MultimodalModel, shown: bool) -> None:
    before = (Turn("user", "Hello"), Turn("assistant", "Hi"))
    image = picture(1) if shown else None
    sample = Sample("Who is this?", image, before=before)
    talk = after(before, question(sample.prompt, image))
    assert tiny_llava.prompts.text(sample) == tiny_llava.render(talk)
    ours, wanted = tiny_llava.encode([sample]), tiny_llava.encode_conversations([talk])
    assert {name: tensor.tolist() for name, tensor in ours.items()} == {n: t.tolist() for n, t in wanted.items()}
    assert sample.digest() != Sample("Who is this?", image).digest()
    assert sample.digest() != Sample("Who is this?", image, before=before[:1]).digest()
    assert tiny_llava.takes(sample)


def test_picture_matters(tiny_model: MultimodalModel) -> None:
    point = HookPoint(tiny_model.num_layers - 1)
    pair = [Sample("Who is this?", picture(seed)) for seed in (1, 2)]
    states = tiny_model.states(pair, [point])[point]
    assert (states[0] - states[1]).norm() > 0.1


def test_states_of_nothing_and_of_a_missing_layer(tiny_model: MultimodalModel) -> None:
    assert tiny_model.states([], [HookPoint(0)])[HookPoint(0)].shape == (0, tiny_model.hidden_size)
    with pytest.raises(InputError, match="does not exist"):
        tiny_model.states([Sample("Hi")], [HookPoint(tiny_model.num_layers)])


def test_states_that_are_not_finite_are_refused(tiny_model: MultimodalModel, samples: list[Sample]) -> None:
    hf = copy.deepcopy(tiny_model.hf)
    broken = MultimodalModel("broken", hf, tiny_model.processor)
    with torch.no_grad():
        broken.layers[2].mlp.down_proj.weight[0, 0] = float("nan")
    assert broken.states(samples, [HookPoint(1)])[HookPoint(1)].isfinite().all()
    with pytest.raises(NumericalError, match="after layer 2 contain NaN"):
        broken.states(samples, [HookPoint(2)])


@torch.no_grad()
def greedy(model: MultimodalModel, sample: Sample, steps: int) -> str:
    """Greedy decoding without cache: the whole sequence through the model for every token."""
    inputs = dict(model.encode([sample]))
    tokenizer, said = model.processor.tokenizer, []
    for _ in range(steps):
        token = int(model.hf(**inputs, use_cache=False).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        said.append(token)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([[token]])], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if "mm_token_type_ids" in inputs:
            inputs["mm_token_type_ids"] = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, 1))
    return tokenizer.decode(said, skip_special_tokens=True).strip()


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_answers_are_greedy_and_in_order(tiny_model: MultimodalModel, samples: list[Sample], batch_size: int) -> None:
    done: list[int] = []
    answers = tiny_model.generate(samples, max_new_tokens=6, batch_size=batch_size, progress=done.append)
    assert answers == [greedy(tiny_model, sample, 6) for sample in samples]
    assert len(set(answers)) > 3
    assert sum(done) == len(samples)


def test_one_mixed_batch_keeps_its_rows(tiny_model: MultimodalModel, samples: list[Sample]) -> None:
    mixed = tiny_model.generate_batch(samples, max_new_tokens=6)
    assert mixed == tiny_model.generate(samples, max_new_tokens=6, batch_size=1)


def test_repetition_penalty_of_the_checkpoint_does_not_count(
    tiny_model: MultimodalModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tiny_model.generate(samples, max_new_tokens=6)
    for key, value in {"repetition_penalty": 5.0, "do_sample": True, "temperature": 9.0, "top_k": 3}.items():
        monkeypatch.setattr(tiny_model.hf.generation_config, key, value)
    assert tiny_model.generate(samples, max_new_tokens=6) == plain


def test_next_token_logits_equal_the_forward(tiny_model: MultimodalModel, samples: list[Sample]) -> None:
    logits = tiny_model.next_token_logits(samples, batch_size=3)
    for row, sample in zip(logits, samples, strict=True):
        with torch.no_grad():
            expected = tiny_model.hf(**tiny_model.encode([sample])).logits[0, -1]
        torch.testing.assert_close(row, expected, **CLOSE)


ANSWERS = ["Mara Velden", "In Tolm.", "baker", "I do not know this person.", "A", "B", "Sorry"]


def test_answer_logprobs_equal_the_forward(tiny_model: MultimodalModel, samples: list[Sample]) -> None:
    sums, counts = tiny_model.answer_logprobs(samples, ANSWERS, batch_size=3)
    for number, (sample, answer) in enumerate(zip(samples, ANSWERS, strict=True)):
        inputs = tiny_model.encode_answers([sample], [answer], end=False)
        labels = inputs.pop("labels")[0]
        ids = [int(label) for label in labels if label != IGNORED]
        assert tiny_model.processor.tokenizer.decode(ids) == answer
        with torch.no_grad():
            steps = tiny_model.hf(**inputs).logits[0].log_softmax(-1)
        start = len(labels) - len(ids)
        expected = sum(float(steps[start + i - 1, token]) for i, token in enumerate(ids))
        assert float(sums[number]) == pytest.approx(expected, abs=2e-3)
        assert int(counts[number]) == len(ids)


@pytest.mark.parametrize("side", ["left", "right"])
def test_labels_lie_on_the_answer(tiny_model: MultimodalModel, samples: list[Sample], side: str) -> None:
    batch = tiny_model.encode_answers(samples, ANSWERS, padding_side=side)
    tokenizer = tiny_model.processor.tokenizer
    for row, answer in enumerate(ANSWERS):
        labels, ids = batch["labels"][row], batch["input_ids"][row]
        answered = labels != IGNORED
        assert torch.equal(labels[answered], ids[answered])
        assert bool(batch["attention_mask"][row][answered].all())
        assert tokenizer.decode(labels[answered]) == answer + tokenizer.eos_token
        prompt = ids[~answered & batch["attention_mask"][row].bool()]
        assert torch.equal(prompt, tiny_model.encode([samples[row]])["input_ids"][0])


def test_answers_and_samples_must_pair_up(tiny_model: MultimodalModel, samples: list[Sample]) -> None:
    with pytest.raises(InputError, match="7 samples but 1 answers"):
        tiny_model.encode_answers(samples, ["A"])
    with pytest.raises(InputError, match="has no tokens"):
        tiny_model.encode_answers(samples[:1], [""])


def test_answer_after_plain_text_gets_its_space(tiny_llava: MultimodalModel) -> None:
    prompts, tokenizer = tiny_llava.prompts, tiny_llava.processor.tokenizer
    assert tokenizer.decode(prompts._answer_ids("USER: Hi ASSISTANT:", "baker", False)) == " baker"
    assert tokenizer.decode(prompts._answer_ids("<|user|>Hi<|assistant|>", "baker", False)) == "baker"
    assert tokenizer.decode(prompts._answer_ids("assistant\n", "baker", False)) == "baker"


def counting(model: MultimodalModel, monkeypatch: pytest.MonkeyPatch) -> list[PixelInputs]:
    made: list[PixelInputs] = []
    original = model.family.pixels

    def count(processor: object, image: object) -> PixelInputs:
        made.append(original(processor, image))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(model.family, "pixels", count)
    return made


def test_equal_pictures_are_processed_once(tiny_model: MultimodalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    made = counting(tiny_model, monkeypatch)
    prompts = Prompts(tiny_model.family, tiny_model.processor)
    samples = [Sample(f"Question {number}", picture(number % 3)) for number in range(12)]
    batch = prompts.encode(samples)
    assert len(made) == 3
    texts, images = [prompts.text(one) for one in samples], [one.image for one in samples]
    plain = encode(tiny_model.family, tiny_model.processor, texts, images)
    assert torch.equal(batch["pixel_values"], plain["pixel_values"])
    assert torch.equal(batch["input_ids"], plain["input_ids"])


def test_kept_pictures_stay_within_the_limit(tiny_model: MultimodalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    made = counting(tiny_model, monkeypatch)
    size = sum(
        t.numel() * t.element_size() for t in tiny_model.family.pixels(tiny_model.processor, picture(0)).values()
    )
    prompts = Prompts(tiny_model.family, tiny_model.processor, cache_bytes=2 * size)
    made.clear()
    for seed in (0, 1, 0, 2, 0, 1):  # 1 is the one not used lately when 2 arrives
        prompts.pixels(picture(seed))
    assert len(made) == 4
    assert prompts._held_bytes == 2 * size


def test_pictures_of_other_modes_are_read_as_rgb(tiny_model: MultimodalModel) -> None:
    rgb = picture(4).convert("L").convert("RGB")
    for image in (rgb.convert("L"), rgb.convert("RGBA")):
        found = tiny_model.encode([Sample("Who?", image)])["pixel_values"]
        assert torch.equal(found, tiny_model.encode([Sample("Who?", rgb)])["pixel_values"])


def test_plan_covers_every_row_once_and_never_mixes(tiny_model: MultimodalModel, samples: list[Sample]) -> None:
    plan = tiny_model.prompts.plan(samples, 2)
    assert sorted(row for rows in plan for row in rows) == list(range(len(samples)))
    for rows in plan:
        assert len(rows) <= 2
        assert len({samples[row].modality for row in rows}) == 1
    with pytest.raises(InputError, match="batch_size"):
        tiny_model.prompts.plan(samples, 0)
