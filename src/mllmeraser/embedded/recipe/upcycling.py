"""Move the language model of a trained LLaVA to an architecture with shared key and value heads.

Ainslie et al. 2023 (GQA, arXiv 2305.13245, section 2.1) mean-pool the heads. That would blur the differences between
the five heads of a small model, so the shared head is fitted. Values and outputs get a truncated SVD of their products.
Keys get a complex rank-one fit for each pair of rotated dimensions; its factor moves to the query. Further training
does the rest.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

State = dict[str, torch.Tensor]
TEXT = "model.language_model."


@torch.no_grad()
def share_heads(state: Mapping[str, torch.Tensor], heads: int) -> State:
    """The language model's weights, with one key and value head instead of `heads`; biases are zero."""
    shared = {name: tensor.clone() for name, tensor in state.items() if name.startswith(TEXT)}
    for name in [name for name in shared if name.endswith(".q_proj.weight")]:
        block = name.removesuffix("q_proj.weight")
        q, k, v, o = (shared[f"{block}{part}_proj.weight"].double() for part in "qkvo")
        q, k = _share_keys(q, k, heads)
        v, o = _share_values(v, o, heads)
        for part, weight in zip("qkvo", (q, k, v, o), strict=True):
            shared[f"{block}{part}_proj.weight"] = weight.float().contiguous()
            if part != "o":
                shared[f"{block}{part}_proj.bias"] = torch.zeros(len(weight))
    return shared


def _share_values(v: torch.Tensor, o: torch.Tensor, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(heads * d, w), (w, heads * d) to (d, w), (w, heads * d) with the nearest products."""
    width = len(v) // heads
    products = torch.cat([out @ value for out, value in zip(o.split(width, dim=1), v.split(width), strict=True)])
    left, sizes, right = torch.linalg.svd(products, full_matrices=False)
    root = sizes[:width].sqrt()
    outputs = (left[:, :width] * root).reshape(heads, -1, width)
    return root[:, None] * right[:width], torch.cat(list(outputs), dim=1)


def _share_keys(q: torch.Tensor, k: torch.Tensor, heads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(heads * d, w), (heads * d, w) to (heads * d, w), (d, w). A rotated pair is one complex number."""
    width = len(k) // heads
    half = width // 2

    def pairs(weight: torch.Tensor) -> torch.Tensor:
        rows = weight.reshape(heads, 2, half, -1)
        return torch.complex(rows[:, 0], rows[:, 1]).transpose(0, 1)  # (half, heads, w)

    queries, keys = pairs(q), pairs(k)
    weight = queries.norm(dim=-1, keepdim=True).clamp(min=1e-9).to(keys.dtype)
    left, sizes, right = torch.linalg.svd(keys * weight, full_matrices=False)
    root = sizes[:, :1].sqrt().to(keys.dtype)
    factor = left[..., :1] * root[..., None] / weight  # (half, heads, 1): keys are about factor * common
    common = root * right[:, 0]
    turned = (factor.conj() * queries).transpose(0, 1)
    new_q = torch.stack([turned.real, turned.imag], dim=1).reshape(heads * width, -1)
    return new_q, torch.cat([common.real, common.imag])
