"""Results on the tiny model of a family: the contract, an eraser, a checkpoint; for tests and for the docs."""

from __future__ import annotations

import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from zoo import ZOO, build, write

from mllmeraser.erasure.gates.linear import LinearGate
from mllmeraser.erasure.policy import SUBJECT, TAIL
from mllmeraser.erasure.steering import attach
from mllmeraser.erasure.steering.plan import SteeringPlan
from mllmeraser.models import MultimodalModel, contract, load_model
from mllmeraser.models.weights import Placement, load_weights
from mllmeraser.samples import InputError, Sample
from tiny import picture

SAMPLES = (
    Sample("Who is this?", picture(1)),
    Sample("Hi"),
    Sample("What does this person do for a living, and where?", picture(2, (56, 28))),
    Sample("Where was Jonas Ferrick born, and when?"),
    Sample("Name?", picture(3, (20, 44))),
)


@cache
def model_of(name: str) -> MultimodalModel:
    """The tiny model, shared: detach what you attach."""
    return build(name)


@cache
def outcome(name: str) -> dict[str, Any]:
    """A row of the table in docs/families.md: the results in words, "yes" if a promise holds."""
    model = model_of(name)
    found = {clause: result.detail or "yes" for clause, result in contract.run(model, SAMPLES).items()}
    return {
        "family": model.family.name,
        "model type": model.hf.config.model_type,
        "builds": "yes",
        **found,
        "fires once": fires_once(model) or "yes",
        "prompt hidden": prompt_hidden(model) or "yes",
        "processor": checkpoint(name),
        "pixel attacks": bounds(model),
        "quantised": quantised(name),
    }


def groups(model: MultimodalModel) -> list[list[Sample]]:
    """Batches this family takes: everything at once, or pictures apart."""
    if model.family.mixes:
        return [list(SAMPLES)]
    return [[one for one in SAMPLES if (one.image is None) == plain] for plain in (True, False)]


class CountingGate(LinearGate):
    """Counts how often any of them is read."""

    reads = 0

    def scores(self, states: Tensor) -> Tensor:
        CountingGate.reads += 1
        return super().scores(states)

    def to(self, *_: Any, **__: Any) -> CountingGate:
        return self


def make_plan(model: MultimodalModel, strength: float = 1.0) -> SteeringPlan:
    """Reads the first block and moves states behind the last that can be moved; its gate is always open."""
    generator = torch.Generator().manual_seed(0)
    first, *_, last = model.family.hook_layers(model.hf)
    gate = CountingGate({"weight": torch.randn(1, model.hidden_size, generator=generator)})
    direction = 5 * torch.randn(model.hidden_size, generator=generator)
    return SteeringPlan("jane", (first,), (last,), {last: direction}, {first: gate}, TAIL, strength, -1e9)


@torch.no_grad()
def decoded(model: MultimodalModel, samples: list[Sample]) -> Tensor:
    """(steps, rows, vocabulary) logits of an answer in one batch with a cache."""
    return contract.decoded(model, samples)[0]


def fires_once(model: MultimodalModel, *, alone: bool = True) -> str:
    """The fault of an eraser on batches of this family, or nothing; `alone` also compares with single rows."""
    for samples in groups(model):
        bare = decoded(model, samples)
        CountingGate.reads = 0
        with attach(model, make_plan(model)):
            steered, reads = decoded(model, samples), CountingGate.reads
            single = torch.cat([decoded(model, [sample]) for sample in samples], dim=1) if alone else steered
        with attach(model, make_plan(model, strength=0.0)):
            still = decoded(model, samples)
        if reads != 1:
            return f"the gate was read {reads} times in one answer"
        if not torch.equal(still, bare) or not torch.equal(decoded(model, samples), bare):
            return "an eraser of strength 0, or one that is gone, changed the answer"
        if (steered[0] - bare[0]).abs().max() < 0.1 * bare[0].abs().max():
            return "an eraser changed nothing"
        if (steered - single).abs().max() > contract.CLOSE * single.abs().max():
            return "a batch was steered otherwise than its rows alone"
    return ""


def prompt_hidden(model: MultimodalModel) -> str:
    """What an answer still sees of a prompt that fired beside its first and its last token, or nothing.

    Between the prompt and the answer the cache is spoilt at all other places: only who looks there notices.
    """
    for sample in (SAMPLES[0], SAMPLES[3]):
        if torch.equal(decoded(model, [sample]), _spoilt(model, sample)):
            return "the cache was not spoilt"
        with attach(model, _always(model)):
            clean, spoilt = decoded(model, [sample]), _spoilt(model, sample)
        if (clean - spoilt).abs().max() > contract.CLOSE * clean.abs().max():
            return "no: an answer sees the picture" if sample.image is not None else "no: an answer sees the prompt"
    return ""


