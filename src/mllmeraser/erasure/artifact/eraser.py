"""The `Eraser`: the small, detachable artifact. Directions, gates, and a manifest that says how to use them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from mllmeraser.erasure.artifact import hub
from mllmeraser.erasure.artifact.manifest import CONFIG_FILE, TENSOR_FILE, TOKEN_KINDS, EraserConfig, Reply
from mllmeraser.erasure.artifact.model_card import card_of
from mllmeraser.erasure.artifact.remove_subject import without
from mllmeraser.erasure.gates import Gate
from mllmeraser.erasure.gates.tensor_pool import shared
from mllmeraser.erasure.policy import Action
from mllmeraser.erasure.steering import SteeringAttachment, SteeringPlan
from mllmeraser.models.families import family_for
from mllmeraser.models.fingerprint import fingerprint, precision_of
from mllmeraser.models.intervention import Intervention
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import ArtifactError, InputError
from mllmeraser.samples.files import whole_folder


@dataclass(frozen=True, repr=False)
class Eraser(Intervention):
    """A fitted eraser. Immutable: `without` and `replace_config` return new ones.

    Attributes:
        config: The manifest.
        tensors: Tensors by name, float32 or float16 (see `TensorSpec`). `direction.{layer}` (d,) for every shift layer.
            `gate.{layer}.{part}` for every read layer (see `Gate`). `share.{layer}` (subjects, d), the part of each
            subject in a direction. `calibration.tail` (m, subjects), the highest scores of held-out retain prompts.
            `token_kinds` (vocabulary,) uint8, which tokens begin a name.
    """

    config: EraserConfig
    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        """Refuse tensors that are missing, of another size, or not finite."""
        width, subjects = self.config.hidden_size, len(self.config.subjects)
        for layer in self.config.shift_layers:
            if self.direction(layer).shape != (width,):
                raise ArtifactError(f"direction.{layer} is not of the model's width {width}")
        for layer in self.config.read_layers:
            gate = self.gate(layer)
            if (gate.subjects, gate.width) != (subjects, width):
                raise ArtifactError(f"gate.{layer} is not made for {subjects} subject(s) and width {width}")
        prefixes = tuple(f"gate.{layer}." for layer in self.config.read_layers)
        stray = [name for name in self.tensors if name.startswith("gate.") and not name.startswith(prefixes)]
        if stray:
            raise ArtifactError(f"{stray[0]} is a tensor of no gate of this eraser: its files do not belong together")
        bad = [name for name, tensor in self.tensors.items() if not bool(torch.isfinite(tensor).all())]
        if bad:
            raise ArtifactError(f"{bad[0]} holds NaN or infinite values: fit the eraser again")

    def __repr__(self) -> str:
        config = self.config
        return f"Eraser({self.name}, subjects={len(config.subjects)}, policy={config.policy.name!r})"

    def direction(self, layer: int) -> Tensor:
        """(d,) float32 direction of a shift layer."""
        name = f"direction.{layer}"
        if name not in self.tensors:
            raise ArtifactError(f"the eraser has no tensor {name}")
        return self.tensors[name]

    def gate(self, layer: int) -> Gate:
        """The gates of all subjects at a read layer, float32. Erasers of one model share equal tensors."""
        prefix = f"gate.{layer}."
        parts = {name[len(prefix) :]: t for name, t in self.tensors.items() if name.startswith(prefix)}
        if not parts:
            raise ArtifactError(f"the eraser has no gate at layer {layer}")
        gate = self.config.gate_class(layer).from_stored(parts, self.config.gate)
        common = [s.name for s in gate.specs() if not s.per_subject and s.name in gate.tensors]
        return gate.with_tensors(**{name: shared(gate.tensors[name]) for name in common})

    @property
    def nbytes(self) -> int:
        """Size of the tensors in bytes."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def check_model(self, model: Any) -> None:
        """Make sure that `model`, ours or a plain transformers model, is the one the eraser was fitted on.

        Raises:
            ArtifactError: Its depth, width, weights or (where `model` is ours) chat format differ.
        """
        hf, base = getattr(model, "hf", model), self.config.base_model
        text: Any = getattr(hf.config, "text_config", hf.config)
        shape = (int(text.num_hidden_layers), int(text.hidden_size))
        expected = (self.config.num_layers, self.config.hidden_size)
        if shape != expected:
            raise ArtifactError(
                f"the eraser was made for {base} ({expected[0]} layers of width {expected[1]}), "
                f"not for a model of {shape[0]} layers of width {shape[1]}"
            )
        if fingerprint(hf) != self.config.fingerprint:
            made, here = self.config.dtype, precision_of(hf)
            if made != here:
                raise ArtifactError(
                    f"the eraser was made for {base} in {made}, and this model is in {here}: load it in {made}, or fit "
                    "the eraser again on this one"
                )
            raise ArtifactError(f"the eraser was made for {base}, and this model has other weights: fit it again")
        if isinstance(model, MultimodalModel) and model.prompt_hash() != self.config.prompt_hash:
            raise ArtifactError(f"the eraser was made for {base} with another chat format or tokenizer: fit it again")

    @property
    def name(self) -> str:
        """Short digest by which the rows of a batch select this eraser among several."""
        return self.digest()[:12]

    def plan(self, model: Any, name: str | None = None) -> SteeringPlan:
        """What steering needs of the eraser, after `check_model`; `name` replaces the short digest."""
        self.check_model(model)
        config, hf = self.config, getattr(model, "hf", model)
        return SteeringPlan(
            name=name or self.name,
            read_layers=config.read_layers,
            shift_layers=config.shift_layers,
            directions={layer: self.direction(layer) for layer in config.shift_layers},
            gates={layer: self.gate(layer) for layer in config.read_layers},
            policy=config.policy,
            strength=config.strength,
            threshold=config.threshold or 0.0,
            image_token=family_for(hf.config, hf).image_token_id(hf) if config.policy.pooling == "subject" else None,
            turns=config.turns,
            token_kinds=self.tensors.get(TOKEN_KINDS),
            reply=self._reply(hf),
        )

    def _reply(self, hf: Any) -> tuple[int, ...]:
        reply = self.config.reply if self.config.policy.replies else None
        if reply is None:
            return ()
        size = int(family_for(hf.config, hf).text_config(hf).vocab_size)
        if not all(0 <= token < size for token in reply.tokens):
            raise ArtifactError(f"the reply of the eraser has tokens outside the model's vocabulary of {size}")
        return reply.tokens

    def attach(self, model: Any) -> SteeringAttachment:
        """Attach to `model` until the returned handle is detached. See `steering.attach_all`."""
        from mllmeraser.erasure.steering import attach_all

        return attach_all(model, [self])

    def without(self, subject_key: str) -> Eraser:
        """The eraser without one subject: no gate of it, and no share in direction and threshold.

        Raises:
            InputError: There is no such subject, it is the only one, or one gate serves all subjects.
        """
        return Eraser(*without(self.config, self.tensors, self.digest(), subject_key))

    def replace_config(self, **changes: Any) -> Eraser:
        """The same tensors under a changed manifest, which is validated."""
        return Eraser(EraserConfig.model_validate({**dict(self.config), **changes}), self.tensors)

    def with_action(self, action: Action, reply: Reply | None = None) -> Eraser:
        """The same eraser with another action, and another sentence if one is given (see `calibration.reply`).

        Raises:
            InputError: It has no sentence to reply with, or its policy cannot reply.
        """
        policy, said = replace(self.config.policy, action=action), reply or self.config.reply
        if policy.replies and said is None:
            raise InputError(
                "this eraser has no sentence to reply with: give one, or fit it with an action that replies"
            )
        return self.replace_config(policy=policy, reply=said)

    def digest(self) -> str:
        """SHA-256 of the tensor file as which this eraser is saved."""
        return hashlib.sha256(self._bytes()).hexdigest()

    def _bytes(self) -> bytes:
        return save_tensors({k: self.tensors[k].detach().cpu().contiguous() for k in sorted(self.tensors)})

    def save_pretrained(self, directory: str | os.PathLike[str]) -> Path:
        """Write `eraser_config.json` and `eraser_model.safetensors`, both or none. An older eraser there is replaced.

        Raises:
            InputError: `directory` exists and is something else.
        """
        target = Path(directory)
        if target.exists() and not (target / CONFIG_FILE).is_file() and (not target.is_dir() or any(target.iterdir())):
            raise InputError(f"{target} exists and is not an eraser: choose another folder")
        data = self._bytes()
        config = self.config.model_copy(update={"tensors_sha256": hashlib.sha256(data).hexdigest()})
        with whole_folder(target, force=True) as fresh:
            fresh.mkdir()
            (fresh / TENSOR_FILE).write_bytes(data)
            (fresh / CONFIG_FILE).write_text(config.to_json(), encoding="utf-8")
        return target

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str], *, revision: str | None = None) -> Eraser:
        """Load an eraser from a folder, or from a repository of the hub if there is no such folder.

        Raises:
            ArtifactError: It is missing, corrupt, truncated, inconsistent or of a newer format.
        """
        folder = Path(source) if Path(source).is_dir() else hub.fetch(str(source), revision)
        return cls.from_files(read_files(folder, str(source)), str(folder))

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], source: str = "eraser") -> Eraser:
        """An eraser from the content of its two files, by name; errors call the place `source`.

        Raises:
            ArtifactError: One is missing, corrupt, truncated, inconsistent or of a newer format.
        """
        for name in (CONFIG_FILE, TENSOR_FILE):
            if name not in files:
                raise ArtifactError(f"{source}: not an eraser, {name} is missing")
        config_file, tensor_file, data = f"{source}/{CONFIG_FILE}", f"{source}/{TENSOR_FILE}", files[TENSOR_FILE]
        try:
            config = EraserConfig.from_json(files[CONFIG_FILE].decode(), config_file)
        except UnicodeDecodeError as error:
            raise ArtifactError(f"{config_file}: cannot be read ({error})") from error
        if hashlib.sha256(data).hexdigest() != config.tensors_sha256:
            raise ArtifactError(f"{tensor_file}: corrupt or truncated, its checksum is not the one of the manifest")
        try:
            return cls(config, load_tensors(data))
        except (SafetensorError, InputError) as error:
            raise ArtifactError(f"{tensor_file}: {error}") from error

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload to a model repository of the Hugging Face hub; see `artifact.hub.push`."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = self.save_pretrained(Path(scratch) / "eraser")
            (folder / hub.CARD_FILE).write_text(card_of(self.config, repo_id), encoding="utf-8")
            return hub.push(folder, repo_id, private=private, token=token)


def read_files(folder: Path, source: str) -> dict[str, bytes]:
    """The content of the two files of an eraser, by name; a missing one is left out.

    Raises:
        ArtifactError: One cannot be read.
    """
    try:
        return {name: (folder / name).read_bytes() for name in (CONFIG_FILE, TENSOR_FILE) if (folder / name).is_file()}
    except OSError as error:
        raise ArtifactError(f"{source}: cannot be read ({error})") from error
