"""Files of a training that can be resumed: one safetensors file a state, written beside and renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from mllmeraser.samples.errors import ArtifactError, InputError

STATE_FILE = "training_state.safetensors"
PREPARED_FILE = "prepared.safetensors"
PRODUCT = "product"


class WorkFolder:
    """Where one training keeps what it needs to go on; without a folder, nothing is kept.

    All files carry the digest of the run: a folder of another training is refused, never overwritten.
    """

    def __init__(self, folder: Path | None, digest: str) -> None:
        """Use `folder`, made if need be, for the run `digest`.

        Raises:
            InputError: If it cannot be made or is a file.
        """
        self.folder = None if folder is None else Path(folder)
        self.digest = digest
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"{folder} cannot hold the training's state ({error.strerror})") from error

    @property
    def product(self) -> Path | None:
        """Where the finished product goes."""
        return None if self.folder is None else self.folder / PRODUCT

    def save_state(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Replace the state by that after `step` steps."""
        self._write(STATE_FILE, tensors, step)

    def load_state(self) -> tuple[dict[str, Tensor], int] | None:
        """Tensors and number of steps of the last state saved, or None.

        Raises:
            ArtifactError: If it is corrupt, or of another run.
        """
        return self._read(STATE_FILE)

    def prepared(self, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What `make` gives, made once per run: after a resume it is read back, not computed again."""
        found = self._read(PREPARED_FILE)
        if found is not None:
            return found[0]
        tensors = make()
        if tensors:
            self._write(PREPARED_FILE, tensors, 0)
        return tensors

    def clear(self) -> None:
        """Remove the state of a finished training; the product stays."""
        for name in (STATE_FILE, PREPARED_FILE) if self.folder is not None else ():
            (self.folder / name).unlink(missing_ok=True)  # type: ignore[operator]

    def _write(self, name: str, tensors: Mapping[str, Tensor], step: int) -> None:
        if self.folder is None:
            return
        data = save_tensors(
            {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()},
            {"run_digest": self.digest, "step": str(step)},
        )
        handle, beside = tempfile.mkstemp(prefix=f".{name}.", dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(beside, self.folder / name)
        finally:
            Path(beside).unlink(missing_ok=True)

    def _read(self, name: str) -> tuple[dict[str, Tensor], int] | None:
        if self.folder is None or not (self.folder / name).is_file():
            return None
        file = self.folder / name
        try:
            with safe_open(file, framework="pt") as content:
                metadata = content.metadata() or {}
                tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
            step = int(metadata["step"])
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise ArtifactError(f"{file}: corrupt ({error}); remove it to start the training again") from error
        if metadata.get("run_digest") != self.digest:
            raise ArtifactError(f"{file}: of another training (settings, seed, model or data): choose another folder")
        return tensors, step
