"""The base of all training methods: open the model for training, train, restore the model, keep the product."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from torch import Tensor

from mllmeraser.methods.data import Item, Scored, Step, Stream, TrainingData, Variant, plan_steps, score
from mllmeraser.methods.interception import intercepted
from mllmeraser.methods.loop import Objective, WorkFolder, derived_seed, train
from mllmeraser.methods.losses import gradient_ascent, mean_nll
from mllmeraser.methods.method import BaseMethod, MethodSettings, Run
from mllmeraser.methods.product import Product, ProductConfig, require_bare
from mllmeraser.methods.product_kinds import PREFIX, AdapterProduct, WeightProduct, load_product
from mllmeraser.methods.settings import TrainSettings, TunedSettings
from mllmeraser.methods.trainable import Trainable, adapters, borrowed, moved, whole_weights
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.request import Request
from mllmeraser.version import __version__

Side = Literal["forget", "retain"]


@dataclass(frozen=True)
class Session:
    """One training, while the model is open for it. `measures` go to the manifest of the product."""

    model: MultimodalModel
    data: TrainingData
    settings: TrainSettings
    trainable: Trainable
    seed: int
    measures: dict[str, float] = field(default_factory=dict)

    def rows(self, side: Side, number: int) -> list[int]:
        """Row numbers of batch `number` of one side."""
        return self._stream(side).batch(number)

    def items(self, side: Side, number: int) -> list[Item]:
        """Batch `number` of one side."""
        return [getattr(self.data, side)[row] for row in self.rows(side, number)]

    def score(self, items: list[Item]) -> Scored:
        """Logits and targets under the weights in training."""
        return score(self.model, items, self.settings.loss_on)

    def loss(self, side: Side, number: int) -> Tensor:
        """Mean nll of batch `number` of one side: L_f or L_r."""
        return mean_nll(*self.score(self.items(side, number)))

    def ascent(self, number: int) -> Tensor:
        """-L_f of forget batch `number`."""
        return gradient_ascent(self.loss("forget", number))

    def descent(self, number: int) -> Tensor:
        """L_r of retain batch `number`."""
        return self.loss("retain", number)

    def plan(self, variant: Variant) -> list[Step]:
        """All steps of a variant."""
        batches = self._stream("forget").batches, self._stream("retain").batches
        return plan_steps(variant, *batches, epochs=self.settings.epochs, steps=self.settings.steps)

    def _stream(self, side: Side) -> Stream:
        return Stream(len(getattr(self.data, side)), self.settings.batch_size, self.seed, side)


class TrainedMethod(BaseMethod[Product]):
    """Base of the training methods. A method states its data, its objective and the order of its steps."""

    trained: ClassVar[bool] = True

    @abstractmethod
    def data(self, model: MultimodalModel, request: Request, settings: Any, seed: int) -> TrainingData:
        """Items with answers; an InputError if the request lacks something."""

    @abstractmethod
    def objective(self, session: Session, prepared: Mapping[str, Tensor]) -> Objective:
        """The loss; `prepared` is the result of `prepare`."""

    def plan(self, session: Session) -> list[Step]:
        """All optimizer steps; by default passes over the forget samples, each with a retain batch if there is any."""
        return session.plan("joint" if session.data.retain else "forget-only")

    def prepare(self, model: MultimodalModel, data: TrainingData, settings: Any) -> dict[str, Tensor]:
        """Tensors computed once from the original model; kept for a resume."""
        return {}

    def parameters(self, model: MultimodalModel, settings: Any) -> str | list[str] | None:
        """The trained parameters, if whole weights are trained: a pattern, names, or None for all."""
        return getattr(settings, "parameters", None)

    def weights(self, model: MultimodalModel, settings: TrainSettings, seed: int) -> AbstractContextManager[Trainable]:
        """Adapters or whole weights, open for training, according to the settings."""
        if isinstance(settings, TunedSettings) and settings.trainable == "lora":
            return adapters(model.hf, settings.lora, derived_seed(seed, "adapters"))
        return whole_weights(model.hf, self.parameters(model, settings))

    def build(self, model: MultimodalModel, request: Request, settings: Any, run: Run) -> Product:
        """Train, or read the finished product of the same training from the folder."""
        assert isinstance(settings, TrainSettings)
        require_bare(model.hf)
        if intercepted(model) or intercepted(model.prompts):
            raise InputError("a system prompt or a block list is attached to the model: detach it before training")
        data = self.data(model, request, settings, run.seed)
        fingerprint = model.fingerprint()
        digest = run_digest(self.name, settings, run.seed, fingerprint, data)
        work = WorkFolder(run.folder, digest)
        done = _finished(work)
        if done is not None:
            return done
        with borrowed(model.hf):
            model.hf.eval()
            prepared = work.prepared(lambda: self.prepare(model, data, settings))
        with self.weights(model, settings, run.seed) as trainable:
            session = Session(model, data, settings, trainable, run.seed)
            objective = self.objective(session, prepared)
            session.measures.update(train(model.hf, trainable, objective, self.plan(session), settings, work, run))
            product = product_of(self.name, model, session, fingerprint, digest)
        if work.product is not None:
            product.save_pretrained(work.product)
            work.clear()
        return product


def product_of(method: str, model: MultimodalModel, session: Session, fingerprint: str, digest: str) -> Product:
    """Collect the changes that the training made in the model; an InputError if nothing moved."""
    settings = session.settings
    lora = settings.lora if isinstance(settings, TunedSettings) and settings.trainable == "lora" else None
    tensors = moved(session.trainable) if lora is None else _moved_adapters(session.trainable)
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


def _moved_adapters(trainable: Trainable) -> dict[str, Tensor]:
    """The adapters with a B other than zero, under PEFT's names."""
    parameters = {name: one.detach().cpu().clone() for name, one in trainable.parameters.items()}
    layers = {name[:-1] for name, one in parameters.items() if name.endswith(".lora_B") and bool(one.ne(0).any())}
    return {f"{PREFIX}{name}.weight": one for name, one in parameters.items() if name[:-1] in layers}


def run_digest(name: str, settings: MethodSettings, seed: int, fingerprint: str, data: TrainingData) -> str:
    """SHA-256 (hex) over everything that decides a training; `save_every` does not."""
    groups = (data.forget, data.retain, data.preserved)
    sides = [[[item.sample.digest(), item.answer] for item in group] for group in groups]
    content = [name, settings.model_dump(mode="json", exclude={"save_every"}), seed, fingerprint, sides]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _finished(work: WorkFolder) -> Product | None:
    if work.product is None or not work.product.exists():
        return None
    product = load_product(work.product)
    if product.config.run_digest != work.digest:
        raise InputError(f"{work.product} is the product of another training: choose another folder")
    return product
