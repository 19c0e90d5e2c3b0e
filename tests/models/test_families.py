from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLProcessor

from mllmeraser.models import MultimodalModel, families, load_model
from mllmeraser.models.families import Family, family_for, register
from mllmeraser.models.families.llava import Llava
from mllmeraser.samples import InputError, Sample, UnknownFamilyError
from tiny import LLAVA_LAYERS, QWEN_LAYERS, WIDTH, build_llava, encode, mixed_samples, picture


def rendered(model: MultimodalModel, samples: list[Sample]) -> list[str]:
    return [model.family.render(model.processor, one.prompt, one.image is not None) for one in samples]


def test_decoder_is_the_language_model(tiny_llava: MultimodalModel, tiny_qwen: MultimodalModel) -> None:
    for model, depth in ((tiny_llava, LLAVA_LAYERS), (tiny_qwen, QWEN_LAYERS)):
        assert model.layers is model.hf.model.language_model.layers
        assert model.num_layers == depth
        assert model.hidden_size == WIDTH


def test_decoder_is_found_where_the_vision_tower_is_as_deep(tmp_path: Path) -> None:
    model = load_model(str(build_llava(tmp_path, layers=3)), device="cpu")
    vision = model.hf.config.vision_config
    assert vision.num_hidden_layers == model.num_layers == 3
    assert model.layers is model.hf.model.language_model.layers


@pytest.mark.parametrize("field", ["num_hidden_layers", "hidden_size"])
def test_decoder_that_contradicts_its_configuration_is_refused(tiny_model: MultimodalModel, field: str) -> None:
    hf = copy.copy(tiny_model.hf)
    hf.config = copy.deepcopy(tiny_model.hf.config)
    setattr(hf.config.text_config, field, 7)
    with pytest.raises(InputError, match="states"):
        tiny_model.family.decoder_layers(hf)


def test_decoder_at_an_unknown_place_is_refused(tiny_model: MultimodalModel) -> None:
    empty = torch.nn.Module()
    empty.config = tiny_model.hf.config  # type: ignore[assignment]
    with pytest.raises(InputError, match="no decoder found"):
        tiny_model.family.decoder_layers(empty)


def test_unknown_type_names_families_and_candidates() -> None:
    config = LlamaConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2)
    with pytest.raises(UnknownFamilyError) as caught:
        family_for(config)
    message = str(caught.value)
    assert "'llama'" in message
    assert "llava" in message and "qwen2.5-vl" in message
    assert "layers (3)" in message
    assert "\n" not in message


def test_registered_family_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "_FAMILIES", dict(families._FAMILIES))

    class Other(Llava):
        name = "other"
        model_types = ("llama",)

    other: Family = register(Other())
    assert family_for(LlamaConfig()) is other
    names = [one.name for one in families.families()]
    assert "other" in names and names == sorted(set(names))


def test_image_token_stands_for_image_positions(tiny_model: MultimodalModel) -> None:
    sample = Sample("Who is this?", picture(1))
    ids = tiny_model.encode([sample])["input_ids"][0]
    token = tiny_model.family.image_token_id(tiny_model.hf)
    assert int((ids == token).sum()) == {"llava": 9, "qwen2.5-vl": 1}[tiny_model.family.name]


def test_llava_inputs_equal_the_processors_own(tiny_llava: MultimodalModel, samples: list[Sample]) -> None:
    texts, images = rendered(tiny_llava, samples), [one.image for one in samples if one.image is not None]
    for side in ("left", "right"):
        ours = encode(tiny_llava.family, tiny_llava.processor, texts, [one.image for one in samples], side)
        theirs = tiny_llava.processor(text=texts, images=images, padding=True, padding_side=side, return_tensors="pt")
        assert set(ours) == {"input_ids", "attention_mask", "pixel_values"}
        for key in ours:
            assert torch.equal(ours[key], theirs[key]), key


def test_qwen_inputs_equal_the_processors_own(
    tiny_qwen: MultimodalModel, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The real processor refuses to be built without a video processor; still pictures never touch it.
    monkeypatch.setattr(Qwen2_5_VLProcessor, "check_argument_for_proper_class", lambda *_: None)
    part = tiny_qwen.processor
    real = Qwen2_5_VLProcessor(part.image_processor, part.tokenizer, None, chat_template=part.chat_template)
    texts, images = rendered(tiny_qwen, samples), [one.image for one in samples if one.image is not None]
    message = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": samples[0].prompt}]}]
    assert real.apply_chat_template(message, add_generation_prompt=True, tokenize=False) == texts[0]
    for side in ("left", "right"):
        ours = encode(tiny_qwen.family, part, texts, [one.image for one in samples], side)
        theirs = real(text=texts, images=images, padding=True, padding_side=side, return_tensors="pt")
        wanted = {"input_ids", "attention_mask", "pixel_values", "image_grid_thw", "mm_token_type_ids"}
        assert set(ours) == wanted
        for key in ours:
            assert torch.equal(ours[key], torch.as_tensor(theirs[key])), key


def test_qwen_template_is_read_from_either_layout(tiny_qwen_path: Path, tmp_path: Path) -> None:
    for file in tiny_qwen_path.iterdir():
        if file.suffix != ".safetensors" and file.name != "chat_template.jinja":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    template = (tiny_qwen_path / "chat_template.jinja").read_text()
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    family = family_for(Qwen2_5_VLConfig())
    old, new = family.load_processor(str(tmp_path)), family.load_processor(str(tiny_qwen_path))
    for has_image in (False, True):
        assert family.render(old, "Who?", has_image) == family.render(new, "Who?", has_image) != ""


@pytest.mark.parametrize("has_image", [False, True])
def test_question_must_not_spell_the_placeholder(tiny_model: MultimodalModel, has_image: bool) -> None:
    token = tiny_model.family.image_token(tiny_model.processor)
    sample = Sample(f"Who is {token}?", picture(1) if has_image else None)
    with pytest.raises(InputError, match="placeholder"):
        tiny_model.encode([sample])


def test_encode_refuses_what_cannot_be_a_batch(tiny_model: MultimodalModel) -> None:
    with pytest.raises(InputError, match="empty"):
        tiny_model.encode([])
    with pytest.raises(InputError, match="padding_side"):
        tiny_model.encode([Sample("Hi")], "middle")


def test_template_that_writes_the_begin_token_gets_no_second_one(tiny_llava_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    family = Llava()
    processor = family.load_processor(str(tiny_llava_path))
    tokenizer: PreTrainedTokenizerFast = processor.tokenizer
    begin = tokenizer.convert_tokens_to_ids("<|user|>")
    tokenizer.bos_token = "<|user|>"
    tokenizer._tokenizer.post_processor = TemplateProcessing(single="<|user|> $A", special_tokens=[("<|user|>", begin)])
    text = family.render(processor, "Hi", False)
    ids = encode(family, processor, [text], [None])["input_ids"][0].tolist()
    assert ids.count(begin) == 1
    assert encode(family, processor, ["Hi"], [None])["input_ids"][0, 0] == begin


def test_mixed_samples_are_mixed() -> None:
    assert {one.modality for one in mixed_samples()} == {"image", "text"}
