"""The demo: forget people on a shipped model, score the eraser beside the paper's preset, and write the report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mllmeraser.benchmarks.benchmark import Benchmark, thin
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import ASSEMBLED
from mllmeraser.embedded.twins import retain_only
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.calibration.score_prompts import read_gate
from mllmeraser.erasure.directions.contrast_states import ContrastSet
from mllmeraser.erasure.directions.kinds import direction_kind
from mllmeraser.erasure.fit import FitResult, fit
from mllmeraser.erasure.gates.conformal import auc
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.evaluation.outcomes import judge
from mllmeraser.evaluation.records import EvaluationResult, write_scores
from mllmeraser.evaluation.runner import evaluate
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.prompts import contrast_prompts, request_pictures
from mllmeraser.portraits.rows import png
from mllmeraser.portraits.taught import benchmark_of, world_of
from mllmeraser.report import content
from mllmeraser.report.content import GatePanel, Timing
from mllmeraser.report.render import render_report
from mllmeraser.samples.files import write_whole
from mllmeraser.samples.intervals import wilson
from mllmeraser.samples.progress import Progress, counting
from mllmeraser.samples.request import Request, Subject
from mllmeraser.samples.sample import IDENTITY, Sample
from mllmeraser.version import __version__

SPLIT = "forget_5"


@dataclass(frozen=True)
class Sizes:
    """Scored prompts of each task and modality, by set; None: all."""

    retain_heldout: int | None = 36
    celebrity: int | None = 24
    general: int | None = 120
    holdout: int | None = 24


FEW = Sizes(retain_heldout=12, celebrity=8, general=40, holdout=8)
"""For a model that is many times larger."""


def forget_request(benchmark: Benchmark, split: str, fold: int = 0, pictures: int = 4) -> Request:
    """A request to forget a split's people: pictures and names, no private facts."""
    world, subjects = world_of(benchmark.name), []
    for key in benchmark.forget_ids(split, fold):
        images = request_pictures(world, key, pictures)
        samples = tuple(Sample("Who is this?", image, subject=key, attribute=IDENTITY) for image in images)
        subjects.append(Subject(key, benchmark.names[key], samples))
    return Request(tuple(subjects))


def scored_sets(benchmark: Benchmark, split: str, sizes: Sizes | None = None, fold: int = 0) -> dict[str, list[Sample]]:
    """The sets of the score table. No fit or calibration uses them."""
    forgotten = set(benchmark.forget_ids(split, fold))
    sets = {"test": benchmark.samples("test", split, fold)}
    for name, count in asdict(sizes or Sizes()).items():
        samples = benchmark.samples(name, split, fold)
        sets[name] = samples if count is None else thin(samples, count)
    sets["perception"] = [s for s in benchmark.samples("perception", split, fold) if s.subject in forgotten]
    return sets


class Demo:
    """One run of the demo, stage by stage."""

    def __init__(
        self, model: MultimodalModel, benchmark: Benchmark, sizes: Sizes, seed: int, progress: Progress | None
    ) -> None:
        self.model, self.benchmark, self.seed, self.progress = model, benchmark, seed, progress
        self.sets = scored_sets(benchmark, SPLIT, sizes)
        self.result = EvaluationResult()
        self.timings: list[Timing] = []
        self.answers: dict[str, dict[str, str]] = {}

    def score(self, method: str, eraser: Eraser | None, preset: str | None = None) -> None:
        """Score all sets once, with or without an eraser."""
        stage = f"score {preset or method}"
        count = counting(self.progress, stage, sum(map(len, self.sets.values())))
        began = time.perf_counter()
        result = evaluate(
            self.model, self.sets, method=method, preset=preset, benchmark=self.benchmark.name, split=SPLIT,
            intervention=eraser, values=self.benchmark.values, vocabulary=self.benchmark.vocabulary, seed=self.seed,
            progress=count,
        )  # fmt: skip
        self.timings.append(Timing(stage, time.perf_counter() - began))
        self.result += result
        self.answers[preset or method] = {item["id"]: item["answer"] for item in result.items}

    def fit(self, preset: str) -> FitResult:
        """Make an eraser for the people of the split, from pictures and names."""
        settings = FitSettings.preset(preset).model_copy(update={"seed": self.seed})
        request = complete(forget_request(self.benchmark, SPLIT), seed=self.seed, benchmark=self.benchmark.name).request
        contrast = None
        if "contrast" in direction_kind(settings.direction.kind).needs:
            contrast = ContrastSet.from_samples(*contrast_prompts(self.seed))
        began = time.perf_counter()
        result = fit(self.model, request, settings, self.progress, contrast=contrast)
        seconds = time.perf_counter() - began
        if preset != "default":
            self.timings.append(Timing(f"fit {preset}", seconds))
            return result
        steps = {name.replace("_", " "): value for name, value in result.timings.items() if name != "total"}
        self.timings += [Timing(f"fit: {name}", value, part_of_fit=True) for name, value in steps.items()]
        return result


