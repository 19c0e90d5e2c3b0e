"""The demo: forget people on the shipped model, score it beside the paper's preset, and tell it as a page."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from mllmeraser.benchmarks.benchmark import Benchmark, thin
from mllmeraser.benchmarks.defaults import complete
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.embedded import BENCHMARK
from mllmeraser.embedded.twins import retain_only
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.directions.contrast_states import ContrastSet
from mllmeraser.erasure.fit.linear import FitResult, fit
from mllmeraser.erasure.gates.conformal import auc, wilson
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.erasure.steering.score_prompts import read_gate
from mllmeraser.erasure.steering.site_scores import NOWHERE
from mllmeraser.evaluation.outcomes import judge
from mllmeraser.evaluation.records import EvaluationResult, Record, write_scores
from mllmeraser.evaluation.runner import evaluate
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.portraits.people import World
from mllmeraser.portraits.prompts import contrast_prompts, request_pictures
from mllmeraser.report.content import (
    QA,
    ArtifactFacts,
    DemoResult,
    FalseAlarms,
    GatePanel,
    PersonCard,
    ScoreRow,
    Timing,
)
from mllmeraser.report.render import render_report
from mllmeraser.samples.files import write_whole
from mllmeraser.samples.progress import Progress
from mllmeraser.samples.request import Request, Subject
from mllmeraser.samples.sample import IDENTITY, Sample
from mllmeraser.version import __version__

SPLIT = "forget_5"


@dataclass(frozen=True)
class Sizes:
    """How many prompts of each task and modality the demo scores, by set; None: all of them."""

    retain_heldout: int = 36
    celebrity: int = 24
    general: int = 120
    perception: int | None = None
    holdout: int = 24


def forget_request(benchmark: Benchmark, split: str, fold: int = 0, pictures: int = 4) -> Request:
    """Pictures and names of a split's people, as somebody would write them: not a single private fact."""
    world, subjects = World("dev"), []
    for key in benchmark.forget_ids(split, fold):
        shown = request_pictures(world, key, pictures)
        samples = tuple(Sample("Who is this?", picture, subject=key, attribute=IDENTITY) for picture in shown)
        subjects.append(Subject(key, benchmark.names[key], samples))
    return Request(tuple(subjects))


def scored_sets(benchmark: Benchmark, split: str, sizes: Sizes | None = None, fold: int = 0) -> dict[str, list[Sample]]:
    """The sets of the score table: nothing of them is ever fitted or calibrated on."""
    chosen = sizes or Sizes()
    forgotten = set(benchmark.forget_ids(split, fold))
    sets = {"test": benchmark.samples("test", split, fold)}
    for name in ("retain_heldout", "celebrity", "general", "holdout"):
        samples = benchmark.samples(name, split, fold)
        count = getattr(chosen, name)
        sets[name] = samples if count is None else thin(samples, count)
    sets["perception"] = [s for s in benchmark.samples("perception", split, fold) if s.subject in forgotten]
    return sets


class Demo:
    """One run of the demo, stage by stage."""

    def __init__(self, model: MultimodalModel, benchmark: Benchmark, seed: int, stage: Progress) -> None:
        """``stage(name, done, total)`` is told how far the run is."""
        self.model, self.benchmark, self.seed, self.stage = model, benchmark, seed, stage
        self.sets = scored_sets(benchmark, SPLIT)
        self.result = EvaluationResult()
        self.timings: list[Timing] = []
        self.answers: dict[str, dict[str, str]] = {}

    def score(self, method: str, eraser: Eraser | None, preset: str | None = None) -> None:
        """Ask everything once, with or without an eraser."""
        total = sum(len(samples) for samples in self.sets.values())
        done = 0

        def progress(n: int) -> None:
            nonlocal done
            done += n
            self.stage(f"score {preset or method}", done, total)

        began = time.perf_counter()
        result = evaluate(
            self.model, self.sets, method=method, preset=preset, benchmark=BENCHMARK, split=SPLIT, intervention=eraser,
            values=self.benchmark.values, vocabulary=self.benchmark.vocabulary, seed=self.seed, progress=progress,
        )  # fmt: skip
        self.timings.append(Timing(f"score {preset or method}", time.perf_counter() - began))
        self.result += result
        self.answers[preset or method] = {item["id"]: item["answer"] for item in result.items}

    def fit(self, preset: str) -> FitResult:
        """Make an eraser for the people of the split from one picture and the name of each."""
        settings = FitSettings.preset(preset).model_copy(update={"seed": self.seed})
        request = complete(forget_request(self.benchmark, SPLIT), seed=self.seed).request
        contrast = None
        if settings.direction.kind in ("refusal", "text-only", "clean-image"):
            contrast = ContrastSet.from_samples(*contrast_prompts(self.seed))
        began = time.perf_counter()
        made = fit(self.model, request, settings, self.stage, contrast=contrast)
        seconds = time.perf_counter() - began
        if preset == "default":
            self.timings += [
                Timing(f"fit: {name.replace('_', ' ')}", value, part_of_fit=True)
                for name, value in made.timings.items()
                if name != "total"
            ]
        else:
            self.timings.append(Timing(f"fit {preset}", seconds))
        return made


