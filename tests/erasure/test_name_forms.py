"""Forms of a name: first or last name alone, in lower case, joined."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from worlds import small_request

from mllmeraser.erasure import fit
from mllmeraser.erasure.artifact.consolidate import consolidate
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.fit import FitResult
from mllmeraser.erasure.fit.background_prompts import SENTENCES, name_forms
from mllmeraser.erasure.fit.split import split
from mllmeraser.erasure.fit.subject import form_samples
from mllmeraser.erasure.gates import NameGate, SubjectGate, TopicGate, gate_class
from mllmeraser.erasure.gates.name import ABSENT
from mllmeraser.erasure.policy import SUBJECT
from mllmeraser.erasure.settings import FitSettings, GateSettings
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import Request, Sample

SETTINGS = FitSettings(
    policy=SUBJECT, gate=GateSettings(kind="subject", rank=12), read_layers=(0, 1, 2), shift_layers=(3, 4),
    false_alarm_rate=0.2, batch_size=64, salt="s",
)  # fmt: skip


def test_the_forms_of_a_name() -> None:
    found = name_forms(["Mara Velden"])
    assert found == ["Mara", "Velden", "mara", "velden", "MaraVelden"]
    assert name_forms(["Mara Velden"])[:2] == ["Mara", "Velden"]
    assert name_forms(["Mara Velden", "Mara"])[:3] == ["Velden", "mara", "velden"], "a name is not a form of itself"
    assert name_forms(["Prince"]) == ["prince"]
    assert name_forms(["\u738b\u82b3"]) == name_forms([]) == name_forms([" "]) == []
    assert name_forms(["Zo\u00eb de la Cruz"])[:2] == ["Zo\u00eb", "Cruz"]


@given(st.lists(st.text(max_size=12), max_size=3))
def test_forms_differ_and_are_no_names(names: list[str]) -> None:
    found = name_forms(names)
    assert len(found) == len(set(found)) <= 5 * len(names)
    assert not set(found) & set(names) and all(len(form) > 1 and form.strip() == form for form in found)


def test_a_gate_kind_for_each_site() -> None:
    kind = gate_class("subject")
    assert [kind.at_layer(i) for i in range(3)] == [NameGate, TopicGate, SubjectGate]


def name_gate(seed: int = 0) -> NameGate:
    draw = torch.Generator().manual_seed(seed)
    shapes = {"weight": (2, 3), "centre": (5,), "projection": (5, 3)}
    tensors = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    forms, rivals = (torch.nn.functional.normalize(torch.randn(2, 4, 3, generator=draw), dim=-1) for _ in range(2))
    return NameGate(tensors).with_forms(forms, rivals)


@given(st.integers(0, 50))
def test_a_form_only_raises_a_score(seed: int) -> None:
    gate = name_gate(seed)
    states = torch.randn(6, 5, generator=torch.Generator().manual_seed(seed + 1))
    plain = SubjectGate({k: v for k, v in gate.tensors.items() if "form" not in k}).scores(states)
    assert torch.equal(gate.with_form_bounds(torch.full((2, 4), ABSENT + 2)).scores(states), plain)
    assert gate.counted_forms == 0
    counted = gate.with_form_bounds(torch.full((2, 4), 0.5))
    assert counted.counted_forms == 8
    found = counted.scores(states)
    assert torch.equal(found, torch.maximum(plain, (counted.form_scores(states) - 0.5).amax(-1)))
    assert bool((counted.form_scores(states) <= 1.1).all())


@pytest.fixture(scope="module")
def named() -> Request:
    """Two people with names, of whom the retain prompts say nothing."""
    request = small_request(retain=30)
    names = (("Mara Velden",), ("Jonas Ferrick",))
    pairs = zip(request.subjects[:2], names, strict=True)
    return replace(request, subjects=tuple(replace(subject, names=own) for subject, own in pairs))


@pytest.fixture(scope="module")
def made(tiny_llava: MultimodalModel, named: Request) -> FitResult:
    return fit(tiny_llava, named, SETTINGS)


def gate_of(eraser: Eraser) -> NameGate:
    gate = eraser.gate(eraser.config.read_layers[0])
    assert isinstance(gate, NameGate)
    return gate


def test_a_fit_states_which_forms_count(made: FitResult, tmp_path) -> None:
    gate = gate_of(made.eraser)
    unused, asked = made.unused_forms
    assert asked == 10 and asked - unused == gate.counted_forms
    assert any("forms of the names" in line for line in made.notes) == bool(unused)
    assert "Mara" not in "".join(made.notes)
    again = gate_of(Eraser.from_pretrained(made.eraser.save_pretrained(tmp_path / "e")))
    assert again.tensors.keys() == gate.tensors.keys()
    assert torch.equal(again.tensors["form_bounds"], gate.tensors["form_bounds"].float())
    for name in ("forms", "form_rivals"):
        torch.testing.assert_close(again.tensors[name], gate.tensors[name].float(), atol=1e-7, rtol=0)


def test_exact_names_and_the_rest_of_the_gate(tiny_llava: MultimodalModel, named: Request, made: FitResult) -> None:
    subjects = tuple(replace(subject, exact_names=True) for subject in named.subjects)
    exact = gate_of(fit(tiny_llava, replace(named, subjects=subjects), SETTINGS).eraser)
    forms = gate_of(made.eraser)
    assert exact.counted_forms == 0 and exact.fits_with(forms), "both kinds can be put together"
    plain = [name for name in exact.tensors if not name.startswith("form")]
    assert all(torch.equal(exact.tensors[name], forms.tensors[name]) for name in plain)
    half = fit(tiny_llava, replace(named, subjects=(*named.subjects[:-1], subjects[-1])), SETTINGS)
    assert gate_of(half.eraser).counted_forms < forms.counted_forms
    assert half.unused_forms[1] < made.unused_forms[1], "exact names report no forms"


def test_words_of_those_who_stay_and_ordinary_words_are_no_forms(named: Request) -> None:
    def forms(request: Request) -> list[set[str]]:
        own, others = form_samples(request, split(request, SETTINGS, salt=""), SETTINGS)
        assert len(others) > 0
        assert all(len(rows) == len(SENTENCES) for some in own.values() for rows in some.values())
        return [set(some) for some in own.values()]

    may, june = (
        replace(s, names=(name,)) for s, name in zip(named.subjects, ("May Velden", "Jonas West"), strict=True)
    )
    assert forms(replace(named, subjects=(may, june))) == [
        {"Velden", "velden", "MayVelden"},
        {"Jonas", "jonas", "JonasWest"},
    ], "ordinary words"
    shared = replace(named, retain=(*named.retain, *(Sample(f"Who is MARA Holt, {i}?", answer="x") for i in range(40))))
    before, after = forms(named), forms(shared)
    assert {"Mara", "mara"} <= before[0]
    assert after == [before[0] - {"Mara", "mara"}, before[1]]


def test_people_with_and_without_a_name_go_together(tiny_llava: MultimodalModel, named: Request) -> None:
    unnamed = replace(named, subjects=tuple(replace(subject, names=()) for subject in named.subjects[:1]))
    one, two = (
        fit(tiny_llava, request, SETTINGS).eraser for request in (unnamed, replace(named, subjects=named.subjects[1:]))
    )
    gate = gate_of(consolidate([one, two]))
    assert gate.tensors["forms"].shape[0] == 2 and bool((gate.tensors["form_bounds"][0] == ABSENT).all())
