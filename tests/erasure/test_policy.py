import pytest
import torch

from mllmeraser.erasure.policy import PAPER, PERSISTENT, PRESETS, SUBJECT, TAIL, Policy, preset
from mllmeraser.samples import InputError

SCORES = torch.tensor([-1.0, 0.4, 0.5, 0.6, 2.0])


def test_presets_are_what_they_say():
    assert (PAPER.read, PAPER.positions, PAPER.decode, PAPER.phi) == (
        "per-layer",
        "prompt",
        False,
        "linear",
    )
    assert (TAIL.read, TAIL.positions, TAIL.decode, TAIL.phi) == ("request", "last", False, "threshold")
    assert (PERSISTENT.read, PERSISTENT.positions, PERSISTENT.decode, PERSISTENT.phi) == (
        "request",
        "last",
        True,
        "threshold",
    )
    assert {name: preset(name) for name in PRESETS} == PRESETS
    assert (SUBJECT.read, SUBJECT.positions, SUBJECT.pooling) == ("request", "last", "subject")
    assert SUBJECT.whole_prompt and PAPER.whole_prompt and not TAIL.whole_prompt and not PERSISTENT.whole_prompt


def test_amplitude_by_phi():
    assert PAPER.amplitude(SCORES, 0.5) is SCORES
    clamp = Policy("c", read="request", positions="last", decode=False, phi="clamp")
    assert clamp.amplitude(SCORES, 0.5).tolist() == pytest.approx([0.0, 0.4, 0.5, 0.6, 1.0])
    # A score at the threshold does not fire: the threshold is itself a score of a retain prompt.
    assert TAIL.amplitude(SCORES, 0.5).tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]


def test_pooling_is_the_mean_over_layers_then_the_maximum_over_subjects():
    first, second = torch.tensor([[0.0, 3.0], [5.0, 1.0]]), torch.tensor([[2.0, -1.0], [5.0, 9.0]])
    assert TAIL.pool([first, second]).tolist() == [1.0, 5.0]
    every_layer = Policy("e", read="per-layer", positions="last", decode=False, phi="threshold")
    assert every_layer.pool([first, second]).tolist() == [3.0, 9.0]


def test_identity_pooling_takes_name_or_face_and_never_more_than_the_topic():
    name, topic, face = torch.tensor([[0.1, 3.0]]), torch.tensor([[2.0, 2.5]]), torch.tensor([[-1.0, 0.5]])
    assert SUBJECT.pool([name, topic, face]).tolist() == [2.5]
    assert SUBJECT.pool([face, topic, face]).tolist() == [0.5]
    assert SUBJECT.pool([face, topic, name]).tolist() == [2.5]


@pytest.mark.parametrize("field", ["read", "positions", "phi", "pooling", "decode"])
def test_unknown_values_are_refused(field):
    good = {"name": "x", "read": "request", "positions": "last", "decode": False, "phi": "threshold"}
    with pytest.raises(InputError, match=field):
        Policy(**{**good, field: "whatever"})


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(InputError, match="paper, tail, persistent, subject"):
        preset("head")
