"""One process of several that share a tiny model (tensor parallelism); `test_tensor_parallel.py` starts them.

Usage: PYTHONPATH=tests:tests/erasure torchrun --nproc-per-node 2 spread.py OUT CHECKPOINT...
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from steering_kit import ALWAYS, count_hooks, logits, make_plan

from mllmeraser.erasure import Eraser
from mllmeraser.erasure.policy import PERSISTENT
from mllmeraser.erasure.steering import attach, attach_all
from mllmeraser.erasure.steering import tensor_parallel as agreement
from mllmeraser.models import MultimodalModel, load_model
from mllmeraser.models.capture import hidden_of
from mllmeraser.models.fingerprint import precision_of
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.samples import AttachError
from tiny import mixed_samples


def seen_by_hooks(model: MultimodalModel) -> list[Any]:
    """Type and shape of the output at a hook after the first block."""
    seen: list[Any] = []
    hook = model.layers[0].register_forward_hook(
        lambda _module, _args, output: seen.append([type(hidden_of(output)).__name__, list(hidden_of(output).shape)])
    )
    logits(model, mixed_samples())
    hook.remove()
    return seen[0]


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one - other).abs().max().item()


def compare(path: str) -> dict[str, Any]:
    """The model whole, and spread over the processes."""
    whole, model, samples = load_model(path, device="cpu"), load_model(path, tp_plan="auto"), mixed_samples()
    bare, plan, points = logits(model, samples), make_plan(whole), [HookPoint(0), HookPoint(2)]
    said: dict[str, Any] = {"hooks": seen_by_hooks(model), "share": [own(model), own(whole)]}
    said["bare"] = apart(bare, logits(whole, samples))
    wanted_states, states = (each.states(samples, points) for each in (whole, model))
    said["states"] = max(apart(states[point], wanted_states[point]) for point in points)
    with attach(whole, plan) as handle:
        wanted, scores = logits(whole, samples), handle.readings.pooled
        answers = whole.generate_batch(samples, max_new_tokens=4)
    with attach(model, plan) as handle:
        steered = logits(model, samples)
        said["scores"], said["fired"] = apart(handle.readings.pooled, scores), handle.readings.amplitudes.tolist()
        said["answers"] = model.generate_batch(samples, max_new_tokens=4) == answers
    said["steered"], said["moved"] = apart(steered, wanted), apart(wanted, bare)
    said["bits"] = torch.equal(logits(model, samples), bare) and count_hooks(model.hf) == 0
    said["fingerprint"] = model.fingerprint() == whole.fingerprint()
    said["taken"] = takes(model, whole)
    said["digest"] = steered.double().sum().item().hex()
    return said


def refused(*steps: Callable[[], object]) -> bool:
    """Whether the processes noticed a difference between them in one of these steps."""
    with suppress(AttachError):
        for step in steps:
            step()
        return False
    return True


def misused(path: str) -> dict[str, bool]:
    """Results of a spread model with different steering; the last one leaves the processes out of step."""
    model, samples, mine = load_model(path, tp_plan="auto"), mixed_samples(), "ab"[dist.get_rank()]
    plans = {name: make_plan(model, name=name, seed=seed, strength=3.0) for seed, name in enumerate("ab", 2)}
    said = {"another eraser": refused(lambda: attach(model, plans[mine]))}
    shut = {k: replace(g, tensors={n: -t for n, t in g.tensors.items()}) for k, g in plans["a"].gates.items()}
    gates = {"a": plans["a"].gates, "b": shut}[mine]
    said["other gates"] = refused(lambda: attach(model, replace(plans["a"], gates=gates)))
    wider = replace(plans["a"].policy, decode=not plans["a"].policy.decode) if mine == "b" else plans["a"].policy
    said["another policy"] = refused(lambda: attach(model, replace(plans["a"], policy=wider)))
    with attach_all(model, plans) as handle:
        handle.select([["a"]] * len(samples))
        said["the same rows"] = not refused(lambda: logits(model, samples))
        handle.select([[mine]] * len(samples))
        said["other rows"] = refused(lambda: logits(model, samples))
    said["no trace"] = count_hooks(model.hf) == 0
    lasting = make_plan(model, PERSISTENT, threshold=ALWAYS)
    with attach(model, lasting) as handle, torch.no_grad():
        inputs = model.encode(samples)
        cache = model.hf(**inputs, use_cache=True).past_key_values
        mask = torch.nn.functional.pad(inputs["attention_mask"], (0, 1), value=1)
        handle.select([[lasting.name] if mine == "a" else []] * len(samples))
        step = {"input_ids": inputs["input_ids"][:, -1:], "attention_mask": mask, "past_key_values": cache}
        said["other rows while decoding"] = refused(lambda: model.hf(**step))
    agreement.PATIENCE = timedelta(seconds=4)
    said["one alone"] = mine == "b" or refused(lambda: attach(model, plans["a"]))
    return said


def own(model: MultimodalModel) -> int:
    """Weights in this process."""
    return sum(getattr(weight, "_local_tensor", weight).numel() for weight in model.hf.parameters())


def takes(model: MultimodalModel, whole: MultimodalModel) -> bool:
    """An eraser that was made on the whole model takes the spread one."""
    config = SimpleNamespace(
        base_model="whole", num_layers=whole.num_layers, hidden_size=whole.hidden_size,
        fingerprint=whole.fingerprint(), dtype=precision_of(whole.hf), prompt_hash=whole.prompt_hash(),
    )  # fmt: skip
    Eraser.check_model(SimpleNamespace(config=config), model)  # type: ignore[arg-type]
    return True


def main(out: str, *paths: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    said: dict[str, Any] = {Path(path).name: compare(path) for path in paths}
    said["misused"] = misused(paths[0])
    (Path(out) / f"{os.environ['RANK']}.json").write_text(json.dumps(said))
    os._exit(0)  # out of step by now: nobody waits for anybody


if __name__ == "__main__":
    main(*sys.argv[1:])
