"""The result of a training: tensors with a manifest, saved as a folder."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar
from weakref import WeakKeyDictionary

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from mllmeraser.models.fingerprint import fingerprint
from mllmeraser.models.intervention import Attachment, Intervention, unwrap
from mllmeraser.samples.errors import ArtifactError, AttachError, InputError
from mllmeraser.samples.files import whole_folder
from mllmeraser.samples.sealed import sealed, unsealed
from mllmeraser.samples.validation import first_fault

FORMAT_VERSION: Literal[1] = 1
CONFIG_FILE = "product_config.json"

Self = TypeVar("Self", bound="Product")

CHANGED: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
"""Models with weights of a product in place of their own, and the method of that product."""


class ProductConfig(BaseModel):
    """The manifest. It contains no name, question or answer of any person.

    Attributes:
        revision: Commit of the trained model, if known.
        fingerprint: Fingerprint of its weights (see `models.fingerprint`).
        run_digest: SHA-256 over settings, seed, weights and data; equal for repetitions of one training.
        alpha: The scale of the adapters is alpha / rank.
        measures: Measurements of the training, for example the share of a mask.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = FORMAT_VERSION
    package_version: str
    kind: Literal["adapter", "weights"]
    method: str
    variant: str | None = None
    settings: dict[str, Any] = {}
    seed: int = 0
    base_model: str
    revision: str | None = None
    fingerprint: str
    run_digest: str = ""
    rank: int | None = Field(default=None, ge=1)
    alpha: float | None = None
    measures: dict[str, float] = {}
    tensors_sha256: str = ""


@dataclass(frozen=True, eq=False)
class Product(Intervention, ABC):
    """A trained Intervention: the manifest, and the tensors by name, on the CPU."""

    config: ProductConfig
    tensors: Mapping[str, Tensor]

    kind: ClassVar[str]
    tensor_file: ClassVar[str]

    def __post_init__(self) -> None:
        """Refuse tensors that cannot be used."""
        if self.config.kind != self.kind:
            raise ArtifactError(f"this is a product of kind {self.config.kind!r}, not {self.kind!r}")
        if not self.tensors:
            raise ArtifactError(f"a product of {self.config.method} without tensors changes nothing: train again")
        bad = [name for name, tensor in self.tensors.items() if not bool(torch.isfinite(tensor).all())]
        if bad:
            raise ArtifactError(f"{bad[0]} holds NaN or infinite values: train again with a lower learning rate")

    @abstractmethod
    def attach(self, model: Any) -> Attachment:
        """Attach until the returned handle is detached; the model is then bit for bit as before.

        Raises:
            AttachError: `model` has other weights, or a name or shape does not fit. The model is unchanged.
        """

    def base(self, model: Any) -> nn.Module:
        """The transformers model inside `model`; an AttachError if its weights are not those of the training."""
        hf = unwrap(model)
        if hf in CHANGED:
            raise AttachError(f"{CHANGED[hf]} has changed the weights of this model: detach its product first")
        if fingerprint(hf) != self.config.fingerprint:
            raise AttachError(
                f"this product of {self.config.method} was made for {self.config.base_model}, and this model has "
                "other weights: train again on this one"
            )
        return hf

    @property
    def nbytes(self) -> int:
        """Size of the tensors in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def save_pretrained(self, directory: str | os.PathLike[str]) -> Path:
        """Write manifest and tensors to a new folder, whole or not at all.

        Raises:
            InputError: `directory` exists already or is not writable.
        """
        data = save_tensors({name: self.tensors[name].detach().cpu().contiguous() for name in sorted(self.tensors)})
        config = self.config.model_copy(update={"tensors_sha256": hashlib.sha256(data).hexdigest()})
        text = json.dumps(sealed(config.model_dump(mode="json")), indent=2, sort_keys=True) + "\n"
        with whole_folder(Path(directory)) as folder:
            folder.mkdir()
            (folder / self.tensor_file).write_bytes(data)
            for name, content in {CONFIG_FILE: text, **self.more_files()}.items():
                (folder / name).write_text(content, encoding="utf-8")
        return Path(directory)

    def more_files(self) -> dict[str, str]:
        """Name and text of further files, for other programs."""
        return {}

    @classmethod
    def from_pretrained(cls: type[Self], directory: str | os.PathLike[str]) -> Self:
        """Read a folder that `save_pretrained` wrote.

        Raises:
            ArtifactError: It is missing, corrupt, truncated, inconsistent, of a newer format or of another kind.
        """
        config = read_config(directory)
        file = Path(directory) / cls.tensor_file
        if config.kind != cls.kind:
            raise ArtifactError(f"{directory}: a product of kind {config.kind!r}, not {cls.kind!r}")
        try:
            data = file.read_bytes()
        except OSError as error:
            raise ArtifactError(f"{file}: cannot be read ({error.strerror or error})") from error
        if hashlib.sha256(data).hexdigest() != config.tensors_sha256:
            raise ArtifactError(f"{file}: corrupt or truncated, its checksum is not the one of the manifest")
        try:
            return cls(config.model_copy(update={"tensors_sha256": ""}), load_tensors(data))
        except (SafetensorError, InputError) as error:
            raise ArtifactError(f"{file}: {error}") from error


def read_config(directory: str | os.PathLike[str]) -> ProductConfig:
    """The manifest of a saved product; an ArtifactError if it is missing, malformed, or of a newer format."""
    file = Path(directory) / CONFIG_FILE
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{directory}: no product of a method, {CONFIG_FILE} cannot be read") from error
    except ValueError as error:
        raise ArtifactError(f"{file}: not JSON ({error})") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise ArtifactError(f"{file}: not the configuration of a product")
    if version > FORMAT_VERSION:
        raise ArtifactError(f"{file}: format {version} is newer than this package reads: upgrade mllmeraser")
    try:
        return ProductConfig.model_validate(unsealed(content, str(file)))
    except ValidationError as error:
        raise ArtifactError(f"{file}: {first_fault(error, 'configuration')}") from error


def require_bare(hf: nn.Module) -> None:
    """Raise an InputError if an intervention or an adapter of PEFT is attached: the training would include it."""
    if hf in CHANGED:
        raise InputError(f"{CHANGED[hf]} has changed the weights of this model: detach its product before training")
    if getattr(hf, "peft_config", None):
        raise InputError("the model contains adapters of PEFT: unload them before training")
    hooks = (hook for one in hf.modules() for hook in (*one._forward_hooks.values(), *one._forward_pre_hooks.values()))
    if any(str(getattr(hook, "__module__", "")).startswith("mllmeraser.") for hook in hooks):
        raise InputError("an eraser or an adapter is attached to the model: detach it before training")
