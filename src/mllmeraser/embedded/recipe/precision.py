"""Which number format to train in."""

from __future__ import annotations

import torch


def bf16_is_fast() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; elsewhere it is far slower than float32."""
    return torch.cuda.is_available() or bool(torch.cpu._is_avx512_bf16_supported())
