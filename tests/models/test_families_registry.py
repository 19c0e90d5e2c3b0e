"""Finding an adapter: built in, registered, from another package, or an error that says what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import torch
from family_kit import make_plan
from steering_kit import count_hooks
from transformers import AutoConfig, GitConfig, LlamaConfig, LlavaConfig, T5Config
from zoo import DEPTH, build

from mllmeraser.api import list_families
from mllmeraser.erasure.steering import attach
from mllmeraser.models import HookPoint, MultimodalModel, families, load_model
from mllmeraser.models.families import OwnProcessor, candidates, family_for
from mllmeraser.models.families import plugins as outside
from mllmeraser.models.families.base import cat_padded
from mllmeraser.samples import InputError, Sample, UnknownFamilyError
from tiny import picture

TINY = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}


class Outsider(OwnProcessor):
    """A family of another package."""

    def __init__(self) -> None:
        super().__init__("outsider", ("llama",), decoder_paths=("model.layers",))


class Broken:
    def __init__(self) -> None:
        raise RuntimeError("no licence file\nand more")


def not_a_family() -> str:
    return "llama"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[metadata.EntryPoint]]:
    """Entry points of the group; fill it before a family is looked up."""
    found: list[metadata.EntryPoint] = []
    monkeypatch.setattr(outside.metadata, "entry_points", lambda group: found if group == outside.GROUP else [])
    outside.announced.cache_clear()
    yield found
    outside.announced.cache_clear()


def entry(name: str, value: str) -> metadata.EntryPoint:
    return metadata.EntryPoint(name, value, outside.GROUP)


HERE = "test_families_registry"


def test_another_package_brings_a_family(installed: list[metadata.EntryPoint]) -> None:
    installed.append(entry("outsider", f"{HERE}:Outsider"))
    assert family_for(LlamaConfig()).name == "outsider"
    assert "outsider" in [family.name for family in families.families()]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (f"{HERE}:Broken", "cannot be loaded: RuntimeError no licence file"),
        ("a_package_that_is_gone:Family", "cannot be loaded: ModuleNotFoundError"),
        (f"{HERE}:not_a_family", "is a str, not a Family"),
    ],
)
def test_a_broken_package_is_one_line(installed: list[metadata.EntryPoint], value: str, reason: str) -> None:
    installed += [entry("bad", value), entry("outsider", f"{HERE}:Outsider")]
    assert family_for(LlamaConfig()).name == "outsider", "it does not stand in the way of another"
    with pytest.warns(UserWarning, match=reason):
        assert "llava" in [family.name for family in families.families()]
    with pytest.raises(UnknownFamilyError) as caught:
        family_for(AutoConfig.for_model("opt"))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_package_is_not_imported_for_a_known_family(installed: list[metadata.EntryPoint]) -> None:
    installed.append(entry("bad", f"{HERE}:Broken"))
    assert family_for(LlavaConfig()).name == "llava"
    assert outside.announced.cache_info().currsize == 0


def test_an_unknown_family_is_told_what_to_write() -> None:
    with pytest.raises(UnknownFamilyError) as caught:
        family_for(LlamaConfig(**TINY))
    message = str(caught.value)
    assert "candidate module lists: layers (3)" in message
    assert "register(OwnProcessor('llama', ('llama',), decoder_paths=('layers',)))" in message
    assert "idefics3" in message and "\n" not in message


def test_that_line_works(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("internvl").hf
    monkeypatch.setattr(families, "_FAMILIES", {})
    with pytest.raises(UnknownFamilyError, match=r"\('model.language_model.layers',\)") as caught:
        family_for(model.config, model)
    line = str(caught.value).split("an adapter is a line: ")[1].split(", see docs")[0]
    made = eval(line, {"register": families.register, "OwnProcessor": OwnProcessor})
    assert family_for(model.config) is made
    assert made.decoder_layers(model) is model.model.language_model.layers


def test_the_candidate_proposed_is_not_the_tower() -> None:
    """Both are three blocks deep."""
    model = build("llava").hf
    found = candidates(model)
    assert sorted(length for _, length in found) == [DEPTH, DEPTH]
    assert families._likeliest(found, model.config.text_config) == "model.language_model.layers"
    assert families._likeliest([], model.config.text_config) == "path.to.layers"


@pytest.mark.parametrize(
    ("config", "reason"),
    [(GitConfig(), "padding on the left"), (T5Config(), "through an encoder")],
)
def test_what_cannot_work_is_refused(config: object, reason: str) -> None:
    with pytest.raises(UnknownFamilyError, match=reason):
        family_for(config)


def test_the_tower_decides_where_the_type_does_not() -> None:
    assert family_for(LlavaConfig(vision_config={"model_type": "pixtral"})).name == "pixtral"
    assert family_for(LlavaConfig(vision_config={"model_type": "siglip_vision_model"})).name == "llava"


@pytest.fixture(scope="module")
def mllama() -> MultimodalModel:
    return build("mllama")


def test_blocks_that_text_never_enters_are_no_hook_points(mllama: MultimodalModel) -> None:
    assert [point.layer for point in mllama.hookpoints()] == [0, 2, 3, 4]
    with pytest.raises(InputError, match="block 1 of this mllama model does not run for every prompt"):
        mllama.hookpoints([0, 1])
    with pytest.raises(InputError, match="use one of 0, 2, 3, 4"):
        mllama.states([Sample("Hi")], [HookPoint(1)])


def test_an_eraser_is_not_attached_to_such_a_block(mllama: MultimodalModel) -> None:
    plan = make_plan(mllama)
    object.__setattr__(plan, "shift_layers", (1,))
    object.__setattr__(plan, "directions", {1: plan.directions[4]})
    with pytest.raises(InputError, match="block 1"):
        attach(mllama, plan)
    assert count_hooks(mllama.hf) == 0


def test_mllama_takes_pictures_apart_and_one_by_one(mllama: MultimodalModel) -> None:
    with pytest.raises(InputError, match="send them apart"):
        mllama.encode([Sample("Who?", picture(1)), Sample("Hi")])
    family, one = mllama.family, mllama.prompts.pixels(picture(1))
    with pytest.raises(InputError, match="one picture per prompt"):
        family.expand_all(mllama.processor, "<|image|><|image|>Who?", [one, one])
    answers = mllama.generate([Sample("Who?", picture(1)), Sample("Hi")], max_new_tokens=3)
    assert len(answers) == 2, "what plans its batches itself may mix them in a list"


def test_mllama_shows_a_picture_from_its_placeholder_on(mllama: MultimodalModel) -> None:
    pair = [Sample("Who is this person?", picture(1, (16, 16))), Sample("Who?", picture(2, (32, 16)))]
    for side in ("left", "right"):
        batch = mllama.encode(pair, side)
        mask, token = batch["cross_attention_mask"], mllama.family.image_token_id(mllama.hf)
        for row, tiles in enumerate((1, 2)):
            place = int((batch["input_ids"][row] == token).nonzero()[0])
            assert not mask[row, :place].any()
            assert mask[row, place:, 0, :tiles].all() and not mask[row, :, 0, tiles:].any()


def test_smaller_pictures_are_filled_up_with_zeros() -> None:
    small, large = torch.ones(1, 2, 3), torch.full((2, 3, 2), 2.0)
    joined = cat_padded([small, large])
    assert joined.shape == (3, 3, 3)
    assert torch.equal(joined[0, :2], small[0]) and torch.equal(joined[1:, :, :2], large)
    assert joined.sum() == small.sum() + large.sum()


def test_refused_types_are_refused_before_weights_are_read(tmp_path: Path) -> None:
    GitConfig().save_pretrained(tmp_path)
    with pytest.raises(UnknownFamilyError, match="cannot be steered"):
        load_model(str(tmp_path), device="cpu")


def test_only_the_families_of_shipped_models_say_so() -> None:
    shipped = {one["family"]: one["embedded"] for one in list_families() if one["embedded"]}
    assert shipped == {"llava": ["embedded:llava", "embedded:smol"], "qwen2.5-vl": ["embedded:qwen2.5-vl"]}