def _always(model: MultimodalModel) -> SteeringPlan:
    """A plan with the default policy that fires on every prompt."""
    *reads, last = model.family.hook_layers(model.hf)[:4]
    gates = {layer: LinearGate({"weight": torch.zeros(1, model.hidden_size)}) for layer in reads}
    token = model.family.image_token_id(model.hf)
    shift = {last: torch.ones(model.hidden_size)}
    return SteeringPlan("jane", tuple(reads), (last,), shift, gates, SUBJECT, 1.0, -1e9, token)


def _spoilt(model: MultimodalModel, sample: Sample) -> Tensor:
    """Logits of an answer, with the cache overwritten before its second token."""
    length = model.encode([sample])["input_ids"].shape[1]
    spoilt: list[Any] = []

    def spoil(_module: Any, _args: Any, named: dict[str, Any]) -> None:
        cache = named.get("past_key_values")
        if not spoilt and cache is not None and cache.get_seq_length() == length:
            spoilt.append(cache)
            _overwrite(cache, length)

    with model.hf.register_forward_pre_hook(spoil, with_kwargs=True):
        logits = decoded(model, [sample])
    assert spoilt
    return logits


def _overwrite(cache: Any, length: int) -> None:
    """Overwrite the cache of a prompt except its first and its last token."""
    for layer in cache.layers:
        for name, held in vars(layer).items():
            if name in ("keys", "values") and hasattr(layer, "sliding_window"):
                first = int(held.shape[-2] == length)  # which a window may have left behind
                _spoil(held[..., first:-1, :])
            elif name in ("keys", "values"):  # of the prompt, or of the picture's features
                _spoil(held[..., 1:-1, :] if held.shape[-2] == length else held)
            elif isinstance(held, dict):  # recurrent and convolution states, by their number
                for state in held.values():
                    if isinstance(state, Tensor) and state.is_floating_point():
                        _spoil(state)


def _spoil(held: Tensor) -> None:
    held.copy_(held.flip(-1) - 1)


def checkpoint(name: str) -> str:
    """Whether a saved and loaded checkpoint gives the same prompts and answers, or the reason for no trial."""
    if ZOO[name].stands_in:
        return f"in part: {ZOO[name].stands_in}"
    with tempfile.TemporaryDirectory() as scratch:
        return loads_alike(name, Path(scratch)) or "yes"


def loads_alike(name: str, folder: Path) -> str:
    """The loss of a checkpoint in `folder` against the model, or nothing."""
    model = model_of(name)
    loaded = load_model(str(write(model, name, folder)), device="cpu")
    if loaded.family is not model.family or loaded.fingerprint() != model.fingerprint():
        return "another family or other weights were loaded"
    for samples in groups(model):
        here, there = model.encode(samples), loaded.encode(samples)
        if {key: one.shape for key, one in here.items()} != {key: one.shape for key, one in there.items()}:
            return "inputs have other shapes"
        if not torch.equal(here["input_ids"], there["input_ids"]):
            return "prompts have other tokens"
        if type(loaded.processor.image_processor) is not type(model.processor.image_processor):
            continue  # torchvision is installed, and resizes otherwise
        if not all(torch.equal(here[key], there[key]) for key in here):
            return "pictures are processed otherwise"
        if not torch.allclose(loaded.next_token_logits(samples), model.next_token_logits(samples), atol=1e-5):
            return "answers differ"
    return ""


def quantised(name: str) -> str:
    """Whether an eraser acts on blocks in 8 bit as on full ones; rows of a batch are rounded together there."""
    if find_spec("bitsandbytes") is None:
        return "not tried: bitsandbytes is not installed"
    full = model_of(name)
    with tempfile.TemporaryDirectory() as scratch:
        full.hf.save_pretrained(scratch)
        try:
            hf = load_weights(name, scratch, None, Placement(device="cpu", quantization="int8"))
        except InputError as error:
            return f"not loaded: {error}"
    model = MultimodalModel(f"{name} in int8", hf, full.processor, full.family)
    if not any(type(module).__name__ == "Linear8bitLt" for module in model.layers.modules()):
        return "not quantised"
    try:
        return fires_once(model, alone=False) or "yes"
    except RuntimeError as error:  # not ours: some towers pass on shapes that the 8-bit layers cannot take
        return f"no: bitsandbytes cannot run it ({type(error).__name__})"


def bounds(model: MultimodalModel) -> str:
    """Whether pixels of the processed picture have a range of their own."""
    try:
        model.family.pixel_bounds(model.processor, model.encode(SAMPLES[:1]))
    except InputError:
        return "refused"
    return "yes"
