"""The promises of a family, which make the state that a fit reads the state that an eraser moves.

The tests check them on a tiny random model of every family, and `models check` on a real checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mllmeraser.models.capture import hidden_of, last_states, with_hidden
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import MLLMEraserError
from mllmeraser.samples.sample import Sample

CLOSE = 1e-3
"""Largest relative difference between two computations of the same state; padding changes the order of sums."""
ROUGH = {torch.float16: 0.02, torch.bfloat16: 0.05}
"""The same in half precision: states have three and two digits, so an error of one padding token may be hidden."""
QUANTIZED = 0.05
"""The same for quantized weights; there the other rows of a batch change the scale of activations."""
STEPS = 4
"""Decoded tokens to compare."""


@dataclass(frozen=True)
class Clause:
    """One promise of a family.

    Attributes:
        name: Short name, a column of the table in the docs.
        check: Returns the fault of a model on some samples, or an empty text.
    """

    name: str
    check: Callable[[MultimodalModel, Sequence[Sample]], str]


class Result(NamedTuple):
    """Whether a clause holds on a model: kept, or the family refuses such inputs. `detail` is empty if it is kept."""

    holds: bool
    detail: str = ""


class _Refused(Exception):
    """The family refuses such inputs, as it declares."""


def run(model: MultimodalModel, samples: Sequence[Sample]) -> dict[str, Result]:
    """The result of each clause on a model with nothing attached.

    `samples` are prompts of different lengths, at least two with a picture and two without.
    """
    return {clause.name: _run(clause, model, samples) for clause in CLAUSES}


def close_on(model: MultimodalModel) -> float:
    """Largest relative difference between two computations of the same state on a model."""
    return QUANTIZED if getattr(model.hf, "is_quantized", False) else ROUGH.get(model.dtype, CLOSE)


@torch.no_grad()
def _run(clause: Clause, model: MultimodalModel, samples: Sequence[Sample]) -> Result:
    try:
        fault = clause.check(model, samples)
        return Result(not fault, fault)
    except _Refused as refused:
        return Result(True, f"refused: {refused}")
    except (MLLMEraserError, RuntimeError, ValueError, TypeError, KeyError, IndexError) as error:
        return Result(False, f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}")


# -- reading ---------------------------------------------------------------------------------------------


def states(model: MultimodalModel, samples: Sequence[Sample], side: str = "right") -> dict[HookPoint, Tensor]:
    """States (samples, width) at the last prompt token at every hook point, in one batch."""
    points = model.hookpoints()
    return dict(
        zip(points, last_states(model.hf, model.layers, model.encode(samples, side), points).unbind(1), strict=True)
    )


def _groups(samples: Sequence[Sample]) -> list[list[Sample]]:
    """The samples without a picture, and those with one."""
    return [[sample for sample in samples if (sample.image is None) == plain] for plain in (True, False)]


def _alone(model: MultimodalModel, samples: Sequence[Sample]) -> dict[HookPoint, Tensor]:
    each = [states(model, [sample]) for sample in samples]
    return {point: torch.cat([one[point] for one in each]) for point in each[0]}


def _differs(model: MultimodalModel, actual: Mapping[HookPoint, Tensor], wanted: Mapping[HookPoint, Tensor]) -> str:
    if not wanted or set(actual) != set(wanted):
        return "some blocks did not run"
    for point, states in wanted.items():
        error = float((actual[point] - states).abs().max() / states.abs().max().clamp(min=1e-9))
        if not error < close_on(model):
            return f"states after block {point.layer} differ by {error:.1e} of the largest"
    return ""


# -- clauses ---------------------------------------------------------------------------------------------


def _decoder(model: MultimodalModel, samples: Sequence[Sample]) -> str:
    """Every hooked block runs once for a prompt of text alone, and returns (batch, length, width)."""
    prompt = model.encode([sample for sample in samples if sample.image is None][:1])
    shape = (*prompt["input_ids"].shape, model.hidden_size)
    seen: dict[int, list[tuple[int, ...]]] = {point.layer: [] for point in model.hookpoints()}

    def note(layer: int) -> Callable[..., None]:
        return lambda _module, _args, output: seen[layer].append(tuple(hidden_of(output).shape))

    handles = [model.layers[layer].register_forward_hook(note(layer)) for layer in seen]
    try:
        model.hf(**prompt, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    wrong = [f"block {layer} gave {shapes}" for layer, shapes in seen.items() if shapes != [shape]]
    return "; ".join(wrong)


def _image_tokens(model: MultimodalModel, samples: Sequence[Sample]) -> str:
    """A prompt has image positions for its picture, and none without a picture."""
    token = model.family.image_token_id(model.hf)
    for sample in samples:
        count = int((model.encode([sample])["input_ids"] == token).sum())
        wanted = 0
        if sample.image is not None:
            wanted = model.family.placeholders(model.processor, model.prompts.pixels(sample.image))
        if count != wanted or (sample.image is not None) != (count > 0):
            return f"a prompt has {count} image positions instead of {wanted}"
    return ""


def _hook(model: MultimodalModel, samples: Sequence[Sample]) -> str:
    """A state that an edit writes is the state that a capture reads and that the next block starts from."""
    row = [sample for sample in samples if sample.image is not None][:1]
    for point in model.hookpoints():
        before = states(model, row)
        shift = torch.full((model.hidden_size,), float(before[point].abs().max()), device=model.device)

        def edit(_module: Any, _args: Any, output: Any, shift: Tensor = shift) -> Any:
            return with_hidden(output, hidden_of(output) + shift.to(hidden_of(output)))

        with model.layers[point.layer].register_forward_hook(edit):
            after, moved = states(model, row), model.next_token_logits(row)
        if not torch.equal(after[point], before[point] + shift.to(before[point])):
            return f"the state read after block {point.layer} differs from the written one"
        if any(not torch.equal(after[one], before[one]) for one in before if one < point):
            return f"an edit after block {point.layer} changed an earlier block"
        unmoved = any(torch.equal(after[one], before[one]) for one in before if one > point)
        if unmoved or torch.equal(moved, model.next_token_logits(row)):
            return f"an edit after block {point.layer} changed nothing behind it"
    return _differs(model, states(model, row), before)


def _padding(side: str) -> Callable[[MultimodalModel, Sequence[Sample]], str]:
    def check(model: MultimodalModel, samples: Sequence[Sample]) -> str:
        """Padded rows, with and without pictures, have the states of single prompts."""
        faults = (_differs(model, states(model, rows, side), _alone(model, rows)) for rows in _groups(samples))
        return next(filter(None, faults), "")

    return check


def _mixed(model: MultimodalModel, samples: Sequence[Sample]) -> str:
    """Rows with and without a picture share a batch, or the family declares that they cannot."""
    if not model.family.mixes:
        try:
            model.encode(samples)
        except MLLMEraserError:
            raise _Refused("send prompts with and without a picture apart") from None
        return "accepted, although the family declares that rows cannot be mixed"
    alone = _alone(model, samples)
    left, right = (_differs(model, states(model, samples, side), alone) for side in ("left", "right"))
    return left or right


def _cached(model: MultimodalModel, samples: Sequence[Sample]) -> str:
    """Greedy decoding of padded batches with a cache has the logits of the same tokens in one pass without a cache."""
    for rows in _groups(samples):
        logits, tokens = decoded(model, rows)
        for number, sample in enumerate(rows):
            whole = _whole(model, sample, tokens[number].tolist())
            error = float((logits[:, number] - whole).abs().max() / whole.abs().max())
            if not error < close_on(model):
                return f"decoded logits differ by {error:.1e} of the largest"
    return ""


@torch.no_grad()
def decoded(model: MultimodalModel, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """(steps, rows, vocabulary) logits and (rows, steps) tokens of greedy decoding in one batch, without a stop."""
    output = model.hf.generate(
        **model.encode(samples, "left"),
        max_new_tokens=STEPS,
        min_new_tokens=STEPS,
        do_sample=False,
        suppress_tokens=[model.family.image_token_id(model.hf)],  # an image token would announce a picture
        output_logits=True,
        return_dict_in_generate=True,
        pad_token_id=model.processor.tokenizer.pad_token_id,
    )
    return torch.stack(output.logits).float(), output.sequences[:, -STEPS:]


def _whole(model: MultimodalModel, sample: Sample, tokens: Sequence[int]) -> Tensor:
    """(steps, vocabulary) logits of the `tokens` of an answer, prompt and answer in one pass."""
    prompt = model.encode([sample])["input_ids"][0].tolist()
    picture = None if sample.image is None else model.prompts.pixels(sample.image)
    batch = model.family.collate(model.processor, [[*prompt, *tokens[:-1]]], [picture])
    answer = torch.arange(batch["input_ids"].shape[1])[None] >= len(prompt)
    batch.update(model.family.answer_inputs(batch, answer))
    logits: Tensor = model.hf(**model.place(batch), use_cache=False).logits
    return logits[0, len(prompt) - 1 :].float()


CLAUSES = (
    Clause("decoder", _decoder),
    Clause("image tokens", _image_tokens),
    Clause("hook exact", _hook),
    Clause("left padding", _padding("left")),
    Clause("right padding", _padding("right")),
    Clause("mixed batch", _mixed),
    Clause("cached decoding", _cached),
)
"""The clauses in the order of `run`."""
