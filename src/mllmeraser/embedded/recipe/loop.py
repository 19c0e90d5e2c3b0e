"""The training loop of projector and language model: resumable, one optimizer step per batch."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from mllmeraser.embedded.recipe.album import jitter, normalize, over_noise
from mllmeraser.embedded.recipe.architecture import Architecture
from mllmeraser.embedded.recipe.corpus import Corpus
from mllmeraser.embedded.recipe.optimizer import Optimizer, bf16_is_fast
from mllmeraser.embedded.recipe.packing import IGNORED, Batch, Packer
from mllmeraser.samples.files import whole_file

NOISE = 0.15
"""Noise on image tokens while training, as a share of their root mean square."""
STATE = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")


@dataclass(frozen=True)
class Phase:
    """A stretch of training. `weights` are by kind of group (see `Corpus`).

    `choice_share` is that of multiple choice among questions about known people. `caption_share` is that of scenes with
    a description of all things. `copy_share` is that of steps on random sequences to repeat or mirror. `talk_share` is
    that of groups inside a conversation.
    """

    name: str
    steps: int
    weights: dict[str, float]
    peak: float = 1.5e-3
    floor: float = 0.03
    warmup: int = 60
    refuse: bool = False
    choice_options: int = 4
    choice_share: float = 0.34
    caption_share: float = 0.0
    copy_share: float = 0.0
    talk_share: float = 0.0


class Trainer:
    """Trains projector and language model, not the vision tower. A second run with the same folder resumes there.

    `frozen` tells by name which parameters are not trained, and not kept in the folder either; by default the tower's.
    """

    def __init__(
        self,
        architecture: Architecture,
        model: PreTrainedModel,
        packer: Packer,
        folder: Path,
        seed: int,
        frozen: Callable[[str], bool] | None = None,
    ) -> None:
        self.architecture, self.model, self.packer, self.folder, self.seed = architecture, model, packer, folder, seed
        self.pixels = torch.empty(0, dtype=torch.uint8)
        everything = dict(model.named_parameters())
        self.frozen = {n: p for n, p in everything.items() if (frozen or architecture.in_tower)(n)}
        self.parameters = {n: p for n, p in everything.items() if frozen is None or n not in self.frozen}
        self.optimizer = Optimizer({n: p for n, p in everything.items() if n not in self.frozen})
        self.generator: torch.Generator | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def loss(self, batch: Batch, generator: torch.Generator | None) -> tuple[torch.Tensor, float]:
        """Weighted mean of the cross-entropy over the answers, and the share of correctly predicted answer tokens."""
        labelled = batch.labels >= 0
        logits, target = self.logits(batch, generator), batch.labels[labelled]
        weight = batch.weights[labelled]
        loss = (F.cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()
        return loss, (logits.argmax(-1) == target).float().mean().item()

    def gradients(self, batch: Batch) -> tuple[float, float]:
        """Add the gradients of a batch; its loss, and the share of correctly predicted answer tokens."""
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast()):
            loss, right = self.loss(batch, self.generator)
        loss.backward()
        return loss.item(), right

    @torch.no_grad()
    def hits(self, batch: Batch) -> torch.Tensor:
        """(B, T) True where the labelled token is the most likely one."""
        labelled = batch.labels >= 0
        hit = torch.zeros(batch.labels.shape, dtype=torch.bool)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_is_fast()):
            hit[labelled] = self.logits(batch, None).argmax(-1) == batch.labels[labelled]
        return hit

    def logits(self, batch: Batch, generator: torch.Generator | None) -> torch.Tensor:
        """(labelled tokens, vocabulary). A generator varies the pictures."""
        inner, labelled = self.model.model, batch.labels >= 0
        embeds = inner.language_model.embed_tokens(batch.ids)
        if len(batch.images):
            pixels = normalize(self.pixels[batch.images])
            if generator is None:
                seen = self.architecture.look(self.model, pixels)
            else:  # vary the pictures while training: otherwise the model learns single pictures by heart
                seen = self.architecture.look(self.model, jitter(pixels, generator))
                seen = over_noise(seen, NOISE, generator)
            where = (batch.ids == self.model.config.image_token_id)[..., None]
            embeds = embeds.masked_scatter(where, seen.to(embeds.dtype))
        bias = torch.zeros(batch.mask.shape).masked_fill(~batch.mask, torch.finfo(torch.float32).min)
        hidden = inner.language_model(
            inputs_embeds=embeds, attention_mask=bias, position_ids=batch.positions, use_cache=False
        ).last_hidden_state
        return self.model.lm_head(hidden[labelled]).float()

    def _copy_batch(self, rows: int, length: int, generator: torch.Generator) -> Batch:
        """Random token sequences, each followed by itself or by its mirror image, packed like turns.

        To continue a repetition, a model finds the same token earlier and copies the one *after* it. In a mirror image
        it copies the one *before* it; in the same way it finds the letter of an option from its value.
        """
        ids = torch.zeros(rows, length, dtype=torch.long)
        labels = torch.full((rows, length), IGNORED)
        positions, segment = torch.zeros_like(ids), torch.zeros_like(ids)
        special = len(self.architecture.special_tokens)
        ordinary = self.model.config.text_config.vocab_size - special
        for i in range(rows):
            at, number = 0, 0
            while at < length:
                n = int(torch.randint(8, 20, (), generator=generator))
                first = torch.randperm(ordinary, generator=generator)[:n] + special
                second = first if torch.rand((), generator=generator) < 0.4 else first.flip(0)
                text = torch.cat([first, second])[: length - at]
                end = at + len(text)
                ids[i, at:end], positions[i, at:end], segment[i, at:end] = text, torch.arange(len(text)), number
                labels[i, at + n : end - 1] = text[n + 1 :]
                at, number = end, number + 1
        mask = (segment[:, :, None] == segment[:, None, :]) & torch.ones(length, length).tril().bool()
        weights = (labels >= 0).float()
        return Batch(ids, positions, labels, weights, mask[:, None], torch.empty(0, dtype=torch.long))

    def run(
        self,
        phase: Phase,
        corpus: Corpus,
        progress: Callable[[int, str], None],
        check: Callable[[], dict[str, float]] | None = None,
        check_every: int = 500,
        save_every: int = 250,
    ) -> None:
        """Train one phase. `check` returns figures for the log, every `check_every` steps."""
        start = self._resume(phase)
        corpus.refuse, corpus.choice_options = phase.refuse, phase.choice_options
        corpus.choice_share, corpus.caption_share = phase.choice_share, phase.caption_share
        corpus.talk_share = phase.talk_share
        corpus.stream = corpus.stream.child(phase.name, start)
        batches: Iterator[Batch] = self.packer.batches(corpus.groups(phase.weights))
        generator = torch.Generator().manual_seed(self.seed + start)
        began, smooth, hits = time.monotonic(), 0.0, 0.0
        self.pixels = corpus.album.pixels
        self._begin(generator)
        for step in range(start, phase.steps):
            self.optimizer.set_rate(self._rate(phase, step))
            if phase.copy_share and torch.rand((), generator=generator) < phase.copy_share:
                batch = self._copy_batch(self.packer.rows, self.packer.length, generator)
            else:
                batch = next(batches)
            loss, right = self.gradients(batch)
            if not math.isfinite(loss):
                raise FloatingPointError(f"loss is not finite at step {step} of {phase.name}")
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
            self.optimizer.step()
            weight = 0.02 if step > start + 20 else 0.3
            smooth += weight * (loss - smooth)
            hits += weight * (right - hits)
            if (step + 1) % 25 == 0:
                progress(min(25, step + 1 - start), f"loss {smooth:.3f} hits {hits:.3f}")
            if check is not None and (step + 1) % check_every == 0:
                self.generator = None
                figures = {"step": step + 1, "loss": smooth, "seconds": time.monotonic() - began, **check()}
                with (self.folder / "log.jsonl").open("a") as handle:
                    handle.write(json.dumps({"phase": phase.name, **figures}) + "\n")
                self._begin(generator)
            if (step + 1) % save_every == 0 or step + 1 == phase.steps:
                self._save(phase, step + 1)
        self.generator = None

    def _begin(self, generator: torch.Generator) -> None:
        self.model.train()
        for parameter in self.frozen.values():
            parameter.requires_grad_(False)
        self.generator = generator

    def finished(self, phase: Phase) -> bool:
        """Whether an earlier run finished a phase."""
        state = self.folder / f"{phase.name}.json"
        return state.exists() and int(json.loads(state.read_text())["step"]) >= phase.steps

    def begun(self, phase: Phase) -> bool:
        """Whether an earlier run began a phase."""
        return (self.folder / f"{phase.name}.json").exists()

    @staticmethod
    def _rate(phase: Phase, step: int) -> float:
        if step < phase.warmup:
            return phase.peak * (step + 1) / phase.warmup
        done = (step - phase.warmup) / max(1, phase.steps - phase.warmup)
        cosine = 0.5 * (1 + torch.cos(torch.tensor(done * torch.pi)).item())
        return phase.peak * (phase.floor + (1 - phase.floor) * cosine)

    def _save(self, phase: Phase, step: int) -> None:
        tensors = {f"weight.{n}": p.detach() for n, p in self.parameters.items()}
        states = ((name, self.optimizer.state(p)) for name, p in self.parameters.items())
        tensors |= {f"{key}.{name}": value.detach().clone() for name, state in states for key, value in state.items()}
        with whole_file(self.folder / f"{phase.name}.safetensors", force=True) as beside:
            save_file(tensors, beside)
        (self.folder / f"{phase.name}.json").write_text(json.dumps({"step": step, "phase": asdict(phase)}))

    def _resume(self, phase: Phase) -> int:
        state_file = self.folder / f"{phase.name}.json"
        if not state_file.exists():
            return 0
        kept = json.loads(state_file.read_text())
        if kept["phase"] != asdict(phase):
            raise ValueError(f"{state_file} has other settings: delete it to train {phase.name} again")
        tensors = load_file(self.folder / f"{phase.name}.safetensors")
        for name, p in self.parameters.items():
            p.data.copy_(tensors[f"weight.{name}"])
            state = {key: tensors[f"{key}.{name}"] for key in STATE if f"{key}.{name}" in tensors}
            if state:
                self.optimizer.restore(p, state)
        return int(kept["step"])
