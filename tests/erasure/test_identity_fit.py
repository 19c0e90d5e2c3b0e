"""The fit of identity gates, on a tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from worlds import LayerRange, close, small_request

from mllmeraser.erasure import Eraser, FitSettings, GateSettings, fit
from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.erasure.directions import kinds
from mllmeraser.erasure.fit.discriminants import ALWAYS_OPEN
from mllmeraser.erasure.fit.result import FitResult
from mllmeraser.erasure.gates import NameGate, SubjectGate, TopicGate
from mllmeraser.erasure.policy import SUBJECT
from mllmeraser.erasure.states.statistics import LayerStatistics
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError, Sample
from mllmeraser.samples.request import Request
from tiny import picture

SHARED = ("centre", "projection", "cohort", "request", "request_bound", "token_kinds")


def identity_request(*, perception: bool = True) -> Request:
    """Subjects with names; people to retain; with `perception` also questions about what a picture shows."""
    request = small_request(retain=30)
    scenes = [Sample(f"What colour is thing {i}?", picture(100 + i), attribute="perception") for i in range(30)]
    retain = [*request.retain, *(scenes if perception else [])]
    names = {subject.key: (subject.key,) for subject in request.subjects}
    return Request.from_samples(request.forget, retain, request.strangers, names=names)


def identity_settings(**changes: object) -> FitSettings:
    base: dict[str, object] = {
        "policy": SUBJECT, "gate": GateSettings(kind="subject", rank=12), "read_layers": (0, 1, 2),
        "shift_layers": (3, 4), "false_alarm_rate": 0.2, "batch_size": 64, "salt": "s",
    }  # fmt: skip
    return FitSettings(**{**base, **changes})


@pytest.fixture(scope="module")
def fitted(tiny_llava: MultimodalModel) -> FitResult:
    return fit(tiny_llava, identity_request(), identity_settings())


def test_fit_makes_an_eraser_that_fires(tiny_llava, fitted):
    config, parts = fitted.eraser.config, fitted.parts
    assert config.policy == SUBJECT and config.gate.kind == "subject" and config.threshold == 0.0
    assert config.read_layers == (0, 1, 2) and config.shift_layers == (3, 4)
    assert [type(fitted.eraser.gate(layer)) for layer in (0, 1, 2)] == [NameGate, TopicGate, SubjectGate]
    about = config.calibration
    check = read_gate(tiny_llava, fitted.eraser, parts.check).pooled
    held = read_gate(tiny_llava, fitted.eraser, parts.held_out).pooled
    assert about.false_alarms == pytest.approx(float((check > 0).double().mean()))
    assert about.detected == pytest.approx(float((held > 0).double().mean())) and about.detected > 0
    facts = [s for s in parts.calibration if s.attribute is None]
    assert about.n == len(facts)
    assert float((read_gate(tiny_llava, fitted.eraser, facts).pooled > 0).double().mean()) <= 0.2


def test_an_artifact_says_the_same_after_a_round_trip(tiny_llava, fitted, samples, tmp_path: Path):
    loaded = Eraser.from_pretrained(fitted.eraser.save_pretrained(tmp_path / "e"))
    assert loaded.digest() == fitted.eraser.digest()
    prompts = [*samples, *fitted.parts.held_out, *fitted.parts.check]
    before, after = (read_gate(tiny_llava, eraser, prompts) for eraser in (fitted.eraser, loaded))
    assert torch.equal(before.pooled, after.pooled)
    assert all(torch.equal(before.layers[layer], after.layers[layer]) for layer in (0, 1, 2))


@pytest.mark.parametrize("out", [0, 1])
def test_without_takes_out_rows_and_keeps_what_is_shared(tiny_llava, fitted, out):
    eraser, rest = fitted.eraser, 1 - out
    less = eraser.without(eraser.config.subjects[out])
    assert less.config.subjects == (eraser.config.subjects[rest],)
    for name, tensor in eraser.tensors.items():
        if name.rpartition(".")[2] in SHARED:
            assert torch.equal(less.tensors[name], tensor)
        elif name.startswith("gate."):
            assert torch.equal(less.tensors[name], tensor[[rest]])
    held = fitted.parts.held_out
    before, after = (read_gate(tiny_llava, e, held).layers for e in (eraser, less))
    for layer in (0, 1, 2):
        close(after[layer], before[layer][:, [rest]], 1e-5)
    with pytest.raises(InputError, match="only subject"):
        less.without(less.config.subjects[0])


def test_the_topic_gate_has_a_veto(tiny_llava, fitted, samples):
    person = [s for rows in fitted.parts.forget.values() for s in rows]
    scenes = [replace(s, question=f"What colour is thing {i}?") for i, s in enumerate(person) if s.image is not None]
    seen = read_gate(tiny_llava, fitted.eraser, [*samples, *person, *scenes])
    name, topic, face = (seen.layers[layer] for layer in (0, 1, 2))
    assert torch.equal(seen.pooled, torch.minimum(torch.maximum(name, face), topic).amax(-1)), "subject by subject"
    topic = topic.amax(-1)
    assert bool((seen.pooled <= topic).all())
    assert topic.abs().max() < 1000, "with perception samples the topic is a real reading"
    asked = torch.arange(len(samples), len(samples) + len(person))
    assert topic[asked].mean() > topic[-len(scenes) :].mean(), "questions about scenes lie below those about a person"


def test_without_perception_samples_every_topic_counts(tiny_llava):
    found = fit(tiny_llava, identity_request(perception=False), identity_settings())
    seen = read_gate(tiny_llava, found.eraser, found.parts.held_out)
    assert (seen.layers[1] == ALWAYS_OPEN).all()
    assert torch.equal(seen.pooled, torch.maximum(seen.layers[0], seen.layers[2]).amax(-1))


def test_a_fit_with_the_wrong_layers_or_policy_is_refused(tiny_llava):
    with pytest.raises(InputError, match="three read layers"):
        fit(tiny_llava, identity_request(), identity_settings(read_layers=(0, 1)))
    with pytest.raises(InputError, match="policy 'subject'"):
        tail = FitSettings.preset("tail").policy
        fit(tiny_llava, identity_request(), identity_settings(policy=tail))


@pytest.mark.parametrize("depth", [6, 8, 12, 24, 28, 32, 36, 40, 48, 64, 80])
def test_the_default_reads_three_layers_before_it_shifts(depth):
    reads, (shifts, *_) = FitSettings.preset("default").layers(depth)
    assert len(reads) == 3 and reads[-1] < shifts[0] and shifts[-1] == depth - 1
    assert FitSettings.preset("default").shift_layers == LayerRange(start=0.7, stop=1.0)


@pytest.mark.parametrize("kind", ["unknown", "from-outside"])
def test_a_direction_from_outside_may_look_at_what_is_retained(
    tiny_llava: MultimodalModel, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(kinds, "_KINDS", dict(kinds._KINDS))
    seen: list[int] = []

    def build(statistics: LayerStatistics) -> kinds.Direction:
        seen.append(statistics["retain"].n)
        return kinds.Direction(statistics.strangers.mean - statistics["retain"].mean, {})

    kinds.register_direction(kind, build)
    settings = identity_settings()
    settings = settings.model_copy(update={"direction": settings.direction.model_copy(update={"kind": kind})})
    fit(tiny_llava, identity_request(), settings)
    assert seen and min(seen) > 0
