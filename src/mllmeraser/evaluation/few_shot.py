"""Items of other people, with their answers, before a question: the few-shot rule of MLLMU-Bench.

Classification on forget, retain and test shows every item of one person, in the modality of the question. Cloze shows
two people to LLaVA and one to other families. Generation and the celebrities show none. The people shown are not
scored in that task. (Open-MMUnlearning's denominators agree at 10 %: 245 = 49 people of 50 with 5 questions
each, 96 = 48 people with 2. Its retain cells leave out two people in classification as well.)

A method that reads the prompt, such as an eraser's gate, also reads the people in context. For such methods the
zero-shot protocol says more about the person in question.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.sample import Modality, Sample, Task

SHOT_SETS = ("forget", "test", "retain")


@dataclass(frozen=True, slots=True)
class ContextSample(Sample):
    """A sample after earlier questions and answers.

    Attributes:
        shots: The earlier turns, oldest first, each with its answer and possibly its own picture. The context of a
            shot itself is ignored.
    """

    shots: tuple[Sample, ...] = ()

    def digest(self) -> str:
        """Like `Sample.digest`, over the whole conversation."""
        # `slots=True` replaces the class, so a bare super() would look for the wrong one.
        digest = hashlib.sha256(Sample.digest(self).encode())
        for shot in self.shots:
            digest.update(f"\0{shot.digest()}\0{shot.answer}".encode())
        return digest.hexdigest()


def shots_of(sample: Sample) -> tuple[Sample, ...]:
    """The turns before the question of a sample; usually none."""
    return sample.shots if isinstance(sample, ContextSample) else ()


def people_shown(name: str, task: Task, family: str) -> int:
    """The number of people with items before each question of a task in a set; they are not scored."""
    if name not in SHOT_SETS or task == "generation":
        return 0
    return 2 if task == "cloze" and family == "llava" else 1


def drawn_people(samples: Sequence[Sample], name: str, task: Task, count: int, seed: int) -> tuple[str, ...]:
    """The people shown; they depend neither on the order of `samples` nor on the process.

    Raises:
        InputError: No person would be left to ask about.
    """
    everybody = sorted({sample.subject for sample in samples if sample.task == task and sample.subject is not None})
    if count >= len(everybody):
        raise InputError(
            f"set {name}: {task} shows {count} of {len(everybody)} people before every question and leaves no "
            "one to ask about; use a larger split or the protocol official-zero-shot"
        )
    return tuple(sorted(random.Random(f"{seed}/{name}/{task}").sample(everybody, count)))


def add_context(
    sets: Mapping[str, Sequence[Sample]], pools: Mapping[str, Sequence[Sample]], *, family: str, seed: int
) -> dict[str, list[Sample]]:
    """The sets with items in context, without the people shown.

    Args:
        sets: Samples by name of the set.
        pools: The items to show, for each set that gets a context.
        family: Name of the model's family.
        seed: Seed of the draw of people.

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
    return ContextSample(**{field.name: getattr(sample, field.name) for field in fields(Sample)}, shots=shots)
