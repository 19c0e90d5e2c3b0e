"""The verdict on an eraser: what a fit says last."""

from __future__ import annotations

from typing import Any

import pytest
from steering_kit import ALWAYS, NEVER
from test_artifact import make
from worlds import quick, small_request

from mllmeraser.erasure import PAPER as PAPER_POLICY
from mllmeraser.erasure import Eraser, fit
from mllmeraser.erasure.artifact.manifest import Calibration
from mllmeraser.erasure.calibration.traffic import ALARMS, PROMPTS, with_traffic
from mllmeraser.erasure.calibration.verdict import verdict_of
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples import InputError, Sample

GOOD: dict[str, Any] = {
    "detected": 0.99, "false_alarms": 0.01, "false_alarms_interval": (0.002, 0.02), "auc": 0.99,
    "false_alarm_rate_promised": 0.01, "n_check": 500,
}  # fmt: skip


def verdict(**changes: Any) -> Any:
    return verdict_of(make(calibration=Calibration(**{**GOOD, **changes})).config)


def test_a_good_calibration_passes() -> None:
    found = verdict()
    assert found.passed and found.lines()[-1] == "verdict: it passed its own calibration"
    assert found.lines()[0] == "detected: 0.990 (at least 0.95 is wanted)"


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"detected": 0.0}, "detected"),
        ({"auc": 0.505}, "AUC"),
        ({"false_alarms": 0.045, "false_alarms_interval": (0.03, 0.07)}, "false alarms, false alarms, lower end"),
        ({"false_alarms_interval": (0.011, 0.02)}, "false alarms, lower end"),
        ({"detected": None}, "detected"),
        ({"auc": None}, "AUC"),
    ],
)
def test_what_is_missed_or_not_measured_is_no_pass(changes: dict[str, Any], missed: str) -> None:
    found = verdict(**changes)
    assert not found.passed and found.lines()[-1] == f"verdict: NOT VERIFIED ({missed})"


def test_an_eraser_that_takes_no_decision_is_judged_by_the_order_of_its_scores() -> None:
    eraser = make(calibration=Calibration(auc=0.97), policy=PAPER_POLICY)
    (measure,) = verdict_of(eraser.config).measures
    assert measure.name == "AUC" and measure.value == 0.97 and verdict_of(eraser.config).passed
    with pytest.raises(InputError, match="takes no decision"):
        with_traffic(object(), eraser, LOG, [])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def eraser(tiny_llava: MultimodalModel) -> Eraser:
    return fit(tiny_llava, small_request(), quick()).eraser


LOG = [Sample(f"What is {n} plus two?") for n in range(40)]


@pytest.mark.parametrize(("threshold", "alarms"), [(ALWAYS, 1.0), (NEVER, 0.0)])
def test_false_alarms_on_traffic_are_stated(
    tiny_llava: MultimodalModel, eraser: Eraser, threshold: float, alarms: float
) -> None:
    found = with_traffic(tiny_llava, eraser.replace_config(threshold=threshold), LOG, ["Jane Doe"])
    assert found.config.verification[ALARMS] == alarms and found.config.verification[PROMPTS] == 40
    told = {measure.name: measure for measure in verdict_of(found.config).measures}["false alarms on traffic"]
    assert told.value == alarms and told.passed is (alarms == 0.0)


def test_traffic_about_the_forgotten_is_refused(tiny_llava: MultimodalModel, eraser: Eraser) -> None:
    with pytest.raises(InputError, match="1 prompts of the traffic name somebody to forget"):
        with_traffic(tiny_llava, eraser, [*LOG, Sample("Where is jane DOE now?")], ["Jane Doe"])
    with pytest.raises(InputError, match="no prompts"):
        with_traffic(tiny_llava, eraser, [], [])
