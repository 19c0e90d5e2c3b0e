"""Some attributes of somebody alone: the topic gate of that subject is another, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_identity_fit import identity_request, identity_settings
from worlds import quick, small_request

from mllmeraser.erasure import fit
from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError, Sample
from mllmeraser.samples.request import Request


def labelled() -> Request:
    """Questions about where somebody lives have the attribute residence, all others another."""
    request = identity_request()

    def label(sample: Sample) -> Sample:
        asked = "residence" if "live" in sample.question else "work"
        return sample if sample.attribute else replace(sample, attribute=asked)

    subjects = tuple(replace(s, samples=tuple(map(label, s.samples))) for s in request.subjects)
    return Request(subjects, tuple(map(label, request.retain)), tuple(map(label, request.strangers)))


def only(request: Request, *attributes: str) -> Request:
    """The first subject with these attributes alone, the second as it was."""
    first, second = request.subjects
    asked = tuple(sample for sample in first.samples if sample.attribute in attributes)
    return replace(request, subjects=(replace(first, samples=asked, attributes=attributes), second))


def test_the_topic_is_that_of_the_attribute(tiny_llava: MultimodalModel) -> None:
    request = labelled()
    whole = fit(tiny_llava, request, identity_settings())
    part = fit(tiny_llava, only(request, "residence"), identity_settings())
    topics, others = part.eraser.tensors["gate.1.weight"], whole.eraser.tensors["gate.1.weight"]
    # the same prompts in batches with others: the same states but for their last bits
    assert torch.allclose(topics[1], others[1], atol=1e-4) and not torch.allclose(topics[0], others[0], atol=1e-2)
    assert torch.equal(part.eraser.tensors["gate.0.centre"], whole.eraser.tensors["gate.0.centre"]), (
        "one basis for both"
    )
    first = request.subjects[0].samples
    lives, works = ([s for s in first if s.attribute == asked] for asked in ("residence", "work"))
    topic = {id(s): x for s, x in zip(first, read_gate(tiny_llava, part.eraser, first).layers[1][:, 0], strict=True)}
    assert min(topic[id(s)] for s in lives) > 0 > sum(topic[id(s)] for s in works) / len(works)


def test_nobody_else_asks_for_it(tiny_llava: MultimodalModel) -> None:
    request = labelled()
    no = tuple(s for s in (*request.retain, *request.strangers) if s.attribute != "residence")
    with pytest.raises(InputError, match="no retain prompt asks for residence"):
        fit(tiny_llava, only(replace(request, retain=no, strangers=no[:8]), "residence"), identity_settings())


def test_other_gates_know_no_attributes(tiny_llava: MultimodalModel) -> None:
    request = small_request()
    part = replace(request, subjects=tuple(replace(s, attributes=("residence",)) for s in request.subjects))
    with pytest.raises(InputError, match="only the gate 'subject'"):
        fit(tiny_llava, part, quick())
