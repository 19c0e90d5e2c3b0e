"""Protocols: how to put a benchmark to a model and count the answers. Every record states the id of its protocol.

- `portraits`: questions as they are, for models trained on exactly these questions. Outcome classes judge the answers.
- `strict`: zero-shot, with a line on the answer's format. Outcome classes judge the answers, with whole words for
  cloze. The likelihood of the options is scored too.
- `official`: as MLLMU-Bench evaluates (arXiv 2410.22108). Greedy decoding of 50 new tokens, after items of another
  person with answers (see `few_shot`). Scores: the first character for classification, a substring for cloze,
  ROUGE-1/2/L and BLEU for generation. One picture per row of `Test_Set`.
- `official-zero-shot`: the same without the items in context, as MMUnlearner and MLLMEraser evaluate.

`official` differs from the published script in four points. The instructions demand the same in other words. The items
in context are earlier turns of the chat. A seed draws pictures and people, while the script draws new ones each time.
The factuality score by GPT-4o-mini is missing. Never put its numbers in one column with a paper's.
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
"""Source of a set's items in context: people of the evaluation form, also for the pictures of `Test_Set`."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to evaluate.

    Attributes:
        id: Its name in records.
        prompts: Wording of the benchmark's questions (see `Benchmark`).
        official: Wording, correctness and scores of the published evaluation.
        few_shot: Whether items of other people come before the question.
        options: Also score classification by option likelihood, by letter or by text.
        max_new_tokens: Longest answer.
        default_sets: Sets that are scored by default; None: all of the score table.
        seed: Seed of the pictures and of the people in context. It belongs to the protocol: runs with different seeds
            use the same items.
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
        """The sets of a benchmark with the questions of this protocol, still without items in context.

        Args:
            benchmark: Loaded with `prompts=protocol.prompts`.
            split: The people to forget.
            fold: Their rotation.
            names: Sets; None: those of `default_sets` that the benchmark has.

        Raises:
            InputError: The benchmark was loaded with other prompts, or there is no such set or split.
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

        A protocol without few shots returns the sets as they are. The number of people shown depends on `family`
        (`model.family.name`).

        Raises:
            InputError: A set has too few people.
        """
        if not self.few_shot:
            return {name: list(samples) for name, samples in sets.items()}
        wanted = sorted({_POOLS[name] for name in sets if name in _POOLS})
        read = self.read(benchmark, split, fold, names=wanted) if wanted else {}
        pools = {name: read[_POOLS[name]] for name in sets if name in _POOLS}
        return add_context(sets, pools, family=family, seed=self.seed)

    def worded(self, sample: Sample) -> Sample:
        """The sample with the protocol's wording of its question."""
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
        InputError: There is none with that id.
    """
    if name not in PROTOCOLS:
        raise InputError(f"unknown protocol {name!r}; known protocols: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def default_protocol(benchmark: Benchmark) -> Protocol:
    """`portraits` for our questions, which the models are trained on; `strict` for other data sets."""
    return PROTOCOLS["portraits" if benchmark.prompts == "plain" else "strict"]
