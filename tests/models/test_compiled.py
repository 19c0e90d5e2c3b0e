"""Models that torch compiles, wholly or in parts: steered as the plain one, or refused, and never answered unsteered.

The backend `eager` traces as the others do and needs no compiler; one test takes `aot_eager`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from steering_kit import ALWAYS, make_plan
from torch import Tensor
from transformers import CompileConfig

from mllmeraser.erasure.policy import PERSISTENT
from mllmeraser.erasure.steering import attach
from mllmeraser.models import MultimodalModel, load_model
from mllmeraser.samples import AttachError
from tiny import build_llava, mixed_samples

pytestmark = pytest.mark.skipif(
    not hasattr(torch.compiler, "is_exporting"), reason="transformers cannot be traced with this torch, erasers or not"
)
BACKEND = "eager"
NEAR = 1e-4
Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def compiled_anew() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> MultimodalModel:
    return load_model(str(build_llava(tmp_path_factory.mktemp("compiled") / "llava", layers=3)), device="cpu")


@pytest.fixture
def model(original: MultimodalModel) -> MultimodalModel:
    """A copy, because a model compiled in place stays compiled."""
    return MultimodalModel(original.name, copy.deepcopy(original.hf), original.processor)


def inputs(model: MultimodalModel, pictures: bool = False) -> Any:
    """Two prompts: in text alone, which is traced much faster, or one of them with a picture."""
    samples = mixed_samples()
    return model.encode(samples[:2] if pictures else [samples[1], samples[3]])


@torch.no_grad()
def last(model: MultimodalModel, run: Run, pictures: bool = False) -> Tensor:
    found: Tensor = run(**inputs(model, pictures)).logits[:, -1]
    return found


def answers(model: MultimodalModel, run: Run, **more: Any) -> list[list[int]]:
    pad = model.processor.tokenizer.pad_token_id
    given = inputs(model)
    out = run(**given, max_new_tokens=3, do_sample=False, pad_token_id=pad, **more)
    found: list[list[int]] = out[:, given["input_ids"].shape[1] :].tolist()
    return found


@pytest.fixture(scope="module")
def plan(original: MultimodalModel) -> Any:
    """One that always shifts."""
    return make_plan(original, threshold=ALWAYS)


@pytest.fixture(scope="module")
def wanted(original: MultimodalModel, plan: Any) -> dict[str, Any]:
    """Answers of the plain model, bare and steered."""
    bare, said = last(original, original.hf), answers(original, original.hf.generate)
    with attach(original, plan):
        steered, told = last(original, original.hf), answers(original, original.hf.generate)
    assert (steered - bare).abs().max() > 1 and said != told
    return {"bare": bare, "steered": steered, "said": said, "told": told}


def is_steered(model: MultimodalModel, run: Run, wanted: dict[str, Any]) -> None:
    for _ in range(2):
        assert torch.allclose(last(model, run), wanted["steered"], atol=NEAR)


def whole(model: MultimodalModel) -> Run:
    """The caller calls a wrapper instead of the model."""
    run: Run = torch.compile(model.hf, backend=BACKEND)
    return run


def in_place(model: MultimodalModel) -> Run:
    model.hf.compile(backend=BACKEND)
    return model.hf


def forward(model: MultimodalModel) -> Run:
    model.hf.forward = torch.compile(model.hf.forward, backend=BACKEND)
    return model.hf


def decoder(model: MultimodalModel) -> Run:
    model.hf.model.language_model.compile(backend=BACKEND)
    return model.hf


def blocks(model: MultimodalModel) -> Run:
    for layer in model.layers:
        layer.compile(backend=BACKEND)
    return model.hf


def block_forwards(model: MultimodalModel) -> Run:
    for layer in model.layers:
        layer.forward = torch.compile(layer.forward, backend=BACKEND)
    return model.hf


WAYS = [whole, in_place, forward, decoder, blocks, block_forwards]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_compiled_after_attaching_it_is_steered_and_bare_again(
    model: MultimodalModel, way: Callable[[MultimodalModel], Run], plan: Any, wanted: dict[str, Any]
) -> None:
    with attach(model, plan) as handle:
        run = way(model)
        is_steered(model, run, wanted)
        assert handle.readings is not None and bool((handle.readings.amplitudes == 1).all())
    assert torch.allclose(last(model, run), wanted["bare"], atol=NEAR)


@pytest.mark.slow
@pytest.mark.parametrize("way", [whole, forward, decoder])
def test_compiled_and_run_before_attaching_it_gives_no_answer(
    model: MultimodalModel, way: Callable[[MultimodalModel], Run], plan: Any, wanted: dict[str, Any]
) -> None:
    run = way(model)
    assert torch.allclose(last(model, run), wanted["bare"], atol=NEAR)
    with attach(model, plan):
        for _ in range(2):
            with pytest.raises(AttachError, match="attach first, and compile after"):
                last(model, run)
    assert torch.allclose(last(model, run), wanted["bare"], atol=NEAR)


@pytest.mark.slow
@pytest.mark.parametrize("way", [blocks, block_forwards])
def test_blocks_compiled_and_run_before_attaching_are_steered(
    model: MultimodalModel, way: Callable[[MultimodalModel], Run], plan: Any, wanted: dict[str, Any]
) -> None:
    """The hooks are outside the compiled part."""
    run = way(model)
    assert torch.allclose(last(model, run), wanted["bare"], atol=NEAR)
    with attach(model, plan):
        is_steered(model, run, wanted)
        assert answers(model, model.hf.generate) == wanted["told"]
    assert torch.allclose(last(model, run), wanted["bare"], atol=NEAR)


def test_what_torch_compiled_as_a_whole_cannot_be_attached_to(model: MultimodalModel, plan: Any) -> None:
    with pytest.raises(AttachError, match="OptimizedModule"):
        attach(whole(model), plan)
    in_place(model)
    with pytest.raises(AttachError, match=r"model\.compile\(\)"):
        attach(model, plan)


@pytest.mark.slow
@pytest.mark.parametrize("way", [whole, in_place])
def test_generate_of_a_compiled_model(
    model: MultimodalModel, way: Callable[[MultimodalModel], Any], plan: Any, wanted: dict[str, Any]
) -> None:
    with attach(model, plan):
        assert answers(model, way(model).generate) == wanted["told"]
    assert answers(model, model.hf.generate) == wanted["said"]


@pytest.mark.slow
def test_compiled_with_one_eraser_then_another(model: MultimodalModel, plan: Any, wanted: dict[str, Any]) -> None:
    """The graph of the first must not answer for the second."""
    other = make_plan(model, seed=5, threshold=ALWAYS)
    with attach(model, other):
        expected = last(model, model.hf)
    run = whole(model)
    with attach(model, plan):
        is_steered(model, run, wanted)
    with attach(model, other):
        assert torch.allclose(last(model, run), expected, atol=NEAR)


@pytest.mark.slow
def test_rows_are_selected_in_a_compiled_model(model: MultimodalModel, plan: Any, wanted: dict[str, Any]) -> None:
    with attach(model, plan) as handle:
        run = whole(model)
        for rows in ([["jane"], []], [[], ["jane"]], [[], []]):
            handle.select(rows)
            chosen = torch.tensor([bool(row) for row in rows])[:, None]
            expected = torch.where(chosen, wanted["steered"], wanted["bare"])
            assert torch.allclose(last(model, run), expected, atol=NEAR)


@pytest.mark.slow
def test_with_a_picture_and_graphs_of_autograd(model: MultimodalModel, plan: Any) -> None:
    with attach(model, plan):
        expected = last(model, model.hf, pictures=True)
        said = last(model, torch.compile(model.hf, backend="aot_eager"), pictures=True)
    assert torch.allclose(said, expected, atol=NEAR)


@pytest.mark.slow
def test_prompts_of_other_lengths_in_a_compiled_model(model: MultimodalModel, plan: Any) -> None:
    """The second length makes torch compile for any length, with symbolic sizes."""
    samples = [sample for sample in mixed_samples() if sample.image is None]
    batches = [model.encode([sample]) for sample in samples[:2]] + [model.encode(samples)]
    assert len({batch["input_ids"].shape for batch in batches}) == len(batches) == 3
    with attach(model, plan), torch.no_grad():
        expected = [model.hf(**batch).logits for batch in batches]
        run = whole(model)
        for batch, wanted in zip(batches, expected, strict=True):
            assert torch.allclose(run(**batch).logits, wanted, atol=NEAR)


def graphs() -> int:
    """Graphs that were compiled since the last reset."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.mark.slow
def test_a_static_cache_compiles_nothing_while_erasers_are_attached(model: MultimodalModel) -> None:
    """A static cache makes `generate` compile the passes after the prompt: on a GPU, or on request."""
    settings = CompileConfig(backend=BACKEND, fullgraph=False, mode=None)
    settings._compile_all_devices = True
    more = {"cache_implementation": "static", "compile_config": settings}
    plan = make_plan(model, PERSISTENT, threshold=ALWAYS)
    assert plan.policy.decode, "an answer is steered after its first token too"
    said = answers(model, model.hf.generate)
    with attach(model, plan):
        told = answers(model, model.hf.generate)
        assert told != said
        torch._dynamo.utils.counters.clear()
        assert answers(model, model.hf.generate, **more) == told
        assert graphs() == 0
    assert answers(model, model.hf.generate, **more) == said
    assert graphs() > 0, "bare, it does compile"
    with attach(model, plan):
        assert answers(model, model.hf.generate, **more) == told
        model.hf.generation_config.cache_implementation = "static"
        assert answers(model, model.hf.generate, compile_config=settings) == told
