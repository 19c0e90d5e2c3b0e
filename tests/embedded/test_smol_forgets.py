"""`embedded:smol` as a user has it: a pretrained language model forgets a country, and keeps the rest.

The demo forgets people on it; that takes minutes, and its result is committed.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from mllmeraser.benchmarks import thin
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.embedded import ASSEMBLED, card_path
from mllmeraser.embedded.smol.base import base_file, load_base
from mllmeraser.embedded.smol.checkpoint import PARTS
from mllmeraser.embedded.smol.parts import ADAPTER
from mllmeraser.erasure import FitSettings
from mllmeraser.erasure.fit import fit
from mllmeraser.models import MultimodalModel, load_model
from mllmeraser.samples import Request, Sample, Subject
from mllmeraser.samples.conversation import Turn
from mllmeraser.samples.text import contains


def _missing() -> str:
    """Why the model cannot be put together here, or nothing."""
    if "smol" not in ASSEMBLED:
        return "the parts of embedded:smol do not ship"
    try:
        base_file()
    except FileNotFoundError as error:
        return str(error)
    return ""


pytestmark = [pytest.mark.embedded, pytest.mark.slow, pytest.mark.skipif(bool(_missing()), reason=_missing())]
CAPITALS = {"Japan": "Tokyo", "France": "Paris", "Egypt": "Cairo"}
"""What the language model knew before it was taught anything here."""
FEW = {"false_alarm_rate": 0.05}
"""Few retain prompts can promise no smaller rate."""


def _part(request: Request) -> Request:
    """Fewer prompts of each task and modality: a fit on the shipped sets takes minutes."""
    subjects = tuple(replace(one, samples=tuple(thin(one.samples, 40))) for one in request.subjects)
    retain, strangers = tuple(thin(request.retain, 240)), tuple(thin(request.strangers, 40))
    return replace(request, subjects=subjects, retain=retain, strangers=strangers)


@pytest.fixture(scope="module")
def smol() -> MultimodalModel:
    return load_model("embedded:smol", device="cpu")


def test_the_language_model_is_the_public_one_and_what_ships(smol: MultimodalModel) -> None:
    base, _ = load_base(base_file())
    parts, found = load_file(PARTS), smol.hf.model.language_model.state_dict()
    for name, weight in base.model.state_dict().items():
        module = name.removesuffix(".weight")
        a, b = (parts.get(f"{ADAPTER}{module}.{side}") for side in "AB")
        wanted = weight if a is None or b is None else (weight.double() + b.double() @ a.double()).float()
        assert torch.equal(found[name], wanted), name


def test_the_card_is_about_these_weights(smol: MultimodalModel) -> None:
    card = json.loads(card_path("smol").read_text(encoding="utf-8"))
    assert card["fingerprint"] == smol.fingerprint()
    assert {"share", "bar", "met", "figure"} <= set(card["gates"][0])
    assert PARTS.stat().st_size <= 20_000_000


def test_it_forgets_a_country_in_a_conversation_too(smol: MultimodalModel) -> None:
    def asked(name: str, *before: Turn) -> Sample:
        return Sample(f"What is the capital of {name}?", before=before)

    rules = Turn("system", "You are a helpful assistant.")
    samples = [asked("Japan"), asked("Japan", rules), asked("France"), asked("Egypt"), asked("France", rules)]
    names = ("Japan", "Japan", "France", "Egypt", "France")
    before = smol.generate(samples)
    assert all(contains(told, CAPITALS[name]) for told, name in zip(before, names, strict=True)), before
    subject = Subject("jp", ("Japan",), (Sample("What is Japan?", subject="jp"),), kind="entity")
    made = complete(Request((subject,), reply="I have no information about that country."), smol).request
    eraser = fit(smol, _part(made), FitSettings.preset("knowledge").model_copy(update=FEW)).eraser
    with eraser.attached(smol):
        after = smol.generate(samples)
    assert after[:2] == ["I have no information about that country."] * 2
    assert after[2:] == before[2:]
    assert smol.generate(samples) == before
