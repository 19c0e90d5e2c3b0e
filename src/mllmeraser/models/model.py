"""A frozen multimodal model of any family, behind one small interface."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import BatchFeature, PreTrainedModel

from mllmeraser.models.capture import last_states, last_token
from mllmeraser.models.families import Family, PixelInputs, family_for
from mllmeraser.models.families.base import tokenize
from mllmeraser.models.fingerprint import fingerprint, prompt_hash
from mllmeraser.models.hookpoint import HookPoint
from mllmeraser.models.intervention import declare_prompt
from mllmeraser.models.prompts import IGNORED, Prompts
from mllmeraser.models.turns import render_messages
from mllmeraser.samples.conversation import Conversation
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Count
from mllmeraser.samples.sample import Sample


class MultimodalModel:
    """A transformers model with its processor and family adapter.

    Attributes:
        name: The user's name for it: hub id, folder, or `embedded:...`.
        revision: Commit of a hub checkpoint, if known.
        hf: The transformers model.
        processor: Its processor (`image_processor`, `tokenizer`, chat template).
        family: The adapter.
        prompts: Turns samples into batches; caches processed pictures.
    """

    def __init__(
        self, name: str, hf: PreTrainedModel, processor: Any, family: Family | None = None, revision: str | None = None
    ) -> None:
        """Wrap a loaded model; without `family`, its configuration decides.

        Raises:
            UnknownFamilyError: If no adapter serves this model.
            InputError: If the decoder is not at the place that the adapter names.
        """
        self.name = name
        self.revision = revision
        self.hf = hf
        self.processor = processor
        self.family = family or family_for(hf.config, hf)
        self.layers: nn.ModuleList = self.family.decoder_layers(hf)
        self.prompts = Prompts(self.family, processor)

    @property
    def device(self) -> torch.device:
        """Device of the model's inputs."""
        return torch.device(self.hf.device)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        dtype: torch.dtype = self.hf.dtype
        return dtype

    @property
    def num_layers(self) -> int:
        """Number of decoder blocks."""
        return len(self.layers)

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return int(self.family.text_config(self.hf).hidden_size)

    def hookpoints(self, layers: Iterable[int] | None = None) -> tuple[HookPoint, ...]:
        """Hook points of `layers`, by default of all layers that run for every prompt.

        Raises:
            InputError: If a layer does not exist, or does not run for every prompt.
        """
        chosen = self.family.hook_layers(self.hf) if layers is None else sorted(set(layers))
        return self._checked(HookPoint(layer) for layer in chosen)

    def encode(self, samples: Sequence[Sample], padding_side: str = "left") -> BatchFeature:
        """One batch of prompts on the model's device, rows in order; pictures in the model's dtype."""
        return self.place(self.prompts.encode(samples, padding_side))

    def encode_texts(
        self,
        texts: Sequence[str],
        images: Sequence[Image.Image | None | Sequence[Image.Image]],
        padding_side: str = "left",
    ) -> BatchFeature:
        """As `encode`, for prompts that are in the chat format already (see `Family.render`).

        Each row has no picture, one, or several in the order of its text. It is tokenized alone, so that it does not
        depend on the others.

        Raises:
            InputError: If numbers of texts and images differ, a text does not fit its image, or it has no tokens.
        """
        if len(texts) != len(images):
            raise InputError(f"{len(texts)} prompts but {len(images)} images")
        shown = [[self.prompts.pixels(image) for image in _several(own)] for own in images]
        rows = [self.family.expand_all(self.processor, text, own) for text, own in zip(texts, shown, strict=True)]
        pixels: list[PixelInputs | None] = [own[0] if own else None for own in shown]
        if any(len(own) > 1 for own in shown):
            pixels = [one for own in shown for one in own]
        ids = [tokenize(self.processor, [row])[0] for row in rows]
        if not all(ids):
            raise InputError("a prompt has no tokens: it is empty")
        return self.place(self.family.collate(self.processor, ids, pixels, padding_side))

    def render(self, conversation: Conversation) -> str:
        """A conversation in the chat format, up to the answer or to the end of its begun words.

        Raises:
            InputError: See `models.turns.render_messages`.
        """
        text = render_messages(self.processor, [turn.message() for turn in conversation.turns])
        return text + self.prompts.continued(text, conversation.begun) if conversation.begun else text

    def takes(self, asked: Conversation | Sample) -> bool:
        """Whether the chat format can express a conversation, or what stands before a question."""
        with suppress(InputError):
            return bool(self.prompts.text(asked) if isinstance(asked, Sample) else self.render(asked))
        return False

    def encode_conversations(self, conversations: Sequence[Conversation], padding_side: str = "left") -> BatchFeature:
        """One batch of conversations, rows in order; see `render`."""
        texts = [self.render(one) for one in conversations]
        return self.encode_texts(texts, [one.images for one in conversations], padding_side)

    def encode_answers(
        self, samples: Sequence[Sample], answers: Sequence[str], *, end: bool = True, padding_side: str = "right"
    ) -> BatchFeature:
        """One batch of prompts with answers and `labels` (-100 outside the answer), for losses."""
        return self.place(self.prompts.encode_answers(samples, answers, end=end, padding_side=padding_side))

    def generate(
        self,
        samples: Sequence[Sample],
        *,
        max_new_tokens: int = 24,
        batch_size: int = 32,
        progress: Count | None = None,
    ) -> list[str]:
        """Greedy answers, in the order of `samples`; batches hold similar samples."""
        answers = [""] * len(samples)
        for rows in self.prompts.plan(samples, batch_size):
            batch = [samples[row] for row in rows]
            for row, answer in zip(rows, self.generate_batch(batch, max_new_tokens=max_new_tokens), strict=True):
                answers[row] = answer
            if progress is not None:
                progress(len(rows))
        return answers

    @torch.no_grad()
    def generate_batch(self, samples: Sequence[Sample], *, max_new_tokens: int = 24) -> list[str]:
        """Greedy answers of one batch, in row order (for rows with erasers of their own).

        Sampling, beams and the repetition penalty of the checkpoint's generation settings are switched off.
        """
        inputs = self.encode(samples, "left")
        output = self.hf.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=self.processor.tokenizer.pad_token_id,
        )
        answers = output[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.tokenizer.batch_decode(answers, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def states(
        self,
        samples: Sequence[Sample],
        hookpoints: Sequence[HookPoint],
        *,
        batch_size: int = 32,
        progress: Count | None = None,
    ) -> dict[HookPoint, Tensor]:
        """States at the last real prompt token: `(samples, width)` float32 on the CPU per hook point.

        Raises:
            InputError: If a hook point does not exist.
            NumericalError: If a state is NaN or infinite.
        """
        # Padding on the right: positions then count from the first real token, as for a single prompt.
        plan = self.prompts.plan(samples, batch_size)
        return self.states_of(plan, lambda rows: self.encode([samples[i] for i in rows], "right"), hookpoints, progress)

    def states_of(
        self,
        plan: Sequence[Sequence[int]],
        encode: Callable[[Sequence[int]], Mapping[str, Any]],
        hookpoints: Sequence[HookPoint],
        progress: Count | None = None,
    ) -> dict[HookPoint, Tensor]:
        """As `states`, for inputs of any kind.

        Args:
            plan: Row numbers of each batch; together 0 to n - 1.
            encode: Returns the encoded batch of some rows.
            hookpoints: Where to read.
            progress: Receives the number of rows of each batch.
        """
        points = self._checked(dict.fromkeys(hookpoints))
        result = {point: torch.zeros(sum(map(len, plan)), self.hidden_size) for point in points}
        for rows in plan:
            batch = last_states(self.hf, self.layers, encode(rows), points)
            for point, states in zip(points, batch.unbind(1), strict=True):
                result[point][rows] = states.float()
            if progress is not None:
                progress(len(rows))
        return result

    @torch.no_grad()
    def next_token_logits(self, samples: Sequence[Sample], *, batch_size: int = 32) -> Tensor:
        """Logits of the first answer token: `(samples, vocabulary)` float32 on the CPU."""
        parts: list[Tensor] = []
        order: list[int] = []
        for rows in self.prompts.plan(samples, batch_size):
            inputs = self.encode([samples[row] for row in rows], "right")
            kept, place = torch.unique(last_token(inputs), return_inverse=True)
            logits = self.hf(**inputs, use_cache=False, logits_to_keep=kept).logits
            parts.append(logits[torch.arange(len(rows), device=logits.device), place].float().cpu())
            order += rows
        return torch.cat(parts)[torch.argsort(torch.tensor(order))] if parts else torch.zeros(0, 0)

    @torch.no_grad()
    def answer_logprobs(
        self, samples: Sequence[Sample], answers: Sequence[str], *, batch_size: int = 32
    ) -> tuple[Tensor, Tensor]:
        """Sum of log-probabilities (nats, float32) and number of tokens of each answer, without the end-of-turn token.

        Both `(samples,)` on the CPU.
        """
        sums, counts = torch.zeros(len(samples)), torch.zeros(len(samples), dtype=torch.long)
        for rows in self.prompts.plan(samples, batch_size):
            inputs = self.encode_answers([samples[row] for row in rows], [answers[row] for row in rows], end=False)
            labels = inputs.pop("labels")
            # Logits before the first answer token of any row are not needed, and a vocabulary is wide.
            first = int((labels != IGNORED).any(dim=0).nonzero()[0, 0]) - 1
            kept = torch.arange(first, labels.shape[1] - 1, device=labels.device)
            # An attached eraser must not take the answer for the end of the prompt.
            with declare_prompt((labels != IGNORED).long().argmax(dim=1)):
                logits = self.hf(**inputs, use_cache=False, logits_to_keep=kept).logits
            target = labels[:, first + 1 :].to(logits.device)
            chosen = logits.float().log_softmax(-1).gather(-1, target.clamp(min=0)[..., None])[..., 0]
            answer = target != IGNORED
            sums[rows] = (chosen * answer).sum(-1).cpu()
            counts[rows] = answer.sum(-1).cpu()
        return sums, counts

    def fingerprint(self) -> str:
        """Digest of architecture, dtype and sampled weights (see `models.fingerprint`)."""
        return fingerprint(self.hf, self.family)

    def prompt_hash(self) -> str:
        """Digest of the chat format and tokenizer (see `models.fingerprint`)."""
        return prompt_hash(self.processor, self.family)

    def _checked(self, points: Iterable[HookPoint]) -> tuple[HookPoint, ...]:
        checked = tuple(point.check(self.num_layers) for point in points)
        self.family.check_hooks(self.hf, [point.layer for point in checked])
        return checked

    def place(self, batch: BatchFeature) -> BatchFeature:
        """A batch on the model's device, its pictures in the model's dtype."""
        batch = batch.to(self.device)
        if "pixel_values" in batch:
            batch["pixel_values"] = batch["pixel_values"].to(self.dtype)
        return batch


def _several(images: Image.Image | None | Sequence[Image.Image]) -> Sequence[Image.Image]:
    """The pictures of one row."""
    if images is None:
        return ()
    return (images,) if isinstance(images, Image.Image) else images


def sibling(model: MultimodalModel) -> MultimodalModel:
    """A second module tree over the same weights and buffers: an eraser on one tree does not act on the other.

    Call it while nothing is attached, because it also copies hooks.
    """
    shared = {id(tensor): tensor for tensor in [*model.hf.parameters(), *model.hf.buffers()]}
    hf = copy.deepcopy(model.hf, shared)
    return MultimodalModel(model.name, hf, model.processor, model.family, model.revision)
