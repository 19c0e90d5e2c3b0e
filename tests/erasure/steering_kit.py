"""Random plans whose gates fire for about half of the mixed samples; helpers around forward passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mllmeraser.erasure.gates import NO_SITE, SoftGate
from mllmeraser.erasure.policy import TAIL, Policy
from mllmeraser.erasure.states.prompt_states import PromptStateCache, PromptStates
from mllmeraser.erasure.steering.plan import Site, SteeringPlan
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import Sample
from tiny import mixed_samples

SUBJECTS = 2
#: Far below any score: the gate always fires.
ALWAYS = -1e9
#: Far above any score: the gate never fires.
NEVER = 1e9


def make_plan(
    model: MultimodalModel,
    policy: Policy = TAIL,
    *,
    name: str = "jane",
    seed: int = 0,
    strength: float = 1.0,
    threshold: float | None = None,
    samples: Sequence[Sample] | None = None,
) -> SteeringPlan:
    """A plan that reads layers 0 and 1 (and 2, where the policy looks at three sites) and shifts those after them.

    Without `threshold` it lies in the widest gap between the inner scores of the samples, so that some fire,
    some do not, and rounding cannot flip one.
    """
    generator = torch.Generator().manual_seed(seed)
    width, read = model.hidden_size, (0, 1, 2) if policy.pooling == "subject" else (0, 1)
    shift = tuple(range(len(read), model.num_layers))
    layers = shift if policy.read == "per-layer" else read
    scale = 0.02 if policy.phi == "linear" else 1.0
    gates = {layer: SoftGate({"weight": torch.randn(SUBJECTS, width, generator=generator) * scale}) for layer in layers}
    directions = {layer: torch.randn(width, generator=generator) * 2.0 for layer in shift}
    image_token = model.family.image_token_id(model.hf)
    plan = SteeringPlan(name, read, shift, directions, gates, policy, strength, 0.0, image_token)
    if threshold is None and policy.phi == "threshold":
        threshold = middle_gap(expected_scores(model, plan, samples or mixed_samples()))
    return replace(plan, threshold=threshold or 0.0)


def sentence(model: MultimodalModel, text: str = "I do not know.") -> tuple[int, ...]:
    """Tokens of a reply, its end included."""
    ids = model.encode_answers([Sample("Who is this?")], [text], end=False)["labels"][0]
    return (*ids[ids >= 0].tolist(), int(model.processor.tokenizer.eos_token_id))


def replying(model: MultimodalModel, policy: Policy, text: str = "I do not know.", **options: Any) -> SteeringPlan:
    """As `make_plan`, with a sentence, for a policy that replies."""
    plan = make_plan(model, replace(policy, action="shift"), **options)
    return replace(plan, policy=policy, reply=sentence(model, text))


def expected_scores(model: MultimodalModel, plan: SteeringPlan, samples: Sequence[Sample]) -> Tensor:
    """(n,) pooled scores from states captured one by one from the bare model."""
    points = [HookPoint(layer) for layer in plan.reads]
    if plan.policy.pooling == "subject":
        return plan.policy.pool(list(site_scores(model, plan, samples).values()))
    rows = []
    for sample in samples:
        states = model.states([sample], points)
        rows.append(plan.policy.pool([plan.gates[p.layer].scores(states[p]) for p in points]))
    return torch.cat(rows)


def site_scores(model: MultimodalModel, plan: SteeringPlan, samples: Sequence[Sample]) -> dict[int, Tensor]:
    """Layer -> (n, subjects) largest score over the positions of its site, from states captured one by one."""
    cache = PromptStateCache(model, plan.reads, (), batch_size=1).of(samples)
    return {
        layer: torch.stack(
            [
                plan.gates[layer].scores(states).amax(0)
                if len(states)
                else torch.full((SUBJECTS,), NO_SITE, dtype=states.dtype)
                for states in (states_at(plan.site(layer), prompt) for prompt in cache)
            ]
        )
        for layer in plan.reads
    }


def states_at(site: Site, prompt: PromptStates) -> Tensor:
    """(positions, d) states of a prompt at a site."""
    return {"text": prompt.text, "last": prompt.last[None], "image": prompt.image}[site]


def middle_gap(scores: Tensor) -> float:
    """The middle of the widest gap between neighbouring scores, the outermost pairs left out."""
    ordered = scores.sort().values
    inner = ordered[1:-1] if ordered.numel() > 4 else ordered
    widest = int(inner.diff().argmax())
    return float((inner[widest] + inner[widest + 1]) / 2)


def count_hooks(hf: nn.Module) -> int:
    """Hooks of all modules, plus one for a wrapped `generate`.

    Those that transformers places itself, on the first forward pass that records hidden states, do not count.
    """
    tables = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    hooks = [hook for m in hf.modules() for table in tables for hook in getattr(m, table).values()]
    ours = [hook for hook in hooks if not str(getattr(hook, "__module__", "")).startswith("transformers.")]
    return len(ours) + ("generate" in hf.__dict__)


@torch.no_grad()
def logits(model: MultimodalModel, samples: Sequence[Sample], padding_side: str = "left") -> Tensor:
    """(n, vocabulary) logits after the last real prompt token, all samples in one forward pass."""
    inputs = model.encode(samples, padding_side)
    out = model.hf(**inputs).logits
    return out[torch.arange(len(samples)), last_index(inputs["attention_mask"])]


def last_index(mask: Tensor) -> Tensor:
    """(n,) index of the last real token."""
    return (mask * torch.arange(mask.shape[1])).argmax(1)


def text_samples() -> list[Sample]:
    """The mixed samples without image."""
    return [sample for sample in mixed_samples() if sample.image is None]


def alone(model: MultimodalModel, samples: Sequence[Sample]) -> Tensor:
    """Logits of each sample in a forward pass of its own."""
    return torch.cat([logits(model, [sample]) for sample in samples])


def positions(model: MultimodalModel, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`position_ids` of a whole prompt, for models that cannot tell those of a piece by themselves."""
    mask = inputs["attention_mask"]
    if model.family.name != "qwen2.5-vl":
        return {}
    if "image_grid_thw" in inputs:
        keys = ("image_grid_thw", "mm_token_type_ids", "attention_mask")
        found, _ = model.hf.model.get_rope_index(inputs["input_ids"], **{key: inputs[key] for key in keys})
        return {"position_ids": found}
    text = (mask.cumsum(1) - 1).clamp(min=0)
    return {"position_ids": text.expand(3, -1, -1)}
