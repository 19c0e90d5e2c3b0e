"""Ask a model one question, score it on a benchmark, or attack it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mllmeraser.benchmarks.benchmark import thin
from mllmeraser.benchmarks.registry import load_benchmark
from mllmeraser.erasure.artifact.eraser import Eraser
from mllmeraser.erasure.steering import ErasurePack, attach_all
from mllmeraser.evaluation.attacks.run import QUICK, write_attacks
from mllmeraser.evaluation.attacks.run import attack as _attack
from mllmeraser.evaluation.protocols import default_protocol, get_protocol
from mllmeraser.evaluation.records import Record, write_scores
from mllmeraser.evaluation.runner import evaluate as _evaluate
from mllmeraser.models.loading import load_model
from mllmeraser.models.model import MultimodalModel
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.images import open_image
from mllmeraser.samples.progress import Progress, counting
from mllmeraser.samples.readers import read_samples
from mllmeraser.samples.sample import Sample


@dataclass(frozen=True)
class Reading:
    """The gate of one eraser at one question: its score, also by layer, and whether it fired."""

    eraser: str
    score: float | None
    threshold: float | None
    fired: bool
    layers: dict[int, float] = field(repr=False)

    def line(self) -> str:
        """The reading in one line of text."""
        limit = "" if self.threshold is None else f", threshold {self.threshold:.2f}"
        score = "no name or face" if self.score is None else f"gate {self.score:.2f}"
        return f"{self.eraser}: {score}{limit}: {'acts' if self.fired else 'does not act'}"


@dataclass(frozen=True)
class Answer:
    """One answer, and the reading of each eraser's gate."""

    answer: str
    readings: tuple[Reading, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def ask(
    model: str | MultimodalModel,
    question: str,
    *,
    image: str | Path | None = None,
    erasers: Sequence[str | Path | Eraser] = (),
    max_new_tokens: int = 32,
) -> Answer:
    """Ask one question with erasers attached.

    Raises:
        InputError: The question is empty, or a picture, eraser or model cannot be used.
    """
    if not question.strip():
        raise InputError("the question is empty")
    sample = Sample(question, None if image is None else open_image(image))
    named = load_erasers(erasers)
    loaded = load_model(model) if isinstance(model, str) else model
    if not named:
        return Answer(loaded.generate([sample], max_new_tokens=max_new_tokens)[0])
    with attach_all(loaded, named) as attachment:
        text = loaded.generate([sample], max_new_tokens=max_new_tokens)[0]
        scores = attachment.readings
    assert scores is not None
    readings = []
    for i, (name, eraser) in enumerate(named.items()):
        highest = {layer: values[0].amax() for layer, values in scores.per_layer[name].items()}
        layers = {layer: float(score) for layer, score in highest.items() if score.isfinite()}
        fired = bool(scores.amplitudes[0, i] != 0)
        pooled = float(scores.pooled[0, i]) if scores.pooled[0, i].isfinite() else None  # None: nothing to read
        readings.append(Reading(name, pooled, eraser.config.threshold, fired, layers))
    return Answer(text, tuple(readings))


def load_erasers(erasers: Iterable[str | Path | Eraser]) -> dict[str, Eraser]:
    """Load erasers, by the name of their folder; a repeated name gets a `+`."""
    named: dict[str, Eraser] = {}
    for entry in erasers:
        eraser = entry if isinstance(entry, Eraser) else Eraser.from_pretrained(entry)
        name = eraser.name if isinstance(entry, Eraser) else Path(entry).name
        while name in named:
            name += "+"
        named[name] = eraser
    return named


def evaluate_samples(
    model: str | MultimodalModel,
    files: Sequence[str | Path],
    *,
    limit: int | None = None,
    erasers: Sequence[str | Path | Eraser] = (),
    protocol: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Record]:
    """Score a model on samples of one's own: JSONL, parquet, or folders of either, a set each.

    The sets have the names of the files without suffix. Every sample needs an answer or keywords. For the other
    arguments see `evaluate`; the protocol is `strict` unless another one without examples is given.

    Raises:
        InputError: A file cannot be read, two have one name, a sample has no answer, or an eraser is for another model.
    """
    paths = [Path(file) for file in files]
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        raise InputError("two of the files have one name: each is a set of that name")
    rules, named = get_protocol(protocol or "strict"), load_erasers(erasers)
    sets = {path.stem: read_samples(path, of_request=True) for path in paths}
    loaded = load_model(model) if isinstance(model, str) else model
    labels = {"benchmark": "own samples", "split": "-", "protocol": rules, "seed": seed}
    return _scored(loaded, sets, named, limit, progress, **labels)


def evaluate(
    model: str | MultimodalModel,
    benchmark: str,
    *,
    split: str = "forget_5",
    fold: int = 0,
    sets: Sequence[str] | None = None,
    limit: int | None = None,
    erasers: Sequence[str | Path | Eraser] = (),
    protocol: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Record]:
    """Score a model on a benchmark, bare or with erasers attached.

    Args:
        benchmark: `"portraits:dev"`, a folder, or a hub id.
        fold: Which rotation of the split.
        sets: Only these sets; None: those of the protocol.
        limit: At most this many samples of each set, modality and task.
        protocol: Prompts and counting rules (see `evaluation.protocols`); None: `portraits` for the embedded
            benchmark, `strict` for others.

    Raises:
        InputError: No such benchmark, split, set, protocol or model, or an eraser for another model.
    """
    asked = None if protocol is None else get_protocol(protocol)
    data = load_benchmark(benchmark, prompts=None if asked is None else asked.prompts)
    rules = asked or default_protocol(data)
    named = load_erasers(erasers)
    chosen = rules.read(data, split, fold, names=sets)
    loaded = load_model(model) if isinstance(model, str) else model
    chosen = rules.with_context(chosen, data, split, fold, family=loaded.family.name)
    labels = {"benchmark": data.name, "split": split, "protocol": rules, "seed": seed}
    vocabulary = data.vocabulary if benchmark.startswith("portraits:") else None
    return _scored(loaded, chosen, named, limit, progress, values=data.values, vocabulary=vocabulary, **labels)


def _scored(
    model: MultimodalModel,
    sets: Mapping[str, Sequence[Sample]],
    named: Mapping[str, Eraser],
    limit: int | None,
    progress: Progress | None,
    **options: Any,
) -> list[Record]:
    """Records of the sets, at most `limit` samples of each kind, with the erasers attached."""
    chosen = sets if limit is None else {name: thin(samples, limit) for name, samples in sets.items()}
    return _evaluate(
        model,
        chosen,
        method="mllmeraser" if named else "vanilla",
        intervention=ErasurePack(named) if named else None,
        policy="+".join(eraser.config.policy.name for eraser in named.values()) or None,
        progress=counting(progress, "score", sum(map(len, chosen.values()))),
        **options,
    ).records


def attack(
    model: str | MultimodalModel,
    benchmark: str,
    out: Path,
    *,
    split: str = "forget_5",
    fold: int = 0,
    erasers: Sequence[str | Path | Eraser] = (),
    quick: bool = False,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Try every attack on a model with erasers, write ``attacks.json``, and return its rows.

    Raises:
        InputError: No such benchmark, split or model, or an eraser for another model.
    """
    data, named = load_benchmark(benchmark), load_erasers(erasers)
    loaded = load_model(model) if isinstance(model, str) else model
    policies = [eraser.config.policy for eraser in named.values()]
    records = _attack(
        loaded, data, ErasurePack(named) if named else None, split=split, fold=fold, size=QUICK if quick else None,
        seed=seed, preset="+".join(f"{p.name}, {p.action}" for p in policies) or None, progress=progress,
    )  # fmt: skip
    write_attacks(records, out, force=force)
    return [asdict(record) for record in records]


def write_records(records: Sequence[Record], out: Path, *, force: bool = False) -> list[dict[str, Any]]:
    """Write ``scores.json`` and return its rows."""
    write_scores(out, records, force=force)
    return [record.model_dump() for record in records]
