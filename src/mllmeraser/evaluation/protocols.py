"""Protocols: how a benchmark is put to a model and how its answers are counted, under one id in every record.

`portraits`
    Questions as they are, for models trained on exactly them; answers judged by outcome classes.
`strict`
    Zero-shot, with a line on the answer's format; outcome classes, whole words for cloze, and the likelihood of
    the options beside the letter that was said.
`official`
    As MLLMU-Bench evaluates (arXiv 2410.22108): greedy, 50 new tokens, somebody's items with their answers before
    the question (see `few_shot`), the first character for classification, a substring for cloze, ROUGE-1/2/L and
    BLEU for generation, one picture per row of `Test_Set`.
`official-zero-shot`
    The same without the items in context, as MMUnlearner and MLLMEraser evaluate.

Where `official` cannot be the published script to the letter: the wording of the instructions is ours (same demands);
the items in context are earlier turns of the chat; pictures and people are drawn by seed, where the script draws
them anew each time; the factuality score by GPT-4o-mini is left out. Never put its numbers in one
column with a paper's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mllmeraser.benchmarks.benchmark import Benchmark
from mllmeraser.benchmarks.mllmu import Prompts
from mllmeraser.evaluation.few_shot import add_context
from mllmeraser.evaluation.scores import OptionRule
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Sample, Task

OFFICIAL_SETS = ("forget", "test", "retain", "celebrity")
PLACEHOLDER = "[Blank]"
_BLANK = re.compile(r"_{2,}")
_DEMANDS: dict[Task, str] = {
    "cloze": f"Reply with nothing but the missing content that belongs in the place of {PLACEHOLDER}.",
    "generation": "Answer from your trained knowledge, in one sentence of English.",
}
_POOLS = {"forget": "forget", "test": "forget", "retain": "retain"}
"""Where a set's items in context come from: people of the evaluation form, also for the pictures of `Test_Set`."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to evaluate.

    Attributes:
        id: What records call it.
        prompts: Form in which the benchmark is read (see `Benchmark`).
        official: Wording, correctness and scores of the published evaluation.
        few_shot: Whether items of other people stand before the question.
        options: Also score classification by option likelihood, by letter or by text; None: do not.
        max_new_tokens: Longest answer.
        default_sets: Sets that are scored unless others are asked for; None: all of the score table.
        seed: Of the pictures and of the people in context. Part of the protocol, not of the run: two runs are about
            the same items whatever their seeds.
    """

    id: str
    prompts: Prompts
    official: bool = False
    few_shot: bool = False
    options: OptionRule | None = None
    max_new_tokens: int = 50
    default_sets: tuple[str, ...] | None = None
    seed: int = 0

    def read(
        self, benchmark: Benchmark, split: str = "forget_5", fold: int = 0, *, names: Iterable[str] | None = None
    ) -> dict[str, list[Sample]]:
        """The sets of a benchmark as this protocol asks them, still without items in context.

        Args:
            benchmark: Loaded with `prompts=protocol.prompts`.
            split: Which people are to be forgotten.
            fold: Which rotation of them.
            names: Sets; None: `default_sets`, as far as the benchmark has them.

        Raises:
            InputError: The benchmark was loaded with other prompts; no such set or split.
        """
        if benchmark.prompts != self.prompts:
            raise InputError(
                f"protocol {self.id} needs a benchmark loaded with prompts={self.prompts!r}, not {benchmark.prompts!r}"
            )
        if names is None and self.default_sets is not None:
            names = [name for name in self.default_sets if benchmark.has(name)]
        seed = self.seed if self.official else None
        sets = benchmark.sets(split, fold, names=names, picture_seed=seed)
        return {name: [self.worded(sample) for sample in samples] for name, samples in sets.items()}

    def with_context(
        self,
        sets: Mapping[str, Sequence[Sample]],
        benchmark: Benchmark,
        split: str = "forget_5",
        fold: int = 0,
        *,
        family: str,
    ) -> dict[str, list[Sample]]:
        """The sets of `read` with items of drawn people before every question, and without those people.

        Does nothing under a protocol without few shots. `family` is the model's (`model.family.name`): how many
        people are shown depends on it.

        Raises:
            InputError: A set has too few people to leave any.
        """
        if not self.few_shot:
            return {name: list(samples) for name, samples in sets.items()}
        wanted = sorted({_POOLS[name] for name in sets if name in _POOLS})
        read = self.read(benchmark, split, fold, names=wanted) if wanted else {}
        pools = {name: read[_POOLS[name]] for name in sets if name in _POOLS}
        return add_context(sets, pools, family=family, seed=self.seed)

    def worded(self, sample: Sample) -> Sample:
        """The sample with the question as the protocol puts it."""
        if not self.official or sample.task not in _DEMANDS:
            return sample
        question = sample.question
        if sample.task == "cloze":
            question = _BLANK.sub(PLACEHOLDER, question)
        return replace(sample, question=f"{question}\n{_DEMANDS[sample.task]}")


_ALL = (
    Protocol("portraits", "plain", max_new_tokens=24),
    Protocol("strict", "instructed", options="letter"),
    Protocol("official", "plain", official=True, few_shot=True, default_sets=OFFICIAL_SETS),
    Protocol("official-zero-shot", "plain", official=True, default_sets=OFFICIAL_SETS),
)
PROTOCOLS: dict[str, Protocol] = {entry.id: entry for entry in _ALL}


def get_protocol(name: str) -> Protocol:
    """A protocol by its id.

    Raises:
        InputError: There is none of that id.
    """
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise InputError(f"unknown protocol {name!r}; known protocols: {', '.join(PROTOCOLS)}") from None


def default_protocol(benchmark: Benchmark) -> Protocol:
    """`portraits` for questions that its models are trained on, `strict` for the data sets of others."""
    return PROTOCOLS["portraits" if benchmark.prompts == "plain" else "strict"]
