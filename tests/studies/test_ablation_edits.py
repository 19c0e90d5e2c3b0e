"""An edited artifact is the one that another fit would have given, or wrong in exactly the way that is said."""

from __future__ import annotations

import pytest
import torch
from ablation_kit import PAPER, TAIL, SmallLab
from worlds import close

from mllmeraser.erasure import DirectionSettings, PGDSettings
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError, Sample
from mllmeraser.studies.ablation.edits import Exchanged, Only, Open, Raised, Refitted, Shifted, Strength, layer_of
from mllmeraser.studies.ablation.lab import RequestSpec, true_answer
from mllmeraser.studies.ablation.sections import changed

PER_LAYER = changed(PAPER, direction={"kind": "unknown"})
EASY = PGDSettings(epsilon=64 / 255, step=8 / 255, steps=25, flip_tokens=1)
REFUSAL = DirectionSettings(kind="refusal", pgd=EASY)


@pytest.fixture(scope="module")
def lab(tiny_llava: MultimodalModel) -> SmallLab:
    return SmallLab(tiny_llava)


def same(left: Eraser, right: Eraser) -> None:
    assert left.tensors.keys() == right.tensors.keys()
    for name, tensor in left.tensors.items():
        close(tensor, right.tensors[name], 1e-4)


@pytest.mark.parametrize("settings", [TAIL, PER_LAYER], ids=["tail", "paper"])
@pytest.mark.parametrize("kind", ["text-only", "clean-image", "refusal"])
def test_an_exchanged_direction_is_that_of_a_fit_of_that_kind(lab: SmallLab, settings, kind: str) -> None:
    direction = DirectionSettings(kind=kind, pgd=EASY)
    edited = Exchanged(direction)(lab.fitted(settings), lab)
    made = lab.fitted(settings.model_copy(update={"direction": direction}))
    same(edited, made)
    assert edited.config.direction == made.config.direction == direction
    assert edited.config.threshold == made.config.threshold


def test_back_and_forth_gives_the_same_artifact_with_its_shares(lab: SmallLab) -> None:
    made = lab.fitted(TAIL)
    there = Exchanged(DirectionSettings(kind="clean-image"))(made, lab)
    assert not [name for name in there.tensors if name.startswith("share.")]
    back = Exchanged(made.config.direction)(there, lab)
    same(back, made)
    key = made.config.subjects[0]
    same(back.without(key), made.without(key))


def test_same_length_keeps_the_length_and_takes_the_direction(lab: SmallLab) -> None:
    made, other = lab.fitted(TAIL), DirectionSettings(kind="clean-image")
    free, long = (Exchanged(other, same_length=long)(made, lab) for long in (False, True))
    for layer in made.config.shift_layers:
        close(long.direction(layer).norm(), made.direction(layer).norm(), 1e-4)
        cosine = torch.nn.functional.cosine_similarity(free.direction(layer), long.direction(layer), dim=0)
        assert float(cosine) == pytest.approx(1.0, abs=1e-5)
        assert not torch.allclose(free.direction(layer), long.direction(layer))


def test_shifting_elsewhere_equals_a_fit_for_those_layers(lab: SmallLab) -> None:
    made = lab.fitted(TAIL)
    last = made.config.shift_layers[-1]
    same(Shifted((last,))(made, lab), lab.fitted(changed(TAIL, shift_layers=(last,))))


def test_some_layers_of_a_per_layer_artifact_equal_a_fit_of_those(lab: SmallLab) -> None:
    same(Only((1, 2))(lab.fitted(PER_LAYER), lab), lab.fitted(changed(PER_LAYER, shift_layers=(1, 2))))


@pytest.mark.parametrize(("gate", "direction"), [(True, True), (True, False), (False, True)])
def test_raised_tensors_are_those_of_the_block_before(lab: SmallLab, gate: bool, direction: bool) -> None:
    made = lab.fitted(PER_LAYER)
    raised, depth = Raised(gate, direction)(made, lab), made.config.num_layers
    assert raised.config.shift_layers == raised.config.read_layers == tuple(range(1, depth))
    assert {layer_of(name) for name in raised.tensors} == set(range(1, depth))
    for layer in range(1, depth):
        assert torch.equal(raised.direction(layer), made.direction(layer - direction))
        assert torch.equal(raised.gate(layer).tensors["weight"], made.gate(layer - gate).tensors["weight"])


def test_raised_decisions_stay_before_the_shift(lab: SmallLab) -> None:
    made = lab.fitted(changed(TAIL, read_layers=(0, 1), shift_layers=(2, 3)))
    raised = Raised(gate=True, direction=True)(made, lab)
    assert (raised.config.read_layers, raised.config.shift_layers) == ((1, 2), (3, 4))
    assert torch.equal(raised.tensors["share.3"], made.tensors["share.2"])
    assert torch.equal(raised.tensors["calibration.tail"], made.tensors["calibration.tail"])
    assert len(read_gate(lab.model, raised, [Sample("Who is this?")]).pooled) == 1, "it can be attached"


def test_an_open_gate_fires_whatever_is_asked_and_strength_is_stated(lab: SmallLab, samples: list[Sample]) -> None:
    eraser = Open()(lab.fitted(TAIL), lab)
    pooled = read_gate(lab.model, eraser, samples).pooled
    assert bool((eraser.config.policy.amplitude(pooled, eraser.config.threshold) == 1).all())
    assert Strength(2.5)(eraser, lab).config.strength == 2.5


def test_layer_after_layer_differs_from_the_second_layer_on(lab: SmallLab) -> None:
    made = lab.fitted(PAPER.model_copy(update={"direction": REFUSAL}))
    loud = Strength(20.0)(made, lab)
    quiet, refitted = (Refitted()(eraser, lab) for eraser in (Strength(0.0)(made, lab), loud))
    same(quiet, made)
    for name, tensor in refitted.tensors.items():
        assert torch.allclose(tensor, made.tensors[name], atol=1e-4) == (layer_of(name) == 0 or "scale" in name
                                                                        or "offset" in name), name  # fmt: skip
    with pytest.raises(InputError, match="refusal"):
        Refitted()(lab.fitted(TAIL), lab)


def test_pairs_that_do_not_flip_make_no_direction(lab: SmallLab) -> None:
    weak = DirectionSettings(kind="refusal", pgd=PGDSettings(epsilon=1e-6, step=1e-7, steps=1))
    with pytest.raises(InputError, match="comply"):
        Exchanged(weak)(lab.fitted(PER_LAYER), lab)


def test_fewer_retain_prompts_are_some_of_all_of_them(lab: SmallLab) -> None:
    every, half = lab.request(RequestSpec()).retain, lab.request(RequestSpec(retain=0.5)).retain
    assert len(half) == -(-len(every) // 2)
    assert {s.digest() for s in half} < {s.digest() for s in every}


def test_true_answers_are_told_where_a_fact_is_asked() -> None:
    facts = {"001": {"occupation": "baker", "identity": "Mara Velden"}}
    asked = Sample("What is their job?", subject="001", attribute="occupation")
    cases = {
        "They work as a baker.": asked,
        "baker": Sample("They work as a __.", task="cloze", subject="001", attribute="occupation"),
        "This is Mara Velden.": Sample("Who is this?", subject="001", attribute="identity"),
    }
    assert {true_answer(sample, facts) for sample in cases.values()} == set(cases)
    assert all(true_answer(sample, facts) == truth for truth, sample in cases.items())
    letter = Sample("Which?", task="classification", subject="001", attribute="occupation")
    other = Sample("What is their job?", subject="002", attribute="occupation")
    assert true_answer(letter, facts) is None and true_answer(other, facts) is None
