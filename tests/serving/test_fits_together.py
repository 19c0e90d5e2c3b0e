"""Fits of several servers on one ledger, and what the ledger keeps of those that fail."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_kit import opened
from server_kit import install, loud_eraser, wait_for
from test_identity_fit import identity_request, identity_settings

from mllmeraser.api.serving import add_erasers
from mllmeraser.erasure import Eraser, fit
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError, Request, Sample, Subject
from mllmeraser.serving.http.fits import Fits
from mllmeraser.serving.http.sync import Store
from mllmeraser.serving.ledger import Ledger, LedgerError
from mllmeraser.serving.ledger.erasers import artifact_from_folder, artifact_of
from mllmeraser.serving.packing import pack_request
from tiny import picture

pytest_plugins = ["postgres_kit"]
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


def worker(model: MultimodalModel, ledger: Ledger, fitter: Slow, name: str = "one", lease: float = 30.0) -> Fits:
    made = Fits(model, ledger, fitter, 4, server=name, lease_seconds=lease)
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


def test_two_servers_on_one_ledger_fit_an_erasure_once(tiny_llava: MultimodalModel, ledger: Ledger) -> None:
    id = ledger.request("case", by="ann", inputs=pack_request(WANTED)).id
    first, second = Slow(), Slow()
    one = worker(tiny_llava, ledger, first, "one", lease=1.5)
    assert first.begun.wait(30)
    two = worker(tiny_llava, ledger, second, "two", lease=1.5)
    try:
        assert not second.begun.wait(4), "the lease is renewed while the first one works"
        first.go.set()
        idle(one)
        idle(two)
        done = [event.action for event in ledger.history(id)]
        assert done[:2] == ["requested", "fitted"] and done.count("fitted") == 1 and not second.begun.is_set()
    finally:
        one.stop()
        two.stop()


def test_what_a_dead_server_left_is_taken_up_by_another(tiny_llava: MultimodalModel, ledger: Ledger) -> None:
    """Also a second try: a failure counts no longer once somebody has it begun again."""
    id = ledger.request("case", by="ann", inputs=pack_request(WANTED)).id
    ledger.failed(id, by="fit", reason="out of memory")
    first, second = Slow(), Slow()
    one = worker(tiny_llava, ledger, first, "one", lease=1.5)
    two = worker(tiny_llava, ledger, second, "two", lease=1.5)
    one._renew = lambda id, done: None  # type: ignore[method-assign]  # as if its process were gone
    one.fit_again(ledger.get(id), "ann")
    assert first.begun.wait(30) and ledger.get(id).failure is None
    assert [(event.action, event.by) for event in ledger.history(id)][-1] == ("begun-again", "ann")
    assert second.begun.wait(30), "the lease of the first is over"
    for fitter, running in ((first, one), (second, two)):
        fitter.failing = "enough"
        fitter.go.set()
        idle(running)
        running.stop()


def test_a_server_that_lost_its_lease_stops_its_work(tiny_llava: MultimodalModel, ledger: Ledger) -> None:
    id = ledger.request("case", by="ann", inputs=pack_request(WANTED)).id
    fitter = Slow()
    fits = worker(tiny_llava, ledger, fitter, "one", lease=0.6)
    try:
        assert fitter.begun.wait(30)
        ledger.release(id, "one")
        assert ledger.lease(id, "two", 60)
        wait_for(lambda: fits._lost.is_set(), seconds=20)
        fitter.go.set()
        idle(fits)
        assert ledger.get(id).state == "requested" and not ledger.lease(id, "one", 1)
    finally:
        fits.stop()


def test_leases_on_both_databases(database_url: str) -> None:
    with opened(database_url) as book:
        id = book.request("case", by="ann").id
        assert book.lease(id, "one", 30) and book.lease(id, "one", 30) and not book.lease(id, "two", 30)
        book.release(id, "two")
        assert not book.lease(id, "two", 30)
        book.release(id, "one")
        assert book.lease(id, "two", -1) and book.lease(id, "one", 30), "one that is over is free"
        assert book.verify_chain().ok


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
        made = loud_eraser(tiny_llava, direction=number)
        good = made.config.calibration.model_copy(update={"detected": 1.0, "auc": 1.0})
        folders.append(made.replace_config(calibration=good).save_pretrained(tmp_path / name))
    said: list[str] = []
    artifacts = {folder: artifact_from_folder(folder) for folder in folders}
    for folder in folders:
        shutil.rmtree(folder)  # each is read once
    add_erasers(ledger, artifacts, said.append)
    assert [entry.state for entry in ledger.list()] == ["active"] * 3
    assert len(said) == 3 and not {"one", "two", "three"} & {entry.name for entry in ledger.list()}
    one, two, _ = ledger.list()
    said.clear()
    ledger.revoke(one.id, by="ann", reason="done")
    ledger.suspend(two.id, by="ann", reason="for now")
    add_erasers(ledger, artifacts, said.append)
    assert sorted(entry.state for entry in ledger.list()) == ["active", "revoked", "suspended"]
    assert len(said) == 2 and "revoked" in said[0] and "suspended" in said[1]


def test_an_eraser_that_missed_its_own_calibration_is_not_put_in_force(
    tiny_llava: MultimodalModel, ledger: Ledger, tmp_path: Path
) -> None:
    made = loud_eraser(tiny_llava)
    poor = made.config.calibration.model_copy(update={"detected": 0.4})
    folder = made.replace_config(calibration=poor).save_pretrained(tmp_path / "jane")
    with pytest.raises(InputError, match=r"did not pass its own calibration \(detected\)"):
        add_erasers(ledger, {folder: artifact_from_folder(folder)})
    assert ledger.list() == []


def test_without_prompts_about_others_a_request_ends_as_fitted(tiny_llava: MultimodalModel, ledger: Ledger) -> None:
    id, fitter = ledger.request("case", by="ann", inputs=pack_request(WANTED)).id, Slow()
    fitter.go.set()
    fits = Fits(tiny_llava, ledger, fitter, 4, None)
    fits.start()
    try:
        idle(fits)
        found = ledger.get(id)
        assert found.state == "fitted" and found.failure is not None
        assert "cannot be verified" in found.failure and "--verify-with" in found.failure
        with pytest.raises(LedgerError, match="verify it first"):
            ledger.activate(id, by="ann")
    finally:
        fits.stop()
