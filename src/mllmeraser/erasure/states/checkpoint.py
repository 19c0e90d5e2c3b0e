"""Captured batches in a work folder: a run that was killed goes on where it was, several processes share the work.

A shard is one batch in one safetensors file, named by a digest of all that it depends on (prompts, weights, prompt
format, layers, settings), so that it is found where it fits and nowhere else. CaptureCheckpoint hold states and token ids of
prompts, those about the people to be forgotten among them: the folder is for its owner's eyes only, and what lies in
it is deleted once the eraser is made.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mllmeraser.erasure.states.capture_job import Job
from mllmeraser.erasure.states.processes import ProcessGroup
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Progress

SUFFIX = ".states.safetensors"
PARTIAL = ".states.partial"
MARK = "met.states.partial"
Say = Callable[[str], None]


class CaptureCheckpoint:
    """The captured batches of one run in one folder.

    Attributes:
        folder: Where they lie.
    """

    def __init__(self, folder: str | Path, say: Say | None = None) -> None:
        """Use `folder`, made if need be; one run at a time.

        Args:
            folder: Of this run alone. Several processes have to see the same.
            say: Told in one line what is found and what is ignored.

        Raises:
            InputError: The folder cannot be made, or written to.
        """
        self.folder = Path(folder)
        self._say = say or _silent
        self._known: set[str] = set()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be a work folder: {error.strerror or error}") from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise InputError(f"{folder} cannot be a work folder: no permission to write there")

    def of(self, job: Job, number: int) -> Mapping[str, Tensor]:
        """Tensors of one batch of a job, mapped from its file; read by the model and kept, if there is none that fits.

        Raises:
            NumericalError: A state is NaN or infinite.
        """
        if number == 0:
            self._tell(job)
        digest = job.digests[number]
        self._known.add(digest)
        found = self._load(digest)
        if found is None:
            self._save(digest, job.read(job.batch(number)))
            found = self._load(digest)
        if found is None:
            raise InputError(f"what was just written to {self.folder} cannot be read: is the disk full?")
        return found

    def share(self, job: Job, team: ProcessGroup, progress: Progress | None = None) -> None:
        """Capture this process's share of what is missing of a job; returns when all processes are done.

        Raises:
            NumericalError: A state is NaN or infinite.
            TeamError: Another process has failed, or does not do the same job.
        """
        self._meet(team)
        team.agree(job.digests)
        missing = team.as_first([team.first and self._load(digest) is None for digest in job.digests])
        mine = [number for number, gone in enumerate(missing) if gone][team.rank :: team.size]
        total, done = sum(len(job.plan[number]) for number in mine), 0
        for number in mine:
            self._save(job.digests[number], job.read(job.batch(number)))
            done += len(job.plan[number])
            if progress is not None:
                progress(job.stage, done, total)
        team.wait()

    def clear(self) -> None:
        """Delete every shard in the folder, whatever run it is of, and the folder if nothing else is in it."""
        for path in self._files():
            path.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def tell_ignored(self) -> None:
        """Say how many checkpoint in the folder did not fit this run."""
        others = sum(path.name.removesuffix(SUFFIX) not in self._known for path in self._files())
        if others:
            self._say(f"{others} batches in {self.folder} are ignored: of other prompts, another model or settings")

    def _meet(self, team: ProcessGroup) -> None:
        """Make sure that all processes see the same folder, before they work for hours."""
        mark = self.folder / MARK
        if team.first:
            mark.write_text(secrets.token_hex(16), encoding="utf-8")
        team.wait()
        team.agree([mark.read_text(encoding="utf-8") if mark.exists() else "nothing"])
        if team.first:
            mark.unlink()

    def _tell(self, job: Job) -> None:
        there = sum((self.folder / f"{digest}{SUFFIX}").exists() for digest in job.digests)
        self._say(f"{there} of {len(job.digests)} batches are in {self.folder} already")

    def _files(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.name.endswith((SUFFIX, PARTIAL))]

    def _load(self, digest: str) -> dict[str, Tensor] | None:
        path = self.folder / f"{digest}{SUFFIX}"
        if not path.exists():
            return None
        try:
            with safe_open(str(path), framework="pt") as file:
                if (file.metadata() or {}).get("digest") != digest:
                    raise ValueError("it is of something else")
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError) as error:
            self._say(f"{path.name} is ignored, it cannot be used ({error})")
            path.unlink(missing_ok=True)
            return None

    def _save(self, digest: str, tensors: Mapping[str, Tensor]) -> None:
        path = self.folder / f"{digest}{SUFFIX}"
        beside = self.folder / f"{digest}.{os.getpid()}{PARTIAL}"
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside, {"digest": digest})
        os.replace(beside, path)


@contextmanager
def work_folder(
    folder: Path | None, team: ProcessGroup | None = None, *, keep: bool = False, say: Say | None = None
) -> Iterator[CaptureCheckpoint | None]:
    """CaptureCheckpoint in a folder for the time of the block; None for no folder.

    They are deleted when the block ends well, unless they are to be kept; when it fails, they stay for the next run.
    Of several processes the first alone speaks and deletes.

    Raises:
        InputError: The folder cannot be used.
    """
    if folder is None:
        yield None
        return
    first = team is None or team.first
    checkpoint = CaptureCheckpoint(folder, say if first else None)
    yield checkpoint
    if first:
        checkpoint.tell_ignored()
    if first and not keep:
        checkpoint.clear()


def _silent(_line: str) -> None:
    """Nobody listens."""
