"""Bytes that a capture of states (width,) holds beyond the model and its forward passes.

States are reduced on the model's device as the blocks run. That takes less memory than a block itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from mllmeraser.erasure.states.moments import block_rows


def prompt_state_bytes(
    *, prompts: int, text_tokens: int, pictures: int, width: int, shifts: int, itemsize: int = 4
) -> int:
    """Return the size of a `PromptStateCache` (gate `subject`); see `read_batch` for the tensors.

    With a work folder these bytes are in mapped files, which the system may drop from memory.

    Args:
        prompts: Distinct prompts.
        text_tokens: Their tokens without image placeholders, chat format included.
        pictures: Their pictures.
        shifts: States at shifted layers: these layers times the prompts that the direction is made from.
        itemsize: Bytes of a number in the model's dtype.
    """
    states = itemsize * width * (text_tokens + prompts + shifts) + 4 * width * pictures
    return states + 4 * text_tokens + 8 * prompts


def moment_bytes(
    *, gated: Sequence[int], averaged: Sequence[int], kept: Sequence[int], width: int, read_layers: int, layers: int
) -> int:
    """Return the most that `gather_sums` holds (all other gates): a block of states or a sum per group and layer.

    Args:
        gated: States in each group that a gate is fitted on (retain, forget by subject).
        averaged: States in each group that is only averaged (strangers).
        kept: States in each group that is kept as it is, at read layers: calibration, check and held-out prompts.
        read_layers: Number of layers with a fitted gate.
        layers: Number of captured layers, with the read ones.
    """
    block = block_rows(width)

    def group(n: int, gram: bool) -> int:
        return 4 * width * min(n, block) + 8 * width + (8 * width**2 if gram and n >= min(width, block) else 0)

    at_reads = sum(group(n, True) for n in gated) + 4 * width * sum(kept)
    elsewhere = sum(group(n, False) for n in gated)
    everywhere = sum(group(n, False) for n in averaged)
    # one block at a time is sorted, widened to float64, multiplied and added
    folding = 16 * width * min(max([*gated, *averaged], default=0), block) + 24 * width**2
    return at_reads * read_layers + elsewhere * (layers - read_layers) + everywhere * layers + folding
