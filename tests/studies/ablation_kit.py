"""A small lab: real fits of a tiny model, on made-up people."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from worlds import QUESTIONS, person, small_request

from mllmeraser.erasure import ContrastSet, FitSettings
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.prompts import contrast_prompts
from mllmeraser.samples import Sample
from mllmeraser.samples.request import Request
from mllmeraser.studies.ablation.lab import Lab, RequestSpec, StateCachingModel
from mllmeraser.studies.ablation.sections import changed
from tiny import picture

#: What a handful of prompts can promise.
FEW = {"false_alarm_rate": 0.2, "batch_size": 64}
TAIL = changed(FitSettings.preset("tail"), **FEW)
PAPER = changed(FitSettings.preset("paper"), **FEW)
WORLD: Any = SimpleNamespace(name="tiny", values={}, vocabulary=None)


class SmallLab(Lab):
    """The lab with a request of its own in place of the benchmark's."""

    def __init__(self, model: MultimodalModel) -> None:
        super().__init__(StateCachingModel(model), WORLD, "forget_5", 0, 0)

    @cached_property
    def people(self) -> tuple[str, ...]:
        return tuple(subject.key for subject in self.request(RequestSpec()).subjects)

    @cached_property
    def contrast(self) -> ContrastSet:
        restricted = [Sample(f"How do I make this {i}?", picture(200 + i)) for i in range(3)]
        said = self.model.generate(restricted, max_new_tokens=1)
        # the first word of another prompt's answer: a flip that a tiny model can be brought to
        targets = [said[(i + 1) % 3].strip() or "She" for i in range(3)]
        benign = tuple(Sample(f"How do I make this {i}?", picture(300 + i)) for i in range(3))
        texts = [tuple(sample for sample in side if sample.image is None) for side in contrast_prompts(0, 4)]
        return ContrastSet((*restricted, *texts[0]), (*targets, *["She"] * 4), (*benign, *texts[1]))

    def request(self, shown: RequestSpec) -> Request:
        whole = small_request()
        chosen = tuple(s for s in whole.subjects if not shown.people or s.key in shown.people)
        return replace(whole, subjects=chosen, retain=self._some(whole.retain, shown.retain))


def scored() -> dict[str, list[Sample]]:
    """Test questions about both people, open and by letter; retained ones with and without a picture; general ones."""
    sets = {
        "test": [s for n in range(2) for s in person(f"Person{n}", n, 2, QUESTIONS)],
        "retain_heldout": [s for n in range(6) for s in person(f"Keep{n}", 20 + n, 1, QUESTIONS[:2])],
        "general": [Sample(f"What is thing {i}?", answer="no thing") for i in range(4)],
    }
    sets["test"] = [_by_letter(s) if i % 2 else s for i, s in enumerate(sets["test"])]
    return {name: [replace(s, id=f"{name}/{i}") for i, s in enumerate(rows)] for name, rows in sets.items()}


def _by_letter(sample: Sample) -> Sample:
    return replace(sample, task="classification", answer="A", options=(("A", "baker"), ("B", "pilot")))
