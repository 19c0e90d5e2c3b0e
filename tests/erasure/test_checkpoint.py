"""Captured batches in a work folder are reused where they fit, nowhere else, and deleted in the end."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from test_identity_fit import identity_request, identity_settings
from worlds import quick, small_request

from mllmeraser.erasure import Eraser, FitSettings, fit
from mllmeraser.erasure.fit.distributed import share_capture
from mllmeraser.erasure.states.checkpoint import SUFFIX, CaptureCheckpoint, work_folder
from mllmeraser.erasure.states.processes import ProcessGroup, TeamError, process_group
from mllmeraser.erasure.states.prompt_states import PromptStateCache
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError, Sample
from mllmeraser.samples.request import Request

CASES = {"subject": (identity_request, identity_settings), "tail": (small_request, quick)}

pytestmark = pytest.mark.usefixtures("no_conversations")


@dataclass(frozen=True)
class Alone(ProcessGroup):
    """One of several processes, without a connection to the others."""

    def check_agreement(self, items: object) -> None: ...

    def from_first(self, flags: object) -> list[bool]:
        return [True] * len(flags)  # type: ignore[arg-type]

    def wait(self) -> None: ...


@contextmanager
def passes(model: MultimodalModel) -> Iterator[list[int]]:
    """Sizes of the batches that go through the model inside the block."""
    found: list[int] = []
    hook = model.hf.register_forward_pre_hook(
        lambda _m, _a, named: found.append(len(named["input_ids"])), with_kwargs=True
    )
    try:
        yield found
    finally:
        hook.remove()


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def same(one: Eraser, other: Eraser) -> bool:
    assert one.tensors.keys() == other.tensors.keys()
    return all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> tuple[Request, FitSettings]:
    make, settings = CASES[request.param]
    return make(), settings(batch_size=16)  # type: ignore[operator]


def test_a_fit_goes_on_where_it_was_killed(
    tiny_llava: MultimodalModel, tmp_path: Path, case: tuple[Request, FitSettings]
) -> None:
    request, settings = case
    with passes(tiny_llava) as bare:
        whole = fit(tiny_llava, request, settings).eraser
    fit(tiny_llava, request, settings, checkpoint=CaptureCheckpoint(tmp_path / "w"))
    gone = sorted((tmp_path / "w").iterdir())[::3]  # as if these had not been finished
    for path in gone:
        path.unlink()
    lines: list[str] = []
    with passes(tiny_llava) as again:
        resumed = fit(tiny_llava, request, settings, checkpoint=CaptureCheckpoint(tmp_path / "w", lines.append)).eraser
    assert 0 < len(again) == len(gone) < len(bare)
    counts = [line.removesuffix(f" batches are in {tmp_path / 'w'} already").split(" of ") for line in lines]
    assert [sum(int(n) for n in column) for column in zip(*counts, strict=True)] == [len(bare) - len(gone), len(bare)]
    assert same(whole, resumed)


def test_batches_of_another_capture_are_ignored_with_a_line(tiny_llava: MultimodalModel, tmp_path: Path) -> None:
    samples = [Sample(f"Who is number {i}?") for i in range(8)]

    def capture(*rest: Sample, reads: tuple[int, ...] = (0, 1, 2), batch_size: int = 4) -> tuple[int, list[str]]:
        lines: list[str] = []
        checkpoint = CaptureCheckpoint(tmp_path, lines.append)
        with passes(tiny_llava) as found:
            PromptStateCache(tiny_llava, reads, (3,), batch_size=batch_size, checkpoint=checkpoint).of(
                [*samples, *rest]
            )
        checkpoint.report_ignored()
        return len(found), lines

    assert capture() == (2, [f"0 of 2 batches are in {tmp_path} already"])
    assert capture()[0] == 0
    assert capture(reads=(0, 1, 4))[0] == 2
    ran, lines = capture(batch_size=8)
    assert ran == 1 and lines[1].startswith("4 batches") and "ignored" in lines[1]
    assert capture(Sample("And who is this?"))[0] == 1, "batches that are still the same are used"
    with torch.no_grad():
        tiny_llava.hf.get_input_embeddings().weight[0, 0] += 1.0
    try:
        assert capture()[0] == 2, "of other weights"
    finally:
        with torch.no_grad():
            tiny_llava.hf.get_input_embeddings().weight[0, 0] -= 1.0


def test_a_file_that_cannot_be_used_is_replaced(tiny_llava: MultimodalModel, tmp_path: Path) -> None:
    samples = [Sample(f"Who is number {i}?") for i in range(8)]
    before = PromptStateCache(tiny_llava, (0, 1, 2), (3,), batch_size=4, checkpoint=CaptureCheckpoint(tmp_path)).of(
        samples
    )
    kept = [prompt.text.clone() for prompt in before]
    one, two = sorted(tmp_path.iterdir())
    one.write_bytes(one.read_bytes()[:-100])
    two.write_bytes(one.read_bytes()[:4])
    lines: list[str] = []
    with passes(tiny_llava) as found:
        after = PromptStateCache(
            tiny_llava, (0, 1, 2), (3,), batch_size=4, checkpoint=CaptureCheckpoint(tmp_path, lines.append)
        ).of(samples)
    assert len(found) == 2 and sum("ignored" in line for line in lines) == 2
    assert all(torch.equal(prompt.text, text) for prompt, text in zip(after, kept, strict=True))


def test_the_folder_is_private_and_emptied_when_all_went_well(tiny_llava: MultimodalModel, tmp_path: Path) -> None:
    def capture(checkpoint: CaptureCheckpoint | None) -> None:
        PromptStateCache(tiny_llava, (0, 1, 2), (3,), checkpoint=checkpoint).of([Sample("Who is Jane Doe?")])

    place = tmp_path / "deep" / "work"
    with pytest.raises(RuntimeError), work_folder(place) as checkpoint:
        capture(checkpoint)
        raise RuntimeError
    assert len(files(place)) == 1 and next(iter(files(place))).endswith(SUFFIX)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert b"Jane" not in next(place.iterdir()).read_bytes()
    (place / f"{'0' * 64}.1.states.partial").write_bytes(b"half")
    with work_folder(place, keep=True) as checkpoint:
        capture(checkpoint)
    assert len(files(place)) == 2
    (place / "mine.txt").write_text("not ours")
    with work_folder(place, ProcessGroup(1, 2)) as checkpoint:
        capture(checkpoint)
    assert len(files(place)) == 3, "the first process alone deletes"
    with work_folder(place) as checkpoint:
        capture(checkpoint)
    assert files(place) == {"mine.txt"}
    (place / "mine.txt").unlink()
    with work_folder(place) as checkpoint:
        capture(checkpoint)
    assert not place.exists()
    with work_folder(None) as checkpoint:
        assert checkpoint is None


def test_a_work_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="work folder"):
        CaptureCheckpoint(tmp_path / "file")


@pytest.mark.parametrize("size", [2, 3])
def test_shares_are_the_batches_of_one_process_dealt_out(
    tiny_llava: MultimodalModel, tmp_path: Path, case: tuple[Request, FitSettings], size: int
) -> None:
    request, settings = case
    with passes(tiny_llava) as alone:
        whole = fit(tiny_llava, request, settings).eraser
    shared: list[list[int]] = []
    for rank in range(size):
        with passes(tiny_llava) as found:
            share_capture(tiny_llava, request, settings, Alone(rank, size), _Unmet(tmp_path / "w"))
        shared.append(found)
    assert sorted(size for some in shared for size in some) == sorted(alone), "no batch twice, none left out"
    assert max(map(len, shared)) - min(map(len, shared)) <= 4, "each of at most four captures is dealt out evenly"
    with passes(tiny_llava) as fitting:
        assert same(whole, fit(tiny_llava, request, settings, checkpoint=CaptureCheckpoint(tmp_path / "w")).eraser)
    assert not fitting


class _Unmet(CaptureCheckpoint):
    """Does not wait for the others to see the folder."""

    def _meet(self, processes: ProcessGroup) -> None: ...


def test_a_basis_of_its_own_sets_is_shared_first(tiny_llava: MultimodalModel, tmp_path: Path) -> None:
    from mllmeraser.erasure.fit.discriminants import fit_shared_basis

    request, settings = identity_request(), identity_settings(batch_size=16)
    sets = (request.retain, request.strangers)
    share_capture(tiny_llava, request, settings, Alone(0, 1), _Unmet(tmp_path), basis=sets)
    with passes(tiny_llava) as found:
        cache = PromptStateCache(tiny_llava, (0, 1, 2), (3, 4), batch_size=16, checkpoint=CaptureCheckpoint(tmp_path))
        basis = fit_shared_basis(cache, *sets, settings.gate)
        fit(tiny_llava, request, settings, cache=cache, basis=basis)
    assert not found


def test_one_process_is_a_group_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group() as processes:
        assert processes == ProcessGroup() and processes.first and processes.device() is None
        processes.check_agreement(["x"])
        processes.wait()
        assert processes.from_first([True, False]) == [True, False]
    with pytest.raises(InputError, match="2 processes were asked for, and 1 started"), process_group(2):
        pass


def test_processes_that_cannot_connect_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TeamError, match="cannot connect"), process_group():
        pass
