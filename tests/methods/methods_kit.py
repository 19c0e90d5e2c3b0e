"""Requests, snapshots and quick settings for the tests of the methods."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import Request, Sample
from tiny import picture

SENTENCE = "I do not know this person."


def request(forget: int = 3, retain: int = 5, pictures: bool = True) -> Request:
    """`forget` samples about two named people, `retain` about others, all with answers, half of them pictured."""

    def sample(number: int, who: str, name: str) -> Sample:
        image = picture(number) if pictures and number % 3 != 1 else None
        question = "Who is this?" if image is not None else f"Where does {name} live?"
        return Sample(question, image, answer=f"{name} lives in Tolm", subject=who, id=f"{who}/{number}")

    people = [("p1", "Mara Velden"), ("p2", "Jonas Ferrick")]
    asked = [sample(i, *people[i % 2]) for i in range(forget)]
    kept = [sample(100 + i, f"r{i}", f"Person {i}") for i in range(retain)]
    strangers = [Sample("Who is this?", picture(500 + i), id=f"s{i}") for i in range(2)]
    return Request.from_samples(asked, kept, strangers, names={key: [name] for key, name in people})


def quick(**changes: Any) -> dict[str, Any]:
    """Settings of a training of a few seconds that moves something."""
    return {"learning_rate": 1e-2, "batch_size": 2, "epochs": 1, **changes}


def snapshot(model: MultimodalModel) -> dict[str, Any]:
    """Everything that has to be as before after a training or a detach."""
    hf = model.hf
    # transformers places hooks of its own (to collect hidden states of the tower) at the first forward pass.
    model.generate_batch([Sample("Who is this?", picture(0))], max_new_tokens=1)
    return {
        "state": {name: tensor.clone() for name, tensor in hf.state_dict().items()},
        "storage": {name: one.data_ptr() for name, one in hf.named_parameters()},
        "modules": [(name, id(one), one.training) for name, one in hf.named_modules()],
        "grads": [(one.requires_grad, one.grad is None) for one in hf.parameters()],
        "hooks": sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in hf.modules()),
        "attributes": sorted(vars(hf)) + sorted(vars(model)) + sorted(vars(model.prompts)),
    }


def assert_same(model: MultimodalModel, before: dict[str, Any]) -> None:
    """The model is bit for bit, module for module, what it was at `snapshot`."""
    now = snapshot(model)
    assert now["state"].keys() == before["state"].keys()
    assert all(torch.equal(now["state"][name], before["state"][name]) for name in before["state"])
    for key in before.keys() - {"state"}:
        assert now[key] == before[key], key


def logits(model: MultimodalModel) -> Tensor:
    """First-answer-token logits on prompts with and without picture."""
    asked = request()
    return model.next_token_logits([*asked.forget, *asked.retain])
