"""Check that steering works on a model: attach, act, detach, and leave no trace. `models check` and tests run it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mllmeraser.erasure.fit.size import artifact_bytes
from mllmeraser.erasure.gates import SoftGate
from mllmeraser.erasure.policy import TAIL
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.steering import SteeringPlan, attach_all
from mllmeraser.models.fingerprint import precision_of
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import MLLMEraserError
from mllmeraser.samples.sample import Sample

PROBES = (Sample("Who is this?"), Sample("What is the capital of the country next to this one?"))


def check_hooks(model: MultimodalModel) -> dict[str, Any]:
    """Facts about a loaded model, and the result of every test; ``ok`` if all passed."""
    tests: dict[str, Callable[[MultimodalModel], str]] = {
        "strength 0 changes nothing": partial(_compares, changed=False, strength=0.0),
        "an open gate changes the answer": partial(_compares, changed=True),
        "a closed gate changes nothing": partial(_compares, changed=False, threshold=1e9),
        "the captured state is the edited one": _edits_what_it_reads,
        "detaching leaves no trace": _no_trace,
    }
    results = [_run(name, test, model) for name, test in tests.items()]
    width, depth = model.hidden_size, model.num_layers
    vocabulary = len(model.processor.tokenizer)
    size, more = artifact_bytes(FitSettings.preset("default"), width, depth, vocabulary=vocabulary)
    return {
        "model": model.name,
        "family": model.family.name,
        "precision": precision_of(model.hf),
        "layers": depth,
        "width": width,
        "hook_points": f"residual stream after blocks 0 to {depth - 1}",
        "fingerprint": model.fingerprint(),
        "weights_bytes": sum(weight.nbytes for weight in model.hf.parameters()),
        "artifact_bytes": size,
        "artifact_bytes_more": more,
        "dense_bytes": 4 * width * width * depth,
        "tests": results,
        "ok": all(result["ok"] for result in results),
    }


def _run(name: str, test: Callable[[MultimodalModel], str], model: MultimodalModel) -> dict[str, Any]:
    try:
        detail = test(model)
    except MLLMEraserError as error:
        detail = str(error)
    return {"name": name, "ok": not detail, "detail": detail}


def _plan(model: MultimodalModel, *, strength: float = 1.0, threshold: float = -1e9) -> SteeringPlan:
    """A plan that reads the first block and shifts after the last. Its gate is open unless the threshold is high."""
    generator = torch.Generator().manual_seed(0)
    direction = 10 * torch.randn(model.hidden_size, generator=generator)
    gate = SoftGate({"weight": torch.randn(1, model.hidden_size, generator=generator)})
    last = model.num_layers - 1
    return SteeringPlan("self-test", (0,), (last,), {last: direction}, {0: gate}, TAIL, strength, threshold)


def _logits(model: MultimodalModel, plan: SteeringPlan | None = None) -> Tensor:
    if plan is None:
        return model.next_token_logits(PROBES)
    with attach_all(model, [plan]):
        return model.next_token_logits(PROBES)


def _compares(model: MultimodalModel, *, changed: bool, **plan: float) -> str:
    """Check whether an attached plan changes the logits."""
    same = torch.equal(_logits(model), _logits(model, _plan(model, **plan)))
    return "" if same != changed else "logits are the same" if same else "logits differ"


def _edits_what_it_reads(model: MultimodalModel) -> str:
    plan, point = _plan(model), HookPoint(model.num_layers - 1)
    before = model.states(PROBES, [point])[point]
    with attach_all(model, [plan]):
        after = model.states(PROBES, [point])[point]
    wanted = plan.directions[point.layer]
    error = float(((after - before) - wanted).abs().max() / wanted.abs().max())
    return "" if error < 0.02 else f"the state moved by something else than the direction (relative error {error:.3f})"


def _no_trace(model: MultimodalModel) -> str:
    before, hooks = _logits(model), _hooks(model.hf)
    with attach_all(model, [_plan(model)]):
        pass
    left = _hooks(model.hf) - hooks
    if left:
        return f"{left} hooks are left"
    return "" if torch.equal(before, _logits(model)) else "logits differ after detaching"


def _hooks(hf: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in hf.modules())
