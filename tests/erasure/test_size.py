"""What an eraser will weigh is known before it is made."""

from __future__ import annotations

import pytest
from test_identity_fit import identity_request, identity_settings
from worlds import quick, small_request

from mllmeraser.erasure import FitSettings, GateSettings, fit
from mllmeraser.erasure.fit.size import artifact_bytes
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError


def test_an_identity_eraser_is_as_large_as_foreseen(tiny_llava: MultimodalModel) -> None:
    settings = identity_settings()
    eraser = fit(tiny_llava, identity_request(), settings).eraser
    width, depth, vocabulary = tiny_llava.hidden_size, tiny_llava.num_layers, len(tiny_llava.processor.tokenizer)
    size, more = artifact_bytes(settings, width, depth, 2, vocabulary)
    cohort = eraser.tensors["gate.2.cohort"]
    fewer = (settings.gate.subject.background_cohort - len(cohort)) * cohort.shape[1] * cohort.element_size()
    assert eraser.nbytes <= size - fewer <= 1.02 * eraser.nbytes
    assert size - artifact_bytes(settings, width, depth, vocabulary=vocabulary)[0] == more


def test_an_eraser_of_linear_gates_is_as_large_as_foreseen(tiny_llava: MultimodalModel) -> None:
    settings = quick()
    eraser = fit(tiny_llava, small_request(), settings).eraser
    size, _ = artifact_bytes(settings, tiny_llava.hidden_size, tiny_llava.num_layers, 2)
    tail = eraser.tensors["calibration.tail"]
    assert eraser.nbytes - tail.nbytes == size


def test_other_gates_are_not_foreseen() -> None:
    with pytest.raises(InputError, match="neural"):
        artifact_bytes(FitSettings(gate=GateSettings(kind="neural")), 64, 8)
