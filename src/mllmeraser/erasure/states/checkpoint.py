"""Captured batches in a work folder: an interrupted run continues there, and several processes share the work.

Each batch is one safetensors file. Its name is a digest of all that the batch depends on: prompts, weights, prompt
format, layers, settings. The files hold states and token ids of prompts, also about the people to forget.
Only the owner may read the folder, and the files are deleted once the eraser is made.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mllmeraser.erasure.states.capture_job import Job
from mllmeraser.erasure.states.processes import ProcessGroup
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.progress import Progress, counting

SUFFIX = ".states.safetensors"
PARTIAL = ".states.partial"
MARK = "met.states.partial"
Say = Callable[[str], None]


class CaptureCheckpoint:
    """The captured batches of one run in one folder."""

    def __init__(self, folder: str | Path, say: Say | None = None) -> None:
        """Use `folder` for one run at a time, and create it if needed; all processes of the run must see it.

        `say` receives lines about batches that are reused or ignored. A folder that cannot be used is an `InputError`.
        """
        self.folder = Path(folder)
        self._say = say or (lambda _line: None)
        self._known: set[str] = set()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder} cannot be a work folder: {error.strerror or error}") from error
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise InputError(f"{folder} cannot be a work folder: no permission to write there")

    def batch(self, job: Job, number: int) -> Mapping[str, Tensor]:
        """Return the tensors of one batch, mapped from its file; a missing file is captured first."""
        digest = job.digests[number]
        if number == 0:
            there = sum(self._path(each).exists() for each in job.digests)
            self._say(f"{there} of {len(job.digests)} batches are in {self.folder} already")
        self._known.add(digest)
        tensors = self._load(digest)
        if tensors is None:
            self._save(digest, job.run(number))
            tensors = self._load(digest)
        if tensors is None:
            raise InputError(f"the file just written to {self.folder} cannot be read: is the disk full?")
        return tensors

    def share(self, job: Job, processes: ProcessGroup, progress: Progress | None = None) -> None:
        """Capture this process's share of the missing batches; return when all processes are done."""
        self._meet(processes)
        processes.check_agreement(job.digests)
        missing = processes.from_first([processes.first and self._load(digest) is None for digest in job.digests])
        mine = [number for number, gone in enumerate(missing) if gone][processes.rank :: processes.size]
        count = counting(progress, job.stage, sum(len(job.plan[number]) for number in mine))
        for number in mine:
            self._save(job.digests[number], job.run(number))
            count(len(job.plan[number]))
        processes.wait()

    def clear(self) -> None:
        """Delete all batches in the folder, of any run, and the folder itself if it is then empty."""
        for path in self._files():
            path.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def report_ignored(self) -> None:
        """Say how many batches in the folder this run did not use."""
        others = sum(path.name.removesuffix(SUFFIX) not in self._known for path in self._files())
        if others:
            self._say(f"{others} batches in {self.folder} are ignored: of other prompts, another model or settings")

    def _meet(self, processes: ProcessGroup) -> None:
        """Check early that all processes see the same folder."""
        mark = self.folder / MARK
        if processes.first:
            mark.write_text(secrets.token_hex(16), encoding="utf-8")
        processes.wait()
        processes.check_agreement([mark.read_text(encoding="utf-8") if mark.exists() else "nothing"])
        if processes.first:
            mark.unlink()

    def _files(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if path.name.endswith((SUFFIX, PARTIAL))]

    def _path(self, digest: str) -> Path:
        return self.folder / f"{digest}{SUFFIX}"

    def _load(self, digest: str) -> dict[str, Tensor] | None:
        path = self._path(digest)
        if not path.exists():
            return None
        try:
            with safe_open(str(path), framework="pt") as file:
                if (file.metadata() or {}).get("digest") != digest:
                    raise ValueError("it holds another batch")
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError) as error:
            self._say(f"{path.name} is ignored, it cannot be used ({error})")
            path.unlink(missing_ok=True)
            return None

    def _save(self, digest: str, tensors: Mapping[str, Tensor]) -> None:
        beside = self.folder / f"{digest}.{os.getpid()}{PARTIAL}"
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside, {"digest": digest})
        os.replace(beside, self._path(digest))


def captured(
    job: Job, checkpoint: CaptureCheckpoint | None, progress: Progress | None = None
) -> Iterator[tuple[Sequence[int], Mapping[str, Tensor]]]:
    """Yield row numbers and tensors of every batch, in order; with `checkpoint` they are kept and reused."""
    count = counting(progress, job.stage, len(job.samples))
    for number, rows in enumerate(job.plan):
        yield rows, job.run(number) if checkpoint is None else checkpoint.batch(job, number)
        count(len(rows))


@contextmanager
def work_folder(
    folder: Path | None, processes: ProcessGroup | None = None, *, keep: bool = False, say: Say | None = None
) -> Iterator[CaptureCheckpoint | None]:
    """Yield a checkpoint in `folder`, or None without a folder.

    Its files are deleted when the block ends without an error, unless `keep` is set. After an error they stay for the
    next run. Only the first of several processes writes lines and deletes.
    """
    if folder is None:
        yield None
        return
    first = processes is None or processes.first
    checkpoint = CaptureCheckpoint(folder, say if first else None)
    yield checkpoint
    if first:
        checkpoint.report_ignored()
        if not keep:
            checkpoint.clear()
