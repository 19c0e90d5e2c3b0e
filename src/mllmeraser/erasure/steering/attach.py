"""Attach, shift, detach: h <- h + s a v after the decoder blocks of a frozen model.

The path of one forward pass: `_before` finds the prompt (`prompt_tracker.py`), the hook of each block reads gates and
shifts states (`forward_pass.py`), `_after` closes the pass and enforces replies (`reply.py`). Several erasers are
merged where they fit together (`plan_group.py`). All gates of a layer are read before a state is shifted there. Not
thread-safe: one pass at a time.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mllmeraser.erasure.gates.tensor_pool import distinct_bytes
from mllmeraser.erasure.steering.conversation.turn_pass import TurnPass
from mllmeraser.erasure.steering.forward_pass import SteeringPass
from mllmeraser.erasure.steering.generate_hook import GenerateCall, GenerateTap
from mllmeraser.erasure.steering.media_inputs import media_inputs
from mllmeraser.erasure.steering.plan import Steerable, SteeringPlan, check_plans
from mllmeraser.erasure.steering.plan_group import PlanStack, Readings
from mllmeraser.erasure.steering.prompt_masking import mask_columns, masked_tokens
from mllmeraser.erasure.steering.prompt_tracker import PromptTracker, Span, cache_of
from mllmeraser.erasure.steering.tensor_parallel import TensorParallelCheck, tensor_parallel_check
from mllmeraser.models.capture import hidden_of, with_hidden
from mllmeraser.models.families import Family, family_for
from mllmeraser.models.fingerprint import active_adapters, taken_once
from mllmeraser.models.intervention import Attachment, Rows, unwrap
from mllmeraser.models.turns import reading_of
from mllmeraser.samples.errors import AttachError, InputError

OUTSIDE = (
    "a decoder block ran outside a forward pass of the attached model: call the model itself, not its language model, "
    "and from one thread at a time"
)
TRACED = -1
"""Owner of a pass of a compiled model: its graph cannot tell threads apart."""
Steerables = Sequence[Steerable] | Mapping[str, Steerable]


def attach_all(model: Any, erasers: Steerables) -> SteeringAttachment:
    """Attach several erasers at once: h <- h + sum_k s_k a_k v_k, chosen per row with `Attachment.select`.

    `model` is a `MultimodalModel` or a transformers `PreTrainedModel` of a known family. A mapping of erasers (or
    plans) gives the names by which rows select them. In a sequence the names of the plans must differ. The returned
    handle is a context manager.

    Raises:
        InputError: There is no eraser, two have the same name, or a layer or width does not fit the model.
        AttachError: A hook could not be placed, or processes that share the model attach different erasers. The model
            is then as it was.
    """
    hf = unwrap(model)
    family = family_for(hf.config, hf)
    layers = family.decoder_layers(hf)
    check = tensor_parallel_check(hf)
    try:
        if check is not None:
            check.on_erasers(erasers)
        plans = _named_plans(model, erasers)
        if reading_of(hf, family) == "one text":
            plans = tuple(replace(plan, turns=None) for plan in plans)
        check_plans(plans, len(layers), int(family.text_config(hf).hidden_size))
        family.check_hooks(hf, [layer for plan in plans for layer in (*plan.reads, *plan.shift_layers)])
        if check is not None:
            check.on_plans(plans)
        return SteeringAttachment(hf, family, layers, plans, check)
    except BaseException:
        if check is not None:
            check.end()
        raise


def _named_plans(model: Any, erasers: Steerables) -> tuple[SteeringPlan, ...]:
    with taken_once():
        if isinstance(erasers, Mapping):
            return tuple(replace(eraser.plan(model), name=name) for name, eraser in erasers.items())
        return tuple(eraser.plan(model) for eraser in erasers)


class SteeringAttachment(Attachment):
    """Handle of attached erasers."""

    def __init__(
        self,
        hf: nn.Module,
        family: Family,
        layers: nn.ModuleList,
        plans: Sequence[SteeringPlan],
        parallel: TensorParallelCheck | None = None,
    ) -> None:
        """Attach `plans` to `layers`, the blocks of `hf`, all or none; `attach_all` checks them first."""
        self._readings: Readings | None = None
        self._unread: SteeringPass | None = None
        self._hf, self._family = hf, family
        self._adapters, self._parallel = active_adapters(hf), parallel
        self._open: dict[str, object] = {}
        self._stack = PlanStack(plans)
        self._tracker = PromptTracker(whole_prompt=any(plan.policy.whole_prompt for plan in plans))
        self._parameters = tuple(inspect.signature(hf.forward).parameters)
        self._selection: Tensor | None = None
        self._pass: SteeringPass | None = None
        self._masked: Tensor | None = None
        self._replying: Tensor | None = None
        self._idle, self._mask_applied, self._owner = False, False, 0
        self._turn_pass = TurnPass(hf, str(family.text_config(hf)._attn_implementation))
        self._flash = "flash" in str(family.text_config(hf)._attn_implementation)
        with ExitStack() as undo:
            undo.callback(self._reset)
            try:
                self._place(hf, family.decoder(hf), layers, undo)
            except Exception as error:
                raise AttachError(f"could not attach {', '.join(p.name for p in plans)}: {error}") from error
            super().__init__(undo.pop_all().close, [plan.name for plan in plans])

    def _place(self, hf: nn.Module, decoder: nn.Module, layers: nn.ModuleList, undo: ExitStack) -> None:
        undo.callback(hf.register_forward_pre_hook(self._before, with_kwargs=True).remove)
        undo.callback(hf.register_forward_hook(self._after, with_kwargs=True, always_call=True).remove)
        for layer in self._stack.layers:
            undo.callback(layers[layer].register_forward_hook(self._block_hook(layer)).remove)
        if self._stack.masking or self._stack.turns is not None:
            undo.callback(decoder.register_forward_pre_hook(self._before_decoder, with_kwargs=True).remove)
        undo.callback(GenerateTap.listen(hf, self))
        if self._parallel is not None:
            undo.callback(self._parallel.end)

    def _reset(self) -> None:
        self._tracker.forget()
        self._pass, self._idle, self._masked, self._owner = None, False, None, 0
        self._open.clear()

    @property
    def readings(self) -> Readings | None:
        """Gate scores and amplitudes of the last batch of prompts; None before the first."""
        if self._unread is not None:
            self._readings, self._unread = self._unread.readings(self._readings), None
        return self._readings

    @property
    def nbytes(self) -> int:
        """Bytes of the attached erasers on the model's device, after the first prompt; shared tensors count once."""
        return distinct_bytes(tensor for group in self._stack.groups for tensor in group.tensors())

    def select(self, rows: Rows | None) -> None:
        """Choose per row which erasers apply to later batches; None: all of them, to every row.

        `rows` are names for each row of a request, or a boolean matrix (rows, erasers). With beams or several returned
        sequences, a row covers all of its copies.

        Raises:
            InputError: A name is unknown, or the matrix has another width.
        """
        if rows is None:
            self._selection = None
        elif isinstance(rows, Tensor):
            if rows.dim() != 2 or rows.shape[1] != len(self.names):
                raise InputError(f"a selection has shape (rows, {len(self.names)}), not {tuple(rows.shape)}")
            self._selection = rows.to(torch.bool)
        else:
            self._selection = torch.tensor([self._choice(row) for row in rows]).reshape(-1, len(self.names))

    def _choice(self, row: Any) -> list[bool]:
        chosen = {row} if isinstance(row, str) else set(row)
        unknown = sorted(chosen - set(self.names))
        if unknown:
            raise InputError(f"no eraser called {unknown[0]!r} is attached: there are {', '.join(self.names)}")
        return [name in chosen for name in self.names]

    @contextmanager
    def during_generate(self, call: GenerateCall) -> Iterator[None]:
        """Follow one call of `generate`; refuse modes with a prompt that cannot be followed."""
        if self._tracker.session is not None:
            raise AttachError("generate was called inside generate: detach first")
        call.refuse_unknown_modes()
        call.run_eagerly()
        if self._stack.masking:
            call.need_cache()
        if self._tracker.whole_prompt:
            call.feed_whole_prompt()
        if self._stack.replies:
            call.process_first(self._stack.replies.last_word)
        self._tracker.session = call.session()
        try:
            yield
        finally:
            self._tracker.session = None

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._claim(module)
        inputs = {**dict(zip(self._parameters, args, strict=False)), **kwargs} if args else kwargs
        self._span = span = self._tracker.locate(inputs)
        # Most passes decode one token under a policy that leaves decoded tokens alone: they need no SteeringPass.
        self._idle = not span.has_prompt and not self._stack.steers_decoding
        self._mask_applied, self._masked = False, None
        if self._stack.masking and not span.has_prompt:
            self._masked = self._tracker.masked(span, inputs.get("past_key_values"))
        if self._stack.replies:
            self._stack.replies.refuse_loss(inputs)
            self._replying = self._tracker.reply(span, inputs.get("past_key_values"))
        if span.has_prompt and active_adapters(self._hf) != self._adapters:
            raise AttachError("another PEFT adapter is active than when the erasers were attached: attach them again")
        if self._parallel is not None and (span.has_prompt or self._stack.masking or self._stack.steers_decoding):
            self._parallel.on_rows(self._selection)
        self._pass = None if self._idle else self._make_pass(span, inputs)

    def _claim(self, module: nn.Module) -> None:
        """Take the model for one pass: two threads would overwrite each other's state of the attachment."""
        if module is not self._hf:
            raise AttachError("a copy of the attached model ran (DataParallel?): attach to each copy by itself")
        if torch.compiler.is_compiling():
            self._owner = TRACED
            return
        token = object()
        if self._open.setdefault("pass", token) is not token:  # atomic; a lock could not be copied
            raise AttachError("two passes at once through one attached model: let one thread run it")
        self._owner = threading.get_ident()

    def _is_ours(self) -> bool:
        if torch.compiler.is_compiling():
            return True
        return self._owner == threading.get_ident() or self._owner == TRACED

    def _make_pass(self, span: Span, inputs: Mapping[str, Any]) -> SteeringPass:
        media = None
        if span.has_prompt and self._stack.reads_images:
            session = self._tracker.session
            media = media_inputs(inputs, span, {} if session is None else session.arguments, self._hf, self._family)
        return SteeringPass(self._stack, self._tracker, span, inputs, self._selection, media)

    def _before_decoder(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._turn_pass.running:
            return None
        self._mask_applied = True
        if self._pass is not None and self._pass.turn_reading is not None:
            self._turn_pass.run(self._pass, module, args, kwargs)
        if self._masked is None:
            return None
        mask = mask_columns(kwargs.get("attention_mask"), self._masked, self._span.stop, flash=self._flash)
        return args, {**kwargs, "attention_mask": mask}

    def _block_hook(self, layer: int) -> Callable[[nn.Module, Any, Any], Any]:
        def after_block(_module: nn.Module, _args: Any, output: Any) -> Any:
            if not self._is_ours():
                raise AttachError(OUTSIDE)
            if self._idle:
                return None
            if self._pass is None:
                raise AttachError(OUTSIDE)
            if self._turn_pass.running:
                return self._turn_pass.after_block(self._pass, layer, hidden_of(output))
            return with_hidden(output, self._pass.after_block(layer, hidden_of(output)))

        return after_block

    def _after(self, _module: nn.Module, _args: Any, kwargs: Mapping[str, Any], output: Any) -> Any:
        if not self._is_ours():
            if output is not None:
                raise AttachError(OUTSIDE)
            return None  # this pass was refused, and must not disturb the one that runs
        try:
            return self._close(kwargs, output)
        finally:
            self._owner = 0
            self._open.pop("pass", None)

    def _close(self, kwargs: Mapping[str, Any], output: Any) -> Any:
        """End the pass; returns its output, with the sentence of the rows that reply."""
        (done, idle), (self._pass, self._idle) = (self._pass, self._idle), (None, False)
        if output is None:
            return None
        if done is None and not idle:
            raise AttachError("a pass ended that did not begin in this attachment: attach before the model runs")
        if done is not None and done.missed:
            raise AttachError(
                f"blocks {done.missed} ran without the erasers: this model was compiled or captured before they were "
                "attached; attach first, and compile after"
            )
        masked, self._masked = self._masked, None
        if self._stack.masking:
            if not self._mask_applied:
                raise AttachError("the prompt was not masked: attach before this model is compiled or captured")
            if done is not None and done.sites is not None:
                masked = masked_tokens(done.sites, done.fired())
        sites = None if done is None else done.sites
        reply, self._replying = self._replying, None
        if self._stack.replies:
            reply = done.replying(reply) if done is not None and sites is not None else reply
            output = self._stack.replies.enforce(output, reply, self._span, sites, kwargs)
        self._tracker.remember(self._span, cache_of(output, kwargs), masked, reply)
        if done is not None and done.sites is not None:
            # Readings are computed on request. Those of a prompt in pieces are merged piece by piece.
            self._readings = None if done.span.fresh else self.readings
            self._unread = done
        return output
