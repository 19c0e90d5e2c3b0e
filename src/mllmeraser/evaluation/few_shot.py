"""Items of other people, with their answers, before a question: the few-shot rule of MLLMU-Bench.

Classification on forget, retain and test shows every item of one person, of the same modality as the question;
cloze shows two people to LLaVA and one to others; generation and the celebrities are asked without. Who is shown is
not scored in that task. (Open-MMUnlearning's denominators agree at 10 %: 245 = 49 people of 50 with 5 questions
each, 96 = 48 people with 2. Its retain cells leave out two people in classification as well.)

A method that reads the prompt, such as an eraser's gate, also reads the people in context: for such methods the
zero-shot protocol says more about the person who is asked about.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from mllmeraser.evaluation.context import ContextSample
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Modality, Sample, Task

SHOT_SETS = ("forget", "test", "retain")


def people_shown(name: str, task: Task, family: str) -> int:
    """How many people's items stand before a question of a task in a set; they are not scored."""
    if name not in SHOT_SETS or task == "generation":
        return 0
    return 2 if task == "cloze" and family == "llava" else 1


def drawn_people(samples: Sequence[Sample], name: str, task: Task, count: int, seed: int) -> tuple[str, ...]:
    """The people whose items are shown: the same ones whatever the order of `samples` and the process.

    Raises:
        InputError: Nobody would be left to ask about.
    """
    everybody = sorted({sample.subject for sample in samples if sample.task == task and sample.subject is not None})
    if count >= len(everybody):
        raise InputError(
            f"set {name}: {task} shows {count} of {len(everybody)} people before every question and leaves nobody "
            "to ask about; use a larger split or the protocol official-zero-shot"
        )
    return tuple(sorted(random.Random(f"{seed}/{name}/{task}").sample(everybody, count)))


def add_context(
    sets: Mapping[str, Sequence[Sample]], pools: Mapping[str, Sequence[Sample]], *, family: str, seed: int
) -> dict[str, list[Sample]]:
    """The sets with items in context, without the people who are shown.

    Args:
        sets: Samples by name of the set.
        pools: For each set that gets a context the samples from which it is taken.
        family: Name of the model's family.
        seed: Of who is shown.

    Raises:
        InputError: A set has too few people.
    """
    return {name: _set(name, samples, pools.get(name, ()), family, seed) for name, samples in sets.items()}


def _set(name: str, samples: Sequence[Sample], pool: Sequence[Sample], family: str, seed: int) -> list[Sample]:
    shown: dict[Task, tuple[str, ...]] = {}
    for task in dict.fromkeys(sample.task for sample in samples):
        count = people_shown(name, task, family)
        if count:
            shown[task] = drawn_people(samples, name, task, count, seed)
    shots = {
        (task, modality): _shots(pool, task, modality, people)
        for task, people in shown.items()
        for modality in ("image", "text")
    }
    return [
        _shown_to(sample, shots[sample.task, sample.modality]) if sample.task in shown else sample
        for sample in samples
        if sample.subject not in shown.get(sample.task, ())
    ]


def _shots(pool: Sequence[Sample], task: Task, modality: Modality, people: Sequence[str]) -> tuple[Sample, ...]:
    return tuple(s for s in pool if s.task == task and s.modality == modality and s.subject in people)


def _shown_to(sample: Sample, shots: tuple[Sample, ...]) -> Sample:
    return ContextSample(
        question=sample.question,
        image=sample.image,
        answer=sample.answer,
        task=sample.task,
        options=sample.options,
        keywords=sample.keywords,
        subject=sample.subject,
        id=sample.id,
        attribute=sample.attribute,
        shots=shots,
    )
