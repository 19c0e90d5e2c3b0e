"""Several processes that make one eraser together: who they are, and what they have to agree on.

Started by `torchrun`, or by anything else that sets the variables of `torch.distributed` (`accelerate launch`, a Slurm
script). They speak through gloo, on the CPU, and only say what is to be done and that it is done: states go through the
work folder.
"""

from __future__ import annotations

import hashlib
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

PATIENCE = timedelta(minutes=30)
"""How long one process waits for the others, after its own equal share is done."""


class TeamError(MLLMEraserError):
    """Another process of the run has failed, or does something else."""


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of one run; as it stands, one alone.

    Attributes:
        rank: Number of this process.
        size: How many there are.
        local_rank: Number of this process on its machine: which GPU is its own.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process fits and writes; the others capture states only."""
        return self.rank == 0

    def device(self) -> str | None:
        """The GPU of this process, or None where one process has its choice, or there is none."""
        if self.size == 1 or not torch.cuda.is_available():
            return None
        return f"cuda:{self.local_rank % torch.cuda.device_count()}"

    def agree(self, what: Sequence[str]) -> None:
        """Make sure that all processes are about to do the same.

        Raises:
            TeamError: They are not, or one has failed.
        """
        if self.size == 1:
            return
        own = torch.tensor(list(hashlib.sha256("\n".join(what).encode()).digest()), dtype=torch.uint8)
        found = [torch.empty_like(own) for _ in range(self.size)]
        with _together(self.size):
            dist.all_gather(found, own)
        if any(not torch.equal(own, other) for other in found):
            raise TeamError(
                "the processes of this run were given different requests, models, settings or work folders: give all "
                "of them the same, and a work folder that every machine sees"
            )

    def as_first(self, flags: Sequence[bool]) -> list[bool]:
        """The flags of the first process, equally many everywhere.

        Raises:
            TeamError: Another process has failed.
        """
        if self.size == 1:
            return list(flags)
        told = torch.tensor(flags, dtype=torch.uint8)
        with _together(self.size):
            dist.broadcast(told, 0)
        return [bool(flag) for flag in told]

    def wait(self) -> None:
        """Until every process is here.

        Raises:
            TeamError: One has failed, or did not come for half an hour.
        """
        if self.size > 1:
            with _together(self.size):
                dist.all_reduce(torch.ones(1))


@contextmanager
def process_group(expected: int | None = None) -> Iterator[ProcessGroup]:
    """The team that this process was started in, for the time of the block; alone, if it was started alone.

    Args:
        expected: How many processes there have to be: a launcher that quietly starts only one is found out.

    Raises:
        InputError: There are more, or fewer.
        TeamError: The processes do not find one another; inside the block, when another one has failed.
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
    with _told_of_the_end(size):
        try:
            dist.init_process_group("gloo", timeout=PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise TeamError(f"the {size} processes of this run do not find one another: {error}") from error
        try:
            yield ProcessGroup(dist.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))
        finally:
            dist.destroy_process_group()


@contextmanager
def _together(size: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo: a connection closed by the other side, a time-out
        raise _broken(size) from error


def _broken(size: int) -> TeamError:
    return TeamError(
        f"another of the {size} processes of this run has failed or does not answer; batches that were finished are "
        "kept in the work folder: start the same command again to go on"
    )


@contextmanager
def _told_of_the_end(size: int) -> Iterator[None]:
    """A launcher ends the others with SIGTERM when one has failed: that is said, and not just died of."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise _broken(size)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
