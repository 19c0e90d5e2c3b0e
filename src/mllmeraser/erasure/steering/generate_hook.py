"""Follow calls of `generate`: learn the prompt, and refuse modes that cannot be steered."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol

import transformers
from torch import Tensor, nn

from mllmeraser.erasure.steering.prompt_tracker import GenerateSession, cached_length
from mllmeraser.samples.errors import AttachError

#: Settings with passes of another kind: drafts to verify, a second or changed prompt.
REFUSED = (
    "assistant_model",
    "assistant_early_exit",
    "prompt_lookup_num_tokens",
    "use_mtp",
    "custom_generate",
    "negative_prompt_ids",
    "guidance_scale",
    "penalty_alpha",
    "dola_layers",
    "token_healing",
    "constraints",
    "force_words_ids",
)
#: Values that switch a refused setting off.
HARMLESS = {"guidance_scale": (1,), "penalty_alpha": (0,), "use_mtp": (False,), "token_healing": (False,)}
#: Below 5.21, transformers feeds a prompt in pieces from its first token, even if a cache holds a part of it.
PIECES_START_ANEW = tuple(int(part) for part in transformers.__version__.split(".")[:2]) < (5, 21)


class GenerateListener(Protocol):
    """Receives every call of `generate`."""

    def during_generate(self, call: GenerateCall) -> AbstractContextManager[None]:
        """Context of the call; entering it may change `call.arguments`, or refuse with AttachError."""


class GenerateCall:
    """One call of `generate`, its arguments by name."""

    def __init__(self, hf: nn.Module, arguments: dict[str, Any]) -> None:
        """Wrap the bound `arguments` of `hf.generate`, extra keyword arguments included."""
        self.hf = hf
        self.arguments = arguments

    def setting(self, name: str) -> Any:
        """Value that `generate` will use: of the call, else of its generation_config, else of the model's."""
        configs = (self.arguments.get("generation_config"), getattr(self.hf, "generation_config", None))
        values = (self.arguments.get(name), *(getattr(config, name, None) for config in configs))
        return next((value for value in values if value is not None), None)

    def refuse_unknown_modes(self) -> None:
        """Allow greedy search, sampling and beam search alone."""
        for name in REFUSED:
            value = self.setting(name)
            if value is not None and value not in HARMLESS.get(name, ()):
                raise AttachError(f"generate with {name} cannot be steered: leave it out, or detach first")
        if (self.setting("num_beam_groups") or 1) > 1:
            raise AttachError("group beam search cannot be steered: leave num_beam_groups out")
        if self.setting("cache_implementation") == "paged":
            raise AttachError("continuous batching cannot be steered: use another cache_implementation")

    def feed_whole_prompt(self) -> None:
        """Turn off feeding the prompt in pieces."""
        if self.setting("prefill_chunk_size") is not None:
            self._impose("prefill_chunk_size", None)

    def run_eagerly(self) -> None:
        """Turn off the compilation that a static cache starts: hooks in its graph are not verified."""
        cache = self.arguments.get("past_key_values")
        if self.setting("cache_implementation") is not None or getattr(cache, "is_compileable", False):
            self._impose("disable_compile", True)

    def _impose(self, name: str, value: Any) -> None:
        """Set a value that `generate` uses.

        It goes into a copy of a generation_config, since arguments beside one are deprecated. But a None there would
        not replace a value of the model's own configuration: then it stays an argument.
        """
        config, own = self.arguments.get("generation_config"), getattr(self.hf, "generation_config", None)
        if config is None or name in self.arguments or (value is None and getattr(own, name, None) is not None):
            self.arguments[name] = value
            return
        config = copy.copy(config)
        setattr(config, name, value)
        self.arguments["generation_config"] = config

    def need_cache(self) -> None:
        """Require the cache: without one, each token repeats the whole prompt, and nothing can be masked."""
        if self.setting("use_cache") is False:
            raise AttachError("this policy masks the prompt from its answer, which needs a cache: leave use_cache on")

    def process_first(self, processor: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Add a logits processor: after those of `generate` itself, before those of the caller."""
        given = self.arguments.get("logits_processor") or []
        self.arguments["logits_processor"] = transformers.LogitsProcessorList([processor, *given])

    def session(self) -> GenerateSession:
        """The call for the prompt tracker; refused if a prompt in pieces could not be followed."""
        embeds = self.arguments.get("inputs_embeds")
        candidates = (embeds, self.arguments.get("inputs"), self.arguments.get("input_ids"))
        tokens = next((value for value in candidates if isinstance(value, Tensor)), None)
        mask = self.arguments.get("attention_mask")
        mask = mask if isinstance(mask, Tensor) and mask.dim() == 2 else None
        pieces = self.setting("prefill_chunk_size") is not None
        end = None
        if pieces:
            cached = cached_length(self.arguments.get("past_key_values"))
            if tokens is None or embeds is not None:
                raise AttachError("generate in pieces needs input_ids: leave prefill_chunk_size out")
            if PIECES_START_ANEW and cached > 0:
                # Pieces of one token look like an answer: the shift would come before the prompt ends.
                raise AttachError(
                    f"transformers {transformers.__version__} repeats a cached prefix when generate feeds the prompt "
                    "in pieces: leave prefill_chunk_size out, or install transformers 5.21"
                )
            # With a longer mask these are only the new tokens; the mask covers the cached ones too.
            end = tokens.shape[1] + (cached if mask is not None and mask.shape[1] != tokens.shape[1] else 0)
        return GenerateSession(None if tokens is None else tokens.shape[0], mask, end, pieces, self.arguments)


class GenerateTap:
    """The one wrapper of a model's `generate`, shared by all attachments and removed with the last."""

    def __init__(self, hf: nn.Module) -> None:
        """Wrap `hf.generate` on the instance."""
        self._hf = hf
        self._own = hf.__dict__.get("generate")
        self._listeners: list[GenerateListener] = []
        original: Callable[..., Any] = hf.generate  # type: ignore[assignment]
        # The signature of the class: an earlier wrapper on the instance may hide the names.
        signature = inspect.signature(getattr(type(hf), "generate"))  # noqa: B009

        @functools.wraps(original)
        def generate(*args: Any, **kwargs: Any) -> Any:
            if not self._listeners:
                return original(*args, **kwargs)
            call = GenerateCall(hf, _by_name(signature, (hf, *args), kwargs))
            with ExitStack() as stack:
                for listener in tuple(self._listeners):
                    stack.enter_context(listener.during_generate(call))
                return original(**call.arguments)

        self.wrapper: Callable[..., Any] = generate
        generate.mllmeraser_tap = self  # type: ignore[attr-defined]
        hf.generate = generate  # type: ignore[assignment]

    @classmethod
    def listen(cls, hf: nn.Module, listener: GenerateListener) -> Callable[[], None]:
        """Pass every call of `hf.generate` to `listener`; returns the function that ends it."""
        if not callable(getattr(hf, "generate", None)):
            return lambda: None
        known = getattr(hf.__dict__.get("generate"), "mllmeraser_tap", None)
        tap = known if isinstance(known, GenerateTap) else cls(hf)
        tap._listeners.append(listener)
        return functools.partial(tap._leave, listener)

    def _leave(self, listener: GenerateListener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)
        # A later wrapper of `generate` keeps ours inside; then ours only passes calls through.
        if not self._listeners and self._hf.__dict__.get("generate") is self.wrapper:
            if self._own is None:
                del self._hf.generate
            else:
                self._hf.generate = self._own


def _by_name(signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a call by name, those of `**kwargs` included, without the model itself."""
    bound = signature.bind_partial(*args, **kwargs)
    arguments = dict(list(bound.arguments.items())[1:])
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(arguments.pop(name, {}))
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL and arguments.get(name):
            raise AttachError("generate takes its arguments by name while something is attached")
    return arguments
