"""What all training methods do alike: borrow the model, train, give it back, keep the product."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from mllmeraser.methods.adapter import AdapterProduct, adapter_tensors
from mllmeraser.methods.data import Item, Stream, TrainingData, pick
from mllmeraser.methods.forward import Scored, score
from mllmeraser.methods.interception import intercepted
from mllmeraser.methods.loop import Objective, derived_seed, train
from mllmeraser.methods.method import MethodSettings, checked
from mllmeraser.methods.product import Product, ProductConfig, require_bare
from mllmeraser.methods.settings import TrainSettings, TunedSettings
from mllmeraser.methods.state import WorkFolder
from mllmeraser.methods.steps import Step, Variant, plan_steps
from mllmeraser.methods.trainable import Trainable, adapters, borrowed, moved, whole_weights
from mllmeraser.methods.weights import WeightProduct
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request
from mllmeraser.version import __version__


@dataclass(frozen=True)
class Session:
    """One training, while the model is borrowed.

    Attributes:
        measures: What the training wants stated in the product's manifest.
    """

    model: MultimodalModel
    data: TrainingData
    settings: TrainSettings
    trainable: Trainable
    seed: int
    measures: dict[str, float] = field(default_factory=dict)

    def forget_stream(self) -> Stream:
        """Order of the forget items."""
        return Stream(len(self.data.forget), self.settings.batch_size, self.seed, "forget")

    def retain_stream(self) -> Stream:
        """Order of the retain items."""
        return Stream(len(self.data.retain), self.settings.batch_size, self.seed, "retain")

    def forget_items(self, number: int) -> list[Item]:
        """Forget batch `number`."""
        return pick(self.data.forget, self.forget_stream().batch(number))

    def retain_items(self, number: int) -> list[Item]:
        """Retain batch `number`."""
        return pick(self.data.retain, self.retain_stream().batch(number))

    def score(self, items: list[Item]) -> Scored:
        """Logits and targets under the weights in training."""
        return score(self.model, items, self.settings.loss_on)

    def plan(self, variant: Variant) -> list[Step]:
        """The steps of a variant, as long as the settings say."""
        batches = self.forget_stream().batches, self.retain_stream().batches
        return plan_steps(variant, *batches, epochs=self.settings.epochs, steps=self.settings.steps)


class TrainedMethod(ABC):
    """Base of the training methods: says what the data are, what is minimised, and in which order."""

    name: ClassVar[str]
    variants: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[type[MethodSettings]]
    trained: ClassVar[bool] = True

    @abstractmethod
    def data(self, model: MultimodalModel, request: Request, settings: Any, seed: int) -> TrainingData:
        """Items with answers.

        Raises:
            InputError: If the request lacks something.
        """

    @abstractmethod
    def plan(self, session: Session) -> list[Step]:
        """All optimiser steps."""

    @abstractmethod
    def objective(self, session: Session, prepared: Mapping[str, Tensor]) -> Objective:
        """What is minimised; `prepared` as `prepare` gave it."""

    def prepare(self, model: MultimodalModel, data: TrainingData, settings: Any) -> dict[str, Tensor]:
        """Tensors made once before the training, from the model as it was given; kept for a resume."""
        return {}

    def parameters(self, model: MultimodalModel, settings: Any) -> str | list[str] | None:
        """Which parameters are trained where whole weights are: a pattern, names, or None for all."""
        return getattr(settings, "parameters", None)

    def weights(self, model: MultimodalModel, settings: TrainSettings, seed: int) -> AbstractContextManager[Trainable]:
        """Adapters or whole weights, opened for training, as the settings say."""
        if isinstance(settings, TunedSettings) and settings.trainable == "lora":
            return adapters(model.hf, settings.lora, derived_seed(seed, "adapters"))
        return whole_weights(model.hf, self.parameters(model, settings))

    def make(
        self,
        model: MultimodalModel,
        request: Request,
        *,
        settings: MethodSettings | Mapping[str, Any] | None = None,
        folder: Path | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Product:
        """See `Method.make`. A product that stands in `folder` already, of this very training, is read back."""
        chosen = checked(self.settings, settings)
        assert isinstance(chosen, TrainSettings)
        require_bare(model.hf)
        if intercepted(model) or intercepted(model.prompts):
            raise InputError("the model wears a system prompt or a block list: detach it before training")
        request.validate()
        data = self.data(model, request, chosen, seed)
        fingerprint = model.fingerprint()
        digest = run_digest(self.name, chosen, seed, fingerprint, data)
        work = WorkFolder(folder, digest)
        done = _finished(work)
        if done is not None:
            return done
        with borrowed(model.hf):
            model.hf.eval()
            prepared = work.prepared(lambda: self.prepare(model, data, chosen))
        with self.weights(model, chosen, seed) as trainable:
            session = Session(model, data, chosen, trainable, seed)
            objective = self.objective(session, prepared)
            steps = self.plan(session)
            session.measures.update(
                train(model.hf, trainable, objective, steps, chosen, work=work, seed=seed, progress=progress)
            )
            product = build(self.name, model, session, fingerprint, digest)
        if work.product is not None:
            product.save_pretrained(work.product)
            work.clear()
        return product


def build(method: str, model: MultimodalModel, session: Session, fingerprint: str, digest: str) -> Product:
    """The product of what the training left in the model.

    Raises:
        InputError: If nothing moved.
    """
    settings = session.settings
    lora = settings.lora if isinstance(settings, TunedSettings) and settings.trainable == "lora" else None
    now = session.trainable.parameters
    pairs = {
        name.removesuffix(".lora_A"): (one, now[name.removesuffix("A") + "B"])
        for name, one in now.items()
        if lora is not None and name.endswith(".lora_A")
    }
    active = {
        name: (down.detach().cpu().clone(), up.detach().cpu().clone())
        for name, (down, up) in pairs.items()
        if bool(up.detach().ne(0).any())
    }
    tensors = adapter_tensors(active) if lora is not None else moved(session.trainable)
    if not tensors:
        raise InputError(f"{method} moved no weight: raise the learning rate or the number of steps")
    config = ProductConfig(
        package_version=__version__,
        kind="weights" if lora is None else "adapter",
        method=method,
        variant=getattr(settings, "variant", None),
        settings=settings.model_dump(mode="json"),
        seed=session.seed,
        base_model=model.name,
        revision=model.revision,
        fingerprint=fingerprint,
        run_digest=digest,
        rank=None if lora is None else lora.rank,
        alpha=None if lora is None else lora.alpha,
        measures=session.measures,
    )
    return (WeightProduct if lora is None else AdapterProduct)(config, tensors)


def run_digest(name: str, settings: MethodSettings, seed: int, fingerprint: str, data: TrainingData) -> str:
    """SHA-256 (hex) over what decides a training; how often its state is saved does not count."""
    groups = (data.forget, data.retain, data.preserved)
    sides = [[[item.sample.digest(), item.answer] for item in group] for group in groups]
    content = [name, settings.model_dump(mode="json", exclude={"save_every"}), seed, fingerprint, sides]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _finished(work: WorkFolder) -> Product | None:
    from mllmeraser.methods.loading import load_product

    if work.product is None or not work.product.exists():
        return None
    product = load_product(work.product)
    if product.config.run_digest != work.digest:
        raise InputError(f"{work.product} is the product of another training: choose another folder")
    return product
