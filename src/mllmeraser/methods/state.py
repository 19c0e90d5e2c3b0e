"""Files of a training that can be resumed: one safetensors file for each state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from mllmeraser.samples.errors import ArtifactError, InputError
from mllmeraser.samples.files import write_whole

STATE_FILE = "training_state.safetensors"
PREPARED_FILE = "prepared.safetensors"
PRODUCT = "product"


class WorkFolder:
    """The folder of one training; without a folder nothing is kept.

    Each file holds the digest of its run. The folder of another training is refused and never overwritten.
    """

    def __init__(self, folder: Path | None, digest: str) -> None:
        """Use `folder` for the run `digest`; create it if necessary.

        Raises:
            InputError: It cannot be created or is a file.
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
        """Path of the finished product."""
        return None if self.folder is None else self.folder / PRODUCT

    def save_state(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Replace the state by that after `step` steps."""
        self._write(STATE_FILE, tensors, step)

    def load_state(self) -> tuple[dict[str, Tensor], int] | None:
        """Tensors and number of steps of the last saved state, or None.

        Raises:
            ArtifactError: It is corrupt, or belongs to another run.
        """
        return self._read(STATE_FILE)

    def prepared(self, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the result of `make`, computed once for each run and read from its file after a resume."""
        saved = self._read(PREPARED_FILE)
        if saved is not None:
            return saved[0]
        tensors = make()
        if tensors:
            self._write(PREPARED_FILE, tensors, 0)
        return tensors

    def clear(self) -> None:
        """Remove the state of a finished training; the product stays."""
        if self.folder is not None:
            for name in (STATE_FILE, PREPARED_FILE):
                (self.folder / name).unlink(missing_ok=True)

    def _write(self, name: str, tensors: Mapping[str, Tensor], step: int) -> None:
        if self.folder is not None:
            whole = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
            data = save_tensors(whole, {"run_digest": self.digest, "step": str(step)})
            write_whole(self.folder / name, data, force=True)

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
            raise ArtifactError(
                f"{file} belongs to another training (settings, seed, model or data): choose another folder"
            )
        return tensors, step
