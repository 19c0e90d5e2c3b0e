"""Erasers of single people on the shipped model: alone, side by side, put together, one after another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mllmeraser.benchmarks.benchmark import Benchmark, thin
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.erasure.artifact.consolidate import consolidate
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.steering import ErasurePack
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.studies import many
from mllmeraser.studies.beside import raised
from mllmeraser.studies.crowd import Crowd, Sets
from mllmeraser.studies.record import Report
from mllmeraser.studies.scoring import AnswerCache, ask, summary

PEOPLE = ("001", "002", "003")


@pytest.fixture(scope="module")
def model() -> MultimodalModel:
    return load_model("embedded:llava")


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    return load_benchmark(BENCHMARK)


@pytest.fixture(scope="module")
def crowd(model: MultimodalModel, benchmark: Benchmark) -> Crowd:
    settings = FitSettings.preset("default").model_copy(update={"salt": "test", "false_alarm_rate": 0.02})
    return Crowd(model, benchmark, settings, per_person=6)


@pytest.fixture(scope="module")
def erasers(crowd: Crowd, benchmark: Benchmark) -> dict[str, Eraser]:
    return {key: crowd.person(key) for key in benchmark.people[:3]}


@pytest.fixture(scope="module")
def sets(benchmark: Benchmark, erasers: dict[str, Eraser]) -> Sets:
    others = [key for key in benchmark.people if key not in erasers][:4]
    found = many.sets_of(benchmark, tuple(erasers), others)
    return {"test": thin(found["test"], 3), "retain_heldout": thin(found["retain_heldout"], 3)}


def test_a_raised_eraser_opens_for_fewer_topics(erasers: dict[str, Eraser]) -> None:
    eraser = next(iter(erasers.values()))
    states = torch.randn(5, eraser.config.hidden_size, generator=torch.Generator().manual_seed(0))
    for layer, step in zip(eraser.config.read_layers, (0.0, 0.25, 0.0), strict=True):
        before, after = (one.gate(layer).scores(states) for one in (eraser, raised(eraser, 0.25)))
        torch.testing.assert_close(after, before - step)


def test_each_forgets_its_own_person_alone_and_among_others(model, benchmark, erasers, sets) -> None:
    bare = ask(AnswerCache(model), benchmark, sets, None, split="forget_5")
    alone = many.one_at_a_time(model, benchmark, erasers, sets, bare)
    together = ask(model, benchmark, sets, ErasurePack(erasers), split="forget_5")
    as_one = ask(model, benchmark, sets, consolidate(list(erasers.values())), split="forget_5")
    assert summary(bare)["recalled"]["share"] > 0.8
    for items in (alone, together, as_one):
        told_of = summary(items)
        assert told_of["recalled"]["share"] == 0.0 and set(told_of["outcomes"]) == {"unknown"}
        assert told_of["kept"]["retain_heldout"]["share"] >= summary(bare)["kept"]["retain_heldout"]["share"] - 0.01
    kept = {(i["set"], i["id"]) for i in bare if i["set"] != "test"}
    assert len([i for i in alone if i["set"] != "test"]) == len(erasers) * len(kept)


def test_what_a_decision_falls_on_is_told_for_each(model, erasers, sets) -> None:
    table = many.fired(model, erasers, sets["test"])
    owner = [list(erasers).index(s.subject) for s in sets["test"]]
    assert table.shape == (len(sets["test"]), 3)
    assert all(bool(table[row, column]) for row, column in enumerate(owner))
    assert not bool(many.fired(model, erasers, sets["retain_heldout"]).any())


def test_costs_and_revocation_are_reported(model, benchmark, crowd, erasers, sets, tmp_path: Path) -> None:
    report = Report(tmp_path / "many.json", "many", 0, model, fresh=True)
    many.take_out(report, erasers)
    assert report["take one out"]["largest_relative_difference"] < 1e-6
    every = [*erasers.values(), *crowd.unseen(2)]
    few, all_of_them = (many.cost(model, some, sets["test"][:4], repeats=1) for some in (every[:1], every))
    assert few["bytes_attached"] < all_of_them["bytes_attached"] < 5 * few["bytes_attached"], "the basis is shared"
    assert all_of_them["bytes_on_disk"] == sum(e.nbytes for e in every)
    many.alarms(report, model, benchmark, erasers, tuple(erasers))
    told_of = {entry["key"]: entry for entry in json.loads((tmp_path / "many.json").read_text())["results"]}
    assert 0.0 <= told_of["alarms of 1, retain_heldout"]["share"] <= 0.02


def test_a_later_request_does_not_retain_who_is_gone(crowd: Crowd, benchmark: Benchmark) -> None:
    first, second = benchmark.people[:2]
    made = crowd.group([second], gone=[first])
    assert made.parts is not None
    about = {s.subject for s in (*made.parts.retain, *made.parts.calibration, *made.parts.check)}
    assert first not in about and second not in about and benchmark.people[5] in about
