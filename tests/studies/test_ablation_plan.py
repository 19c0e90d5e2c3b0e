"""Every row of the plan can be made on a model of the depth of those that ship, and says what is different."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ablation_kit import TAIL, SmallLab, scored

from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.artifact.manifest import EraserConfig
from mllmeraser.erasure.directions.kinds import Direction
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.request import Request
from mllmeraser.studies.ablation.edits import Exchanged, Open, Refitted, Strength
from mllmeraser.studies.ablation.lab import Lab, RequestSpec, StateCachingModel
from mllmeraser.studies.ablation.measure import OTHERS, about, decision, measure
from mllmeraser.studies.ablation.questions import Questions
from mllmeraser.studies.ablation.sections import DEFAULT, Row, all_rows, changed

DEPTH, WIDTH = 6, 4
ROWS = all_rows(DEPTH)


class Drawn:
    """A lab whose directions are random numbers: enough to see which tensor goes where."""

    def directions(self, _settings: object) -> dict[int, Direction]:
        return {layer: Direction(torch.randn(WIDTH, dtype=torch.float64), {}) for layer in range(DEPTH)}


def blank(settings: FitSettings) -> Eraser:
    """An artifact with the layers that a fit with these settings would have."""
    reads, (shifts, *_) = settings.layers(DEPTH)
    tensors = {f"gate.{layer}.weight": torch.ones(1, WIDTH) for layer in reads}
    tensors |= {f"direction.{layer}": torch.ones(WIDTH) for layer in shifts}
    config = EraserConfig(
        package_version="0", created="", base_model="m", fingerprint="", dtype="float32", prompt_hash="",
        hidden_size=WIDTH, num_layers=DEPTH, read_layers=reads, shift_layers=shifts, policy=settings.policy,
        gate=settings.gate.model_copy(update={"kind": "soft"}), direction=settings.direction, threshold=0.0,
        subjects=("a",),
    )  # fmt: skip
    return Eraser(config, tensors)


@pytest.mark.parametrize("row", [row for row in ROWS if row.settings is not None], ids=lambda row: row.key)
def test_every_row_ends_in_an_artifact_that_reads_before_it_shifts(row: Row) -> None:
    lab: Any = Drawn()
    edits = [edit for edit in row.edits if not isinstance(edit, Refitted)]
    assert row.settings is not None
    config = reduce(lambda eraser, edit: edit(eraser, lab), edits, blank(row.settings)).config
    assert set(config.read_layers) | set(config.shift_layers) <= set(range(DEPTH))
    if config.policy.read == "per-layer":
        assert config.read_layers == config.shift_layers
    else:
        assert max(config.read_layers) < min(config.shift_layers)
    if any(isinstance(edit, Open) for edit in row.edits):
        assert config.policy.phi == "threshold", "only a threshold can be set below everything"


def test_every_row_has_a_name_of_its_own_and_there_are_rows_of_every_kind() -> None:
    assert len({row.key for row in ROWS}) == len(ROWS)
    assert len({(r.settings, r.edits, r.request, r.alone) for r in ROWS if r.section != "policies"}) > 100
    kinds = {edit.direction.kind for row in ROWS for edit in row.edits if isinstance(edit, Exchanged)}
    assert kinds == {"text-only", "clean-image", "refusal", "idk", "unknown"}
    gates = {row.settings.gate.kind for row in ROWS if row.settings}
    assert gates == {"subject", "soft", "hard", "quadratic", "neural"}
    assert {row.section for row in ROWS if row.settings is None} == {"policies"}
    assert sum(row.alone for row in ROWS) == 1


def test_changed_settings_are_checked_and_leave_the_rest() -> None:
    other = changed(DEFAULT, gate={"rank": 7}, strength=2.0)
    assert (other.gate.rank, other.gate.kind, other.strength, other.policy) == (7, "subject", 2.0, DEFAULT.policy)
    assert changed(DEFAULT) == DEFAULT and hash(changed(DEFAULT)) == hash(DEFAULT)
    with pytest.raises(ValueError, match="strength"):
        changed(DEFAULT, strength=-1.0)


# -- measuring -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(tiny_llava: MultimodalModel) -> SmallLab:
    return SmallLab(tiny_llava)


def told(lab: SmallLab, row: Row, **options: Any) -> dict[str, Any]:
    return measure(lab, Questions(lab.model, lab.benchmark, split="forget_5", **options), scored(), row)


def test_a_row_tells_what_the_artifact_did(lab: SmallLab) -> None:
    row = Row("strength", "tail, open and strong", TAIL, (Open(), Strength(8.0)))
    entry = told(lab, row)
    assert (entry["section"], entry["name"], entry["strength"], entry["policy"]) == (
        "strength", "tail, open and strong", 8.0, "tail",
    )  # fmt: skip
    assert entry["recalled"]["n"] + entry["letters"]["n"] == len(scored()["test"])
    assert entry["by_picture"]["n"] + entry["by_name"]["n"] == entry["recalled"]["n"]
    assert entry["decision"]["detected"]["share"] == entry["decision"]["false_alarms"]["share"] == 1.0
    assert entry["changed"]["share"] > 0 and entry["changed"]["n"] == len(scored()["retain_heldout"]) + 4
    assert entry["lengths"].keys() == {"2", "3", "4"} and entry["seconds"] >= entry["making_seconds"] >= 0
    assert 0 <= entry["changed"]["low"] <= entry["changed"]["share"] <= entry["changed"]["high"] <= 1


def test_the_bare_model_and_strength_zero_are_one(lab: SmallLab) -> None:
    bare = told(lab, Row("policies", "bare model", None))
    still = told(lab, Row("strength", "none", TAIL, (Strength(0.0),)), ask_all=True)
    assert "decision" not in bare and bare["changed"]["share"] == 0.0
    for name in ("recalled", "letters", "outcomes", "kept", "changed", "by_name"):
        assert bare[name] == still[name]


def test_what_cannot_be_made_is_a_result_too(lab: SmallLab) -> None:
    needy = changed(TAIL, false_alarm_rate=0.001)
    entry = told(lab, Row("samples", "too few", needy))
    assert "retain prompts" in entry["failed"] and entry["name"] == "too few" and "recalled" not in entry


def test_people_by_themselves_have_an_artifact_each_and_are_counted_together(lab: SmallLab) -> None:
    row = Row("samples", "alone", TAIL, (Strength(4.0),), request=RequestSpec(pictures=1), alone=True)
    entry = told(lab, row)
    sets = scored()
    test = len(sets["test"])
    assert entry["recalled"]["n"] + entry["letters"]["n"] == test, "each person's questions under their own artifact"
    assert entry["kept"][OTHERS]["n"] == test, "and once under that of the other one"
    assert entry["kept"]["general"]["n"] == 2 * len(sets["general"])
    assert entry["decision"]["detected"]["n"] == test
    mine = about(sets, ["Person0"], lab.people)
    assert {s.subject for s in mine["test"]} == {"Person0"} and {s.subject for s in mine[OTHERS]} == {"Person1"}
    assert about(sets, lab.people, lab.people) is sets


def test_it_is_told_whom_the_model_named_and_whether_rightly(tiny_llava: MultimodalModel) -> None:
    class Named(SmallLab):
        def request(self, shown: RequestSpec) -> Request:
            whole = super().request(shown)
            told = zip(whole.subjects, ((), ("Mara Velden",)), strict=True)
            return replace(whole, subjects=tuple(replace(subject, names=names) for subject, names in told))

    lab = Named(tiny_llava)
    names = {"Person0": ("A",), "Person1": ("B",)}
    lab.benchmark = SimpleNamespace(name="tiny", values={}, vocabulary=None, names=names)  # type: ignore[assignment]
    entry = told(lab, Row("samples", "no name", TAIL, request=RequestSpec(names=False)))
    assert entry["named_by_model"] == {"of": 2, "named": 1, "rightly": 0}


@pytest.mark.slow
def test_a_request_shows_what_its_row_says(tiny_llava: MultimodalModel) -> None:
    benchmark = load_benchmark("portraits:dev")
    lab = Lab(StateCachingModel(tiny_llava), benchmark, "forget_5", 0, 0)
    one = lab.people[0]
    (name,) = benchmark.names[one]
    shown, nameless = (lab.request(RequestSpec(pictures=1, people=(one,), names=names)) for names in (True, False))
    assert [subject.key for subject in shown.subjects] == [subject.key for subject in nameless.subjects] == [one]
    portraits = {s.image.tobytes() for s in shown.subjects[0].samples if s.image is not None and not s.id}
    assert len(portraits) == 1 and any(name in s.prompt for s in shown.forget)
    assert not any(name in s.prompt for s in (*shown.retain, *nameless.forget)), "a tiny model names nobody"
    some = lab.request(RequestSpec(pictures=1, people=(one,), retain=1 / 3))
    assert len(some.retain) == -(-len(shown.retain) // 3)


def test_decisions_are_counted_against_each_artifact_of_its_own(lab: SmallLab) -> None:
    made = lab.fitted(TAIL)
    low, high = (made.replace_config(threshold=value) for value in (0.0, 2.0))
    one, other = torch.tensor([1.0, 3.0]), torch.tensor([-1.0, 1.0])
    found = decision([(low, one, other), (high, one, other)])
    assert found["detected"]["share"] == 3 / 4 and found["false_alarms"]["share"] == 1 / 4
    assert found["auc"] == pytest.approx((1.0 + 0.5 + 1.0 + 1.0) / 4)
    assert found["detected"]["low"] < 3 / 4 < found["detected"]["high"]
