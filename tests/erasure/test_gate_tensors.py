"""One place knows a gate's tensors: the file of its kind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mllmeraser
from mllmeraser.erasure.gates import KINDS

SRC = Path(mllmeraser.__file__).parent
GATES = SRC / "erasure" / "gates"
COMMON = {"weight", "centre", "hidden", "out", "bias", "factor", "scale", "offset"}
"""Words that other code uses for other things."""
SETTINGS = {SRC / "erasure" / "artifact" / "older_formats.py"}
"""Names settings that are called like tensors."""


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_other_file_names_a_tensor_of_a_gate(kind: str) -> None:
    names = {word for spec in KINDS[kind].TENSORS for word in (spec.name, spec.key)} - COMMON
    pattern = re.compile(r"\[[\"'](?:" + "|".join(names) + r")[\"']\]|\.(?:" + "|".join(names) + r")[\"']")
    if names:
        elsewhere = [f for f in SRC.rglob("*.py") if f.parent != GATES and f not in SETTINGS]
        assert not [str(f) for f in elsewhere if pattern.search(f.read_text())]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_tensor_states_whether_subjects_share_it(kind: str) -> None:
    specs = KINDS[kind].specs()
    assert any(spec.per_subject for spec in specs) and len({spec.key for spec in specs}) == len(specs)
    assert all("subjects" not in spec.axes[1:] for spec in specs)
