"""Every family keeps the contract on a tiny random model: hooks, padding, caches, mixed batches, processors."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from family_kit import SAMPLES, loads_alike, model_of, outcome, prompt_hidden
from steering_kit import count_hooks
from transformers import ProcessorMixin
from zoo import DEPTH, WIDTH, ZOO, build

from mllmeraser.models import MultimodalModel, contract
from mllmeraser.models.capture import run_batch
from mllmeraser.models.families import families
from mllmeraser.models.families.assembled import still_processor
from mllmeraser.models.families.own_processor import EXPANSION
from mllmeraser.samples import InputError, Sample
from tiny import encode, picture

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "benchmarks" / "results" / "families.json"
REFUSED = {
    ("mllama", "mixed batch"): "refused: send prompts with and without a picture apart",
    ("mllama", "prompt hidden"): "no: an answer sees the picture",  # docs/limits.md
    ("qwen3.5", "prompt hidden"): "no: an answer sees the picture",
}

every_family = pytest.mark.parametrize("name", ZOO)
by_real_processor = pytest.mark.parametrize("name", [name for name, kind in ZOO.items() if not kind.stands_in])


def committed() -> dict[str, dict[str, str]]:
    return json.loads(COMMITTED.read_text(encoding="utf-8"))["families"]


@every_family
def test_the_contract_holds(name: str) -> None:
    """An eraser fires once per answer, in a batch as alone, hides its prompt, and detaches without a trace."""
    hooks = count_hooks(model_of(name).hf)
    found = outcome(name)
    for promise in (*(clause.name for clause in contract.CLAUSES), "fires once", "prompt hidden"):
        assert found[promise] == REFUSED.get((name, promise), "yes"), promise
    assert count_hooks(model_of(name).hf) == hooks


def test_a_window_shorter_than_the_prompt_hides_it_too() -> None:
    model = build("gemma3")
    text = model.family.text_config(model.hf)
    text.sliding_window = 8
    for layer in model.layers:
        layer.self_attn.sliding_window = 8
    assert model.encode(list(SAMPLES[:1]))["input_ids"].shape[1] > 8
    assert prompt_hidden(model) == ""


@every_family
def test_the_committed_table_says_what_was_found(name: str) -> None:
    assert list(committed()) == list(ZOO), "run python tools/family_table.py"
    here, there = ({key: one[key] for key in one if key != "quantised"} for one in (outcome(name), committed()[name]))
    assert here == there, "run python tools/family_table.py"


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@every_family
def test_erasers_act_on_quantised_blocks_where_the_table_says_so(name: str) -> None:
    assert outcome(name)["quantised"] == committed()[name]["quantised"], "run python tools/family_table.py"


def test_the_page_says_what_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import family_table
    from readme_tables import filled

    assert family_table.RECORD == COMMITTED
    text = family_table.PAGE.read_text(encoding="utf-8")
    assert filled(text, family_table.TABLES) == text, "run python tools/family_table.py"
    assert filled(text.replace("| refused |", "| yes |"), family_table.TABLES) == text
    assert {clause.name for clause in contract.CLAUSES} < set(family_table.HEAD)
    assert {family.name for family in families()} == {found["family"] for found in committed().values()}


@every_family
def test_the_decoder_is_not_the_tower(name: str) -> None:
    model = model_of(name)
    (path,) = [path for path, module in model.hf.named_modules() if module is model.layers]
    assert not any(part in path for part in ("vision", "visual", "tower", "image"))
    assert model.num_layers == len(model.layers) == DEPTH + (name == "mllama")
    assert model.hidden_size == WIDTH


WHOLE = {
    "qwen2-vl": "Qwen2VLProcessor",
    "qwen2.5-vl": "Qwen2_5_VLProcessor",
    "qwen3-vl": "Qwen3VLProcessor",
    "qwen3.5": "Qwen3VLProcessor",
    "glm-4v": "Glm4vProcessor",
}


def real_processor(model: MultimodalModel, name: str) -> Any:
    """The class of transformers around the same parts, for families that this package loads in parts."""
    part = model.processor
    if isinstance(part, ProcessorMixin):
        return part
    if model.family.name == "pixtral":
        pytest.importorskip("torchvision", reason="the module of PixtralProcessor imports it")
        return transformers.PixtralProcessor(
            part.image_processor, part.tokenizer, 4, part.spatial_merge_size, part.chat_template
        )
    return still_processor(WHOLE[model.family.name])(
        part.image_processor, part.tokenizer, None, chat_template=part.chat_template
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside those processors
@every_family
def test_inputs_equal_the_processors_own(name: str) -> None:
    model = model_of(name)
    real = real_processor(model, name)
    for sample in SAMPLES:
        if sample.image is None and name == "paligemma":
            continue  # its processor takes no text alone
        text = model.prompts.text(sample)
        if name == "paligemma":  # it writes the frame of the question itself
            text = text.replace("<bos>", "").removesuffix("\n")
        special = not text.startswith("<bos>")
        pictures = {} if sample.image is None else {"images": [sample.image]}
        theirs = real(text=[text], **pictures, add_special_tokens=special, return_tensors="pt")
        ours = encode(model.family, model.processor, [model.prompts.text(sample)], [sample.image])
        assert ours["input_ids"].tolist() == torch.as_tensor(theirs["input_ids"]).tolist()
        for key in set(ours) - {"attention_mask"} if sample.image is not None else ():
            wanted = torch.as_tensor(theirs[key])
            assert torch.equal(ours[key].to(wanted.dtype), wanted), key


@by_real_processor
def test_a_checkpoint_loads_and_answers_alike(name: str, tmp_path: Path) -> None:
    assert loads_alike(name, tmp_path) == ""


@every_family
def test_answers_do_not_change_their_prompt(name: str) -> None:
    """A prompt with its answer has the states of the prompt alone, also with bidirectional attention."""
    model = model_of(name)
    sample = SAMPLES[2]
    prompt = model.encode([sample], "right")
    long = model.encode_answers([sample], [" a baker and a tailor in Hesk"], padding_side="right")
    long.pop("labels")
    end = prompt["input_ids"].shape[1] - 1
    reducers = [(layer, lambda states: states[:, end]) for layer in range(model.num_layers)]
    before, after = (run_batch(model.hf, model.layers, inputs, reducers) for inputs in (prompt, long))
    for alone, answered in zip(before, after, strict=True):
        torch.testing.assert_close(answered, alone, rtol=1e-3, atol=1e-3)


@every_family
def test_a_question_must_not_spell_out_a_placeholder(name: str) -> None:
    model = model_of(name)
    ids = {model.family.image_token_id(model.hf)}
    ids.add(model.processor.tokenizer.convert_tokens_to_ids(model.family.image_token(model.processor)))
    for token in model.processor.tokenizer.convert_ids_to_tokens(sorted(ids)):
        for image in (None, picture(1)):
            with pytest.raises(InputError, match="placeholder"):
                model.encode([Sample(f"Who is {token}?", image)])


@every_family
def test_a_picture_is_processed_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(name)
    before = model.encode([SAMPLES[0]])
    monkeypatch.setattr(type(model.family), "pixels", lambda *_: pytest.fail("it is in the cache"))
    again = model.encode([Sample("Who is this?", picture(1))])
    assert all(torch.equal(before[key], again[key]) for key in before)
    assert EXPANSION not in before


ONE_VIEW = {"llava", "vipllava", "gemma3", "paligemma", "pixtral"}
ONE_VIEW |= {"qwen2-vl", "qwen2.5-vl", "qwen3-vl", "qwen3.5", "glm-4v"}


@every_family
def test_bounds_are_black_and_white_or_refused(name: str) -> None:
    model = model_of(name)
    black, white = (model.prompts.pixels(picture(1).point(lambda _: level)) for level in (0, 255))  # noqa: B023
    batch = model.family.join([black])
    if model.family.name not in ONE_VIEW:
        with pytest.raises(InputError, match="views"):
            model.family.pixel_bounds(model.processor, batch)
        return
    space = model.family.pixel_bounds(model.processor, batch)
    torch.testing.assert_close(space.lower.expand_as(batch["pixel_values"]), batch["pixel_values"])
    torch.testing.assert_close(space.upper.expand_as(batch["pixel_values"]), model.family.join([white])["pixel_values"])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside those processors
@every_family
def test_several_pictures_in_one_prompt(name: str) -> None:
    model, pair = model_of(name), [picture(1, (56, 28)), picture(3, (20, 44))]
    family, part = model.family, model.processor
    marker = family.image_token(part)
    text = f"<bos>Who is {marker} and who is {marker} here?"
    pixels = [model.prompts.pixels(image) for image in pair]
    if not family.several:
        with pytest.raises(InputError, match="takes one picture per prompt here, not 2"):
            family.expand_all(part, text, pixels)
        return
    real = real_processor(model, name)
    ids = part.tokenizer(family.expand_all(part, text, pixels), add_special_tokens=False)["input_ids"]
    ours = family.collate(part, [ids], pixels)
    if name == "paligemma":  # it would move the begin token behind the second picture
        assert int((ours["input_ids"] == family.image_token_id(model.hf)).sum()) == 2 * 16
        return
    theirs = real(text=[text], images=[pair], add_special_tokens=False, return_tensors="pt")
    assert ours["input_ids"].tolist() == torch.as_tensor(theirs["input_ids"]).tolist()
    with torch.no_grad():
        theirs = {key: torch.as_tensor(theirs[key]) for key in theirs if key in (*ours, "token_type_ids")}
        torch.testing.assert_close(model.hf(**ours).logits, model.hf(**theirs).logits, rtol=1e-3, atol=1e-3)
