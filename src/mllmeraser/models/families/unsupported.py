"""Model types that cannot be steered here, with the reason; a clear error is better than wrong answers."""

from __future__ import annotations

_LEFT = "its positions count padding on the left, so prompts in one batch would change each other"
_WIDE = "its blocks do not return one state per token, (batch, length, width)"

UNSUPPORTED: dict[str, str] = {
    "git": _LEFT,
    "kosmos-2.5": _LEFT,
    "glm5_next": _WIDE,
    "diffusion_gemma": "it does not decode token by token",
}


def reason_against(hf_config: object) -> str | None:
    """The reason why a configuration's model cannot be steered, or None."""
    if getattr(hf_config, "is_encoder_decoder", False):
        return "its decoder reads the prompt through an encoder, not as tokens of its own"
    return UNSUPPORTED.get(str(getattr(hf_config, "model_type", None)))