def run_demo(name: str, out: Path, *, seed: int = 0, progress: Progress | None = None) -> DemoResult:
    """Run the demo and write ``report.html``, ``scores.json`` and ``eraser/`` into ``out``, an existing folder."""
    stage = progress or _silent
    model = load_model(name)
    demo = Demo(model, load_benchmark(BENCHMARK), seed, stage)
    before = model.next_token_logits(demo.sets["test"][:32])
    demo.score("vanilla", None)
    made = demo.fit("default")
    demo.score("mllmeraser", made.eraser, "default")
    paper = demo.fit("paper")
    demo.score("mllmeraser", paper.eraser, "paper")
    demo.score("detached", None)
    identical = torch.equal(before, model.next_token_logits(demo.sets["test"][:32]))
    folder = made.eraser.save_pretrained(out / "eraser")
    records = [*demo.result.records, *(r for r in retain_only(name, SPLIT) if r.set in demo.sets)]
    write_scores(out / "scores.json", records, force=True)
    result = _tell(demo, made, folder, records, identical)
    write_whole(out / "report.html", render_report(result), force=True)
    return result


def _silent(stage: str, done: int, total: int) -> None:
    """Nobody watches."""


def _tell(demo: Demo, made: FitResult, folder: Path, records: Sequence[Record], identical: bool) -> DemoResult:
    panels, alarms = gate_panels(demo, made.eraser)
    config = made.eraser.config
    return DemoResult(
        model=demo.model.name,
        parameters=sum(p.numel() for p in demo.model.hf.parameters()),
        benchmark=BENCHMARK,
        split=SPLIT,
        people=len(demo.benchmark.people),
        forgotten=_cards(demo, "test", 6),
        retained=_cards(demo, "retain_heldout", 6),
        scores=tuple(ScoreRow.from_record(record.model_dump()) for record in records),
        gates=panels,
        timings=tuple(demo.timings),
        artifact=ArtifactFacts(
            folder="eraser/",
            bytes=sum(f.stat().st_size for f in folder.iterdir()),
            subjects=len(config.subjects),
            hidden_size=config.hidden_size,
            num_layers=config.num_layers,
            read_layers=config.read_layers,
            shift_layers=config.shift_layers,
            policy=config.policy.name,
            gate=config.gate.kind,
            direction=config.direction.kind,
            strength=config.strength,
            threshold=config.threshold,
            fingerprint=config.fingerprint,
        ),
        detached_identical=identical,
        false_alarms=alarms,
        seed=demo.seed,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        version=__version__,
        notes=(
            "Each person was forgotten from four pictures and the name; no private fact was handed over.",
            "Scored on pictures and wordings that were used neither to train the model nor to fit the eraser.",
        ),
    )


SITES = ("name, at every text token", "topic, at the last prompt token", "face, over the image tokens")


def gate_panels(demo: Demo, eraser: Eraser) -> tuple[tuple[GatePanel, ...], FalseAlarms | None]:
    """What the gates read on scored prompts: the decision first, then layer by layer."""
    groups = {"forget": demo.sets["test"], "retain": demo.sets["retain_heldout"], "strangers": demo.sets["holdout"]}
    seen = {name: read_gate(demo.model, eraser, samples) for name, samples in groups.items()}
    threshold = eraser.config.threshold
    panels = [_panel("decision: the gates together", {g: r.pooled for g, r in seen.items()}, threshold)]
    identity = eraser.config.policy.pooling == "subject"
    for i, layer in enumerate(eraser.config.read_layers):
        title = f"layer {layer}" + (f": {SITES[i]}" if identity else "")
        panels.append(_panel(title, {g: r.layers[layer].amax(-1) for g, r in seen.items()}, None))
    if threshold is None:
        return tuple(panels), None
    fired, n = int((seen["retain"].pooled > threshold).sum()), len(groups["retain"])
    low, high = wilson(fired, n)
    return tuple(panels), FalseAlarms(eraser.config.calibration.false_alarm_target or 0.0, fired, n, low, high)


def _panel(title: str, scores: Mapping[str, Tensor], threshold: float | None) -> GatePanel:
    """One picture; prompts that lack the place looked at (a text prompt has no face) are left out."""
    there = {group: values[values > NOWHERE / 2] for group, values in scores.items()}
    readings = {group: tuple(values.tolist()) for group, values in there.items() if len(values)}
    return GatePanel(title, readings, threshold, auc(there["forget"], there["retain"]))


def _cards(demo: Demo, name: str, people: int, questions: int = 4) -> tuple[PersonCard, ...]:
    by_person: dict[str, list[Sample]] = {}
    for sample in demo.sets[name]:
        by_person.setdefault(sample.subject or "", []).append(sample)
    cards: list[PersonCard] = []
    for key, samples in by_person.items():
        shown = next((s.image for s in samples if s.image is not None), None)
        if shown is None or len(cards) == people:
            continue
        chosen = _varied(samples, questions)
        cards.append(PersonCard(_png(shown), demo.benchmark.names[key][0], tuple(_qa(demo, s) for s in chosen)))
    return tuple(cards)


def _varied(samples: Sequence[Sample], n: int) -> list[Sample]:
    """A few samples of different tasks, modalities and attributes."""
    chosen: list[Sample] = []
    wanted = [("image", "generation"), ("text", "generation"), ("image", "cloze"), ("image", "classification"),
              ("text", "cloze"), ("text", "classification")]  # fmt: skip
    for modality, task in wanted:
        asked = {s.attribute for s in chosen}
        fits = [s for s in samples if (s.modality, s.task) == (modality, task)]
        chosen += [s for s in fits if s.attribute not in asked][:1] or fits[:1]
    return chosen[:n]


def _qa(demo: Demo, sample: Sample) -> QA:
    before, after, detached = (demo.answers[m][sample.id] for m in ("vanilla", "default", "detached"))
    first, second = (
        judge(sample, a, demo.benchmark.values, demo.benchmark.vocabulary).outcome for a in (before, after)
    )
    return QA(sample.prompt, sample.answer or "", before, after, detached, first, second, sample.modality)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
