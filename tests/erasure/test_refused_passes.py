"""Passes in which somebody could be shown or named unseen: each is refused, and the model is as it was afterwards."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from steering_kit import ALWAYS, make_plan
from torch import Tensor

from mllmeraser.erasure.policy import SUBJECT, TAIL
from mllmeraser.erasure.steering import attach
from mllmeraser.erasure.steering.plan import SteeringPlan
from mllmeraser.models import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import AttachError, Sample
from tiny import picture

SHOWN, TOLD = Sample("Who is this?", picture(1)), Sample("Where was Jonas Ferrick born?")


@pytest.fixture
def plan(tiny_model: MultimodalModel) -> SteeringPlan:
    return make_plan(tiny_model, SUBJECT, threshold=ALWAYS)


def refused(model: MultimodalModel, plan: SteeringPlan, words: str, **inputs: Any) -> None:
    with torch.no_grad():
        with attach(model, plan), pytest.raises(AttachError, match=words):
            model.hf(**inputs)
        bare = model.next_token_logits([TOLD])
        with attach(model, make_plan(model, TAIL, strength=0.0, threshold=0.0)):
            assert torch.equal(model.next_token_logits([TOLD]), bare), "nothing stays in the way"


def without_picture(model: MultimodalModel, ids: Tensor) -> Tensor:
    return torch.where(ids == model.family.image_token_id(model.hf), ids[0, -1], ids)


def test_ids_beside_embeddings(tiny_model: MultimodalModel, plan: SteeringPlan) -> None:
    """The model would read the one, and the gates look where the other says."""
    inputs = dict(tiny_model.encode([SHOWN]))
    embeddings = tiny_model.hf.get_input_embeddings()(inputs["input_ids"])
    ids = without_picture(tiny_model, inputs["input_ids"])
    refused(tiny_model, plan, "not both", input_ids=ids, inputs_embeds=embeddings)


def test_pictures_that_touch(tiny_llava: MultimodalModel) -> None:
    """Their common mean could hide a face; with text between them each is looked at."""
    plan = make_plan(tiny_llava, SUBJECT, threshold=ALWAYS)
    other = Sample("Who is this?", picture(2))
    one, two = (dict(tiny_llava.encode([sample])) for sample in (SHOWN, other))
    ids, image = one["input_ids"][0], tiny_llava.family.image_token_id(tiny_llava.hf)
    first, count = int((ids == image).int().argmax()), int((ids == image).sum())
    run, rest = ids[first : first + count], ids[first + count :]

    def both(*between: Tensor) -> dict[str, Tensor]:
        row = torch.cat([ids[:first], run, *between, run, rest])[None]
        pixels = torch.cat([one["pixel_values"], two["pixel_values"]])
        return {"input_ids": row, "attention_mask": torch.ones_like(row), "pixel_values": pixels}

    refused(tiny_llava, plan, "text between", **both())
    with attach(tiny_llava, plan), torch.no_grad():
        with pytest.raises(AttachError, match="text between"):
            tiny_llava.hf.generate(**both(), max_new_tokens=1)
        tiny_llava.hf(**both(rest[-1:]))
        tiny_llava.hf.generate(**both(rest[-1:]), max_new_tokens=1)


@pytest.mark.parametrize("name", ["input_features", "audio_values"])
def test_sound(tiny_model: MultimodalModel, plan: SteeringPlan, name: str) -> None:
    refused(tiny_model, plan, "sound", **tiny_model.encode([TOLD]), **{name: torch.zeros(1)})


@pytest.mark.parametrize("shape", ["rows", "four axes"])
@pytest.mark.parametrize("second", [[0, 1, 2], [7, 8, 9], [2, 3, 4]])
def test_packed_sequences(tiny_model: MultimodalModel, plan: SteeringPlan, shape: str, second: list[int]) -> None:
    """Two prompts in one row: transformers parts them wherever positions do not go up by one."""
    ids = tiny_model.encode([TOLD])["input_ids"][:, :6]
    positions = torch.tensor([[0, 1, 2, *second]])
    if shape == "four axes":
        positions = positions.expand(4, 1, -1)
    refused(tiny_model, plan, "packed", input_ids=ids, position_ids=positions)
    with attach(tiny_model, plan) as handle, torch.no_grad(), handle.prompt(ids.shape[1]):
        with pytest.raises(AttachError, match="packed"):
            tiny_model.hf(input_ids=ids, position_ids=positions)


def test_a_prepared_mask_beside_a_declared_prompt(tiny_model: MultimodalModel, plan: SteeringPlan) -> None:
    ids = tiny_model.encode([TOLD])["input_ids"]
    mask = torch.ones(1, 1, ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    with attach(tiny_model, plan) as handle, torch.no_grad(), handle.prompt(torch.ones_like(ids)):
        with pytest.raises(AttachError, match="prepared mask"):
            tiny_model.hf(input_ids=ids, attention_mask=mask)


def test_a_prompt_that_is_fed_token_by_token(tiny_llava: MultimodalModel) -> None:
    ids = tiny_llava.encode([TOLD])["input_ids"]
    with attach(tiny_llava, make_plan(tiny_llava, TAIL, threshold=ALWAYS)), torch.no_grad():
        out = tiny_llava.hf(input_ids=ids[:, :1], use_cache=True)
        with pytest.raises(AttachError, match="token by token"):
            tiny_llava.hf(input_ids=ids[:, 1:2], past_key_values=out.past_key_values, use_cache=True)


def test_two_threads_get_no_answer_of_the_bare_model(tiny_llava: MultimodalModel) -> None:
    inputs = tiny_llava.encode([TOLD])
    plan = make_plan(tiny_llava, TAIL, threshold=ALWAYS)
    wrong: list[Tensor] = []
    with torch.no_grad(), attach(tiny_llava, plan):
        steered = tiny_llava.hf(**inputs).logits

        @torch.no_grad()
        def ask() -> None:
            for _ in range(40):
                try:
                    logits = tiny_llava.hf(**inputs).logits
                except AttachError:
                    continue
                if not torch.allclose(logits, steered, atol=1e-4):
                    wrong.append(logits)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert torch.equal(tiny_llava.hf(**inputs).logits, steered), "one thread alone is let in again"
    assert wrong == []


def test_copies_of_a_model(tiny_llava: MultimodalModel) -> None:
    with attach(tiny_llava, make_plan(tiny_llava, TAIL, threshold=ALWAYS)), torch.no_grad():
        copy = tiny_llava.hf._replicate_for_data_parallel()
        with pytest.raises(AttachError, match="copy"):
            copy(**tiny_llava.encode([TOLD]))


def test_an_adapter_that_is_switched_while_erasers_are_attached(tiny_llava_path: Path, tmp_path: Path) -> None:
    base = load_model(str(tiny_llava_path), device="cpu")
    get_peft_model(base.hf, LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)).save_pretrained(
        tmp_path
    )
    model = load_model(str(tiny_llava_path), device="cpu", adapter=str(tmp_path))
    on = model.fingerprint()
    with attach(model, make_plan(model, TAIL, threshold=ALWAYS)), torch.no_grad():
        model.next_token_logits([TOLD])
        model.hf.disable_adapters()
        with pytest.raises(AttachError, match="adapter"):
            model.next_token_logits([TOLD])
    assert model.fingerprint() != on
    with attach(model, make_plan(model, TAIL, threshold=ALWAYS)), torch.no_grad():
        model.hf.enable_adapters()
        with pytest.raises(AttachError, match="adapter"):
            model.next_token_logits([TOLD])
    assert model.fingerprint() == on