def run_demo(name: str, out: Path, *, seed: int = 0, progress: Progress | None = None) -> content.DemoResult:
    """Run the demo and write `report.html`, `scores.json` and `eraser/` into `out`, an existing folder.

    On a model that was put together from a pretrained one, the paper's preset is left out. By calculation its
    attack on pictures would take an hour there.
    """
    model = load_model(name)
    large = name.partition(":")[2] in ASSEMBLED
    demo = Demo(model, load_benchmark(benchmark_of(name)), FEW if large else Sizes(), seed, progress)
    before = model.next_token_logits(demo.sets["test"][:32])
    demo.score("vanilla", None)
    default = demo.fit("default")
    demo.score("mllmeraser", default.eraser, "default")
    if not large:
        demo.score("mllmeraser", demo.fit("paper").eraser, "paper")
    demo.score("detached", None)
    identical = torch.equal(before, model.next_token_logits(demo.sets["test"][:32]))
    folder = default.eraser.save_pretrained(out / "eraser")
    records = [*demo.result.records, *(r for r in retain_only(name, SPLIT) if r.set in demo.sets)]
    write_scores(out / "scores.json", records, force=True)
    panels, alarms = gate_panels(demo, default.eraser)
    config = default.eraser.config
    result = content.DemoResult(
        model=demo.model.name,
        parameters=sum(p.numel() for p in demo.model.hf.parameters()),
        benchmark=demo.benchmark.name,
        split=SPLIT,
        people=len(demo.benchmark.people),
        forgotten=_cards(demo, "test", 6),
        retained=_cards(demo, "retain_heldout", 6),
        scores=tuple(content.ScoreRow.from_record(record.model_dump()) for record in records),
        gates=panels,
        timings=tuple(demo.timings),
        artifact=content.ArtifactFacts(
            folder="eraser/",
            bytes=sum(f.stat().st_size for f in folder.iterdir()),
            subjects=len(config.subjects),
            policy=config.policy.name,
            gate=config.gate.kind,
            direction=config.direction.kind,
            **{name: getattr(config, name) for name in SAME},
        ),
        detached_identical=identical,
        false_alarms=alarms,
        seed=demo.seed,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        version=__version__,
        notes=(
            "Each person was forgotten from four pictures and the name; the request holds no private fact.",
            "Scored on pictures and wordings that were used neither to train the model nor to fit the eraser.",
        ),
    )
    write_whole(out / "report.html", render_report(result), force=True)
    return result


SAME = ("hidden_size", "num_layers", "read_layers", "shift_layers", "strength", "threshold", "fingerprint")
SITES = ("name, at every text token", "topic, at the last prompt token", "face, over the image tokens")


def gate_panels(demo: Demo, eraser: Eraser) -> tuple[tuple[GatePanel, ...], content.FalseAlarms | None]:
    """Gate scores on the scored prompts: the decision first, then layer by layer; and the false alarms."""
    groups = {"forget": demo.sets["test"], "retain": demo.sets["retain_heldout"], "strangers": demo.sets["holdout"]}
    readings = {name: read_gate(demo.model, eraser, samples) for name, samples in groups.items()}
    threshold = eraser.config.threshold
    panels = [_panel("decision: the gates together", {g: r.pooled for g, r in readings.items()}, threshold)]
    by_subject = eraser.config.policy.pooling == "subject"
    for i, layer in enumerate(eraser.config.read_layers):
        title = f"layer {layer}" + (f": {SITES[i]}" if by_subject else "")
        panels.append(_panel(title, {g: r.layers[layer].amax(-1) for g, r in readings.items()}, None))
    if threshold is None:
        return tuple(panels), None
    fired, n = int((readings["retain"].pooled > threshold).sum()), len(groups["retain"])
    promised = eraser.config.calibration.false_alarm_rate_promised or 0.0
    return tuple(panels), content.FalseAlarms(promised, fired, n, *wilson(fired, n))


def _panel(title: str, scores: Mapping[str, Tensor], threshold: float | None) -> GatePanel:
    """One figure, without the prompts that a gate cannot read: a text prompt, for example, has no face."""
    finite = {group: values[values.isfinite()] for group, values in scores.items()}
    readings = {group: tuple(values.tolist()) for group, values in finite.items() if len(values)}
    return GatePanel(title, readings, threshold, auc(finite["forget"], finite["retain"]))


def _cards(demo: Demo, name: str, people: int, questions: int = 4) -> tuple[content.PersonCard, ...]:
    by_person: dict[str, list[Sample]] = {}
    for sample in demo.sets[name]:
        by_person.setdefault(sample.subject or "", []).append(sample)
    cards: list[content.PersonCard] = []
    for key, samples in by_person.items():
        image = next((s.image for s in samples if s.image is not None), None)
        if image is not None and len(cards) < people:
            qa = tuple(_qa(demo, sample) for sample in _varied(samples, questions))
            cards.append(content.PersonCard(png(np.asarray(image))["bytes"], demo.benchmark.names[key][0], qa))
    return tuple(cards)


def _varied(samples: Sequence[Sample], n: int) -> list[Sample]:
    """A few samples of different tasks, modalities and attributes."""
    chosen: list[Sample] = []
    kinds = [("image", "generation"), ("text", "generation"), ("image", "cloze"), ("image", "classification")]
    for kind in [*kinds, ("text", "cloze"), ("text", "classification")]:
        asked = {s.attribute for s in chosen}
        fits = [s for s in samples if (s.modality, s.task) == kind]
        chosen += [s for s in fits if s.attribute not in asked][:1] or fits[:1]
    return chosen[:n]


def _qa(demo: Demo, sample: Sample) -> content.QA:
    before, after, detached = (demo.answers[m][sample.id] for m in ("vanilla", "default", "detached"))
    values, vocabulary = demo.benchmark.values, demo.benchmark.vocabulary
    first, second = (judge(sample, answer, values, vocabulary).outcome for answer in (before, after))
    return content.QA(sample.prompt, sample.answer or "", before, after, detached, first, second, sample.modality)
