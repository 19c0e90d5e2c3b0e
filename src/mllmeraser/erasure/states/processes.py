"""The processes that make one eraser together, started by `torchrun`, `accelerate launch` or Slurm.

They connect by gloo, on the CPU, to coordinate the work only. States are exchanged through the work folder.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import NoReturn

import torch
import torch.distributed as dist

from mllmeraser.samples.errors import InputError, MLLMEraserError

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others after its own, equal share is done."""


class TeamError(MLLMEraserError):
    """Another process of the run has failed, or does something else."""


def all_equal(item: object, group: dist.ProcessGroup | None = None) -> bool:
    """Whether all processes of `group` (None: all) call this with equal items; every process must call it.

    A closed connection, or no answer in time, is a `RuntimeError`.
    """
    items: list[object] = [None] * dist.get_world_size(group)
    dist.all_gather_object(items, item, group)
    return all(other == item for other in items)


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of one run; by default a single one. Methods raise `TeamError` if another process has failed.

    `local_rank` is the number of this process on its machine, which selects its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process fits and writes; the others only capture states."""
        return self.rank == 0

    def device(self) -> str | None:
        """Return the GPU of this process; None for a single process, or without GPUs."""
        if self.size == 1 or not torch.cuda.is_available():
            return None
        return f"cuda:{self.local_rank % torch.cuda.device_count()}"

    def check_agreement(self, items: Sequence[str]) -> None:
        """Check that all processes are about to do the same."""
        with self._connected():
            equal = self.size == 1 or all_equal(list(items))
        if not equal:
            raise TeamError(
                "the processes of this run were given different requests, models, settings or work folders: give all "
                "of them the same, and a work folder that every machine sees"
            )

    def from_first(self, flags: Sequence[bool]) -> list[bool]:
        """Return the flags of the first process; every process passes equally many."""
        shared = list(flags)
        with self._connected():
            if self.size > 1:
                dist.broadcast_object_list(shared, 0)
        return shared

    def wait(self) -> None:
        """Wait until every process is here, for half an hour at most."""
        with self._connected():
            if self.size > 1:
                dist.barrier()

    @contextmanager
    def _connected(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # gloo: a connection closed by the other side, a time-out
            raise _failed(self.size) from error


@contextmanager
def process_group(expected: int | None = None) -> Iterator[ProcessGroup]:
    """Connect to the processes that were started with this one, for the time of the block.

    Raises:
        InputError: There are more processes than `expected`, or fewer: a launcher may have started only one.
        TeamError: The processes cannot connect; inside the block: another one has failed.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if expected is not None and expected != size:
        raise InputError(
            f"{expected} processes were asked for, and {size} started: "
            f"start them with torchrun --nproc-per-node {expected} -m mllmeraser ..."
        )
    if size == 1:
        yield ProcessGroup()
        return
    with _sigterm_as_error(size):
        try:
            dist.init_process_group("gloo", timeout=TIMEOUT)
        except (RuntimeError, ValueError) as error:
            raise TeamError(f"the {size} processes of this run cannot connect to one another: {error}") from error
        try:
            yield ProcessGroup(dist.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))
        finally:
            dist.destroy_process_group()


def _failed(size: int) -> TeamError:
    return TeamError(
        f"another of the {size} processes of this run has failed or does not answer; batches that were finished are "
        "kept in the work folder: start the same command again to go on"
    )


@contextmanager
def _sigterm_as_error(size: int) -> Iterator[None]:
    """Turn the launcher's SIGTERM, sent when another process has failed, into a `TeamError`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise _failed(size)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
