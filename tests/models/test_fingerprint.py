from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from mllmeraser.models import MultimodalModel, load_model
from mllmeraser.models.fingerprint import _canonical, fingerprint, note_packed, taken_once
from mllmeraser.samples import InputError
from tiny import build_llava, mixed_samples


def test_survives_saving_and_loading(tiny_model: MultimodalModel, tmp_path: Path) -> None:
    tiny_model.hf.save_pretrained(tmp_path)
    tiny_model.processor.save_pretrained(tmp_path)
    again = load_model(str(tmp_path), device="cpu")
    assert again.fingerprint() == tiny_model.fingerprint()
    assert again.prompt_hash() == tiny_model.prompt_hash()
    assert fingerprint(again.hf) == tiny_model.fingerprint()


def test_ignores_a_forward(tiny_model: MultimodalModel) -> None:
    before = tiny_model.fingerprint()
    tiny_model.generate_batch(mixed_samples()[:2], max_new_tokens=2)
    assert tiny_model.fingerprint() == before


def scale_weights(hf: nn.Module) -> None:
    hf.model.language_model.layers[0].self_attn.q_proj.weight.data.mul_(1.001)


def nudge_one_sampled_value(hf: nn.Module) -> None:
    hf.model.language_model.norm.weight.data[0] += 1e-3


def swap_layers(hf: nn.Module) -> None:
    layers = hf.model.language_model.layers
    layers[0], layers[1] = layers[1], layers[0]


def change_theta(hf: nn.Module) -> None:
    hf.config.text_config.rope_parameters = {**hf.config.text_config.rope_parameters, "rope_theta": 5e5}


def halve(hf: nn.Module) -> None:
    hf.to(torch.bfloat16)


@pytest.mark.parametrize("change", [scale_weights, nudge_one_sampled_value, swap_layers, change_theta, halve])
def test_tells_other_models_apart(tiny_model: MultimodalModel, change: object) -> None:
    other = copy.deepcopy(tiny_model.hf)
    assert fingerprint(other) == tiny_model.fingerprint()
    change(other)  # type: ignore[operator]
    assert fingerprint(other) != tiny_model.fingerprint()


def test_other_seed_is_another_model(tiny_llava: MultimodalModel, tmp_path: Path) -> None:
    other = load_model(str(build_llava(tmp_path, seed=1)), device="cpu")
    assert other.fingerprint() != tiny_llava.fingerprint()
    assert other.prompt_hash() == tiny_llava.prompt_hash()


def test_prompt_format_counts(tiny_model: MultimodalModel) -> None:
    processor = copy.deepcopy(tiny_model.processor)
    processor.chat_template = processor.chat_template.replace("['text']", "['text'] + '!'")
    other = MultimodalModel("other", tiny_model.hf, processor)
    assert other.prompt_hash() != tiny_model.prompt_hash()


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (
            "language_model.model.layers.0.mlp.up_proj.weight",
            "model.language_model.layers.0.mlp.up_proj.weight",
        ),
        ("vision_tower.vision_model.encoder.layers.1.x", "model.vision_tower.encoder.layers.1.x"),
        ("visual.blocks.0.norm1.weight", "model.visual.blocks.0.norm1.weight"),
    ],
)
def test_names_of_wrappers_do_not_count(older: str, newer: str) -> None:
    assert _canonical(older) == _canonical(newer)


def test_weights_elsewhere_are_an_error(tiny_llava: MultimodalModel) -> None:
    with torch.device("meta"):
        empty = type(tiny_llava.hf)(tiny_llava.hf.config)
    with pytest.raises(InputError, match="not in memory"):
        fingerprint(empty)


def test_within_the_block_it_is_taken_once(tiny_llava: MultimodalModel, tiny_qwen: MultimodalModel) -> None:
    weight = next(tiny_llava.hf.parameters())
    before, was = fingerprint(tiny_llava.hf), weight.detach().clone()
    try:
        with taken_once():
            assert fingerprint(tiny_llava.hf) == before and fingerprint(tiny_qwen.hf) != before
            with torch.no_grad():
                weight.add_(1.0)
            assert fingerprint(tiny_llava.hf) == before, "whoever opens the block promises that nothing changes"
        assert fingerprint(tiny_llava.hf) != before
    finally:
        with torch.no_grad():
            weight.copy_(was)


def test_packed_weights_count_as_they_were_loaded(tiny_llava: MultimodalModel) -> None:
    """Repacked weights keep the fingerprint; loading other weights changes it."""
    hf = copy.deepcopy(tiny_llava.hf)
    plain = fingerprint(hf)
    hf.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    hf.register_buffer("qweight", torch.arange(12, dtype=torch.int32))
    packed = fingerprint(hf)
    assert packed != plain
    note_packed(hf)
    hf.qweight += 1
    assert fingerprint(hf) == packed
    others = {**hf.state_dict(), "qweight": hf.qweight + 5}
    hf.load_state_dict(others)
    assert fingerprint(hf) != packed
