"""Fits of several servers on one ledger, and what the ledger keeps of those that fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server_kit import install, loud_eraser
from test_identity_fit import identity_request, identity_settings

from mllmeraser.api.serving import add_erasers
from mllmeraser.erasure import Eraser, fit
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError, Request, Sample, Subject
from mllmeraser.serving.http.fits import Fits
from mllmeraser.serving.http.sync import Store
from mllmeraser.serving.ledger import Ledger, LedgerError
from mllmeraser.serving.ledger.erasers import artifact_of
from mllmeraser.serving.packing import pack_request
from tiny import picture

WANTED = Request((Subject("p", (), (Sample("Who is this?", picture(3), subject="p"),)),))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(str(tmp_path / "ledger.db")) as book:
        yield book


class Slow:
    """A real fit that waits until it is let go; `failing` raises instead."""

    def __init__(self, failing: str | None = None) -> None:
        self.begun, self.go, self.failing = threading.Event(), threading.Event(), failing

    def __call__(self, model: MultimodalModel, request: Request, progress: Any) -> Eraser:
        self.begun.set()
        self.go.wait(60)
        if self.failing is not None:
            raise InputError(self.failing)
        return fit(model, identity_request(), identity_settings(), progress).eraser


def worker(model: MultimodalModel, ledger: Ledger, fitter: Slow) -> Fits:
    made = Fits(model, ledger, fitter, 4)
    made.start()
    return made


def idle(fits: Fits) -> None:
    end = time.monotonic() + 60
    while fits.progress() and time.monotonic() < end:
        time.sleep(0.02)
    assert not fits.progress()


def test_the_slower_of_two_servers_records_no_failure(tiny_llava: MultimodalModel, ledger: Ledger) -> None:
    id = ledger.request("case", by="ann", inputs=pack_request(WANTED)).id
    fitter = Slow()
    fits = worker(tiny_llava, ledger, fitter)
    try:
        assert fitter.begun.wait(30)
        made = artifact_of(loud_eraser(tiny_llava))
        ledger.fitted(id, by="another server", artifact=made.files, fingerprint=made.fingerprint, digest=made.digest)
        fitter.go.set()
        idle(fits)
        entry = ledger.get(id)
        assert (entry.state, entry.failure, entry.artifact_digest) == ("fitted", None, made.digest)
    finally:
        fits.stop()


def test_a_long_reason_of_several_lines_is_recorded(tiny_llava: MultimodalModel, ledger: Ledger) -> None:
    id = ledger.request("case", by="ann", inputs=pack_request(WANTED)).id
    fitter = Slow("CUDA error:\n" + 300 * "out of memory ")
    fitter.go.set()
    fits = worker(tiny_llava, ledger, fitter)
    try:
        idle(fits)
        failure = ledger.get(id).failure
        assert failure is not None and failure.startswith("CUDA error: out of memory") and len(failure) <= 500
    finally:
        fits.stop()


def test_what_is_tried_again_is_taken_up_by_the_next_server(tiny_llava: MultimodalModel, ledger: Ledger) -> None:
    """A failure counts no longer once somebody has it begun again, whatever becomes of the server."""
    id = ledger.request("case", by="ann", inputs=pack_request(WANTED)).id
    ledger.failed(id, by="fit", reason="out of memory")
    first, second = Slow(), Slow()
    fits = worker(tiny_llava, ledger, first)
    fits.fit_again(ledger.get(id), "ann")
    assert first.begun.wait(30) and ledger.get(id).failure is None
    assert [(event.action, event.by) for event in ledger.history(id)][-1] == ("begun-again", "ann")
    other = worker(tiny_llava, ledger, second)
    assert second.begun.wait(30), "left over from the first, which could be dead by now"
    for fitter, running in ((first, fits), (second, other)):
        fitter.failing = "enough"
        fitter.go.set()
        idle(running)
        running.stop()


def test_other_settings_under_the_same_tensors_are_not_mistaken(tiny_llava: MultimodalModel, ledger: Ledger) -> None:
    """The digest is of the tensors: what is kept under it may change once nobody uses it."""
    store = Store(ledger, tiny_llava.fingerprint())
    eraser = loud_eraser(tiny_llava)
    weaker = Eraser(eraser.config.model_copy(update={"strength": 0.5}), eraser.tensors)
    first = install(ledger, weaker, "weaker", active=False)
    assert store.load(eraser.digest()).config.strength == 0.5
    ledger.revoke(first, by="tests", reason="too weak")
    install(ledger, eraser, "stronger")
    assert store.load(eraser.digest()).config.strength == eraser.config.strength
    (loaded,) = store.load_all(ledger.active_set().erasers).values()
    assert loaded.config.strength == eraser.config.strength
    with pytest.raises(LedgerError, match="no artifact"):
        store.load("0" * 64)


def test_what_was_revoked_or_suspended_does_not_come_back_with_a_start(
    tiny_llava: MultimodalModel, ledger: Ledger, tmp_path: Path
) -> None:
    folders = []
    for number, name in enumerate(("one", "two", "three")):
        folders.append(loud_eraser(tiny_llava, direction=number).save_pretrained(tmp_path / name))
    said: list[str] = []
    add_erasers(ledger, folders, said.append)
    assert [entry.state for entry in ledger.list()] == ["active"] * 3 and not said
    ledger.revoke("one", by="ann", reason="done")
    ledger.suspend("two", by="ann", reason="for now")
    add_erasers(ledger, folders, said.append)
    assert sorted(entry.state for entry in ledger.list()) == ["active", "revoked", "suspended"]
    assert len(said) == 2 and "revoked" in said[0] and "suspended" in said[1]
