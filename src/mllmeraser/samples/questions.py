"""The question library: generic questions about a person, in image form and in name form.

A request can be fitted without a single private fact, because what is asked about a person is much the same
for everybody. The shipped library (`data/questions.yaml`) holds the wordings; a library of one's own has the
same keys.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.folders import check_keys, load_yaml
from mllmeraser.samples.sample import Task

WHO = "{who}"
NOUN = "{noun}"
BLANK = "__"
FORM_TASKS: dict[str, Task] = {"generation": "generation", "cloze": "cloze", "choice": "classification"}
TOP_KEYS = ("image_forms", "patterns", "cloze_leads", "attributes")
ATTRIBUTE_KEYS = ("nouns", "values", "generation", "cloze", "choice")


@dataclass(frozen=True, slots=True)
class Wording:
    """One way to ask about one attribute.

    Attributes:
        attribute: What is asked for, such as `"occupation"`.
        task: How it is asked; `"classification"` needs options from `values`.
        template: The text with the placeholder `{who}`. Without it the wording suits pictures only.
        values: Generic values of the attribute, from which options are drawn.
    """

    attribute: str
    task: Task
    template: str
    values: tuple[str, ...] = ()

    @property
    def names_person(self) -> bool:
        """Whether the wording can be asked by name, without a picture."""
        return WHO in self.template

    def render(self, who: str) -> str:
        """The question about `who` ("this person", or a name), each sentence with a capital."""
        text = self.template.replace(WHO, who)
        head, colon, tail = text.partition(": ")
        if colon and BLANK in tail:
            return f"{_capital(head)}: {_capital(tail)}"
        return _capital(text)

    def options(self, rng: random.Random) -> tuple[tuple[str, str], ...]:
        """Four generic options in random order for multiple choice; empty for the other tasks."""
        if self.task != "classification":
            return ()
        return tuple(zip("ABCD", rng.sample(self.values, 4), strict=True))


@dataclass(frozen=True)
class QuestionLibrary:
    """Wordings about a person, and the phrases that stand for the person before a picture."""

    wordings: tuple[Wording, ...]
    image_forms: tuple[str, ...] = ("this person",)

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes asked about, in the order of the file."""
        return tuple(dict.fromkeys(wording.attribute for wording in self.wordings))

    def select(self, tasks: Iterable[Task] | None = None, attributes: Iterable[str] | None = None) -> QuestionLibrary:
        """The part of the library with these tasks and attributes (None: all)."""
        wanted_tasks = None if tasks is None else set(tasks)
        wanted = None if attributes is None else set(attributes)
        kept = [
            wording
            for wording in self.wordings
            if (wanted_tasks is None or wording.task in wanted_tasks)
            and (wanted is None or wording.attribute in wanted)
        ]
        return QuestionLibrary(tuple(kept), self.image_forms)

    def draw(self, n: int, rng: random.Random, *, by_name: bool = False) -> list[Wording]:
        """Draw `n` wordings, spread evenly over tasks and attributes.

        Within a task and attribute no wording comes twice before all have come. With `by_name` only wordings
        that can be asked without a picture are drawn.
        """
        strata: dict[tuple[str, str], list[Wording]] = {}
        for wording in self.wordings:
            if wording.names_person or not by_name:
                strata.setdefault((wording.task, wording.attribute), []).append(wording)
        for group in strata.values():
            rng.shuffle(group)
        order = _interleaved(list(strata), rng)
        drawn: list[Wording] = []
        for index in range(n if order else 0):
            group = strata[order[index % len(order)]]
            drawn.append(group[(index // len(order)) % len(group)])
        return drawn


@lru_cache(maxsize=1)
def default_library() -> QuestionLibrary:
    """The library that ships with the package."""
    with as_file(files("mllmeraser.samples") / "data" / "questions.yaml") as path:
        return read_library(path)


def read_library(path: str | Path) -> QuestionLibrary:
    """Read a question library from YAML.

    Raises:
        InputError: The file cannot be read, has unknown keys, or a multiple-choice wording has fewer than
            four values to draw options from.
    """
    path = Path(path)
    data = load_yaml(path)
    if not isinstance(data, dict) or not isinstance(data.get("attributes"), dict):
        raise InputError(f"{path}: must be a mapping with the keys {', '.join(TOP_KEYS)}")
    check_keys(data, TOP_KEYS, str(path))
    wordings: list[Wording] = []
    for attribute, entry in data["attributes"].items():
        wordings += _attribute_wordings(str(attribute), entry or {}, data, path)
    if not wordings:
        raise InputError(f"{path}: holds no wording")
    return QuestionLibrary(tuple(dict.fromkeys(wordings)), tuple(data.get("image_forms") or ("this person",)))


def _attribute_wordings(attribute: str, entry: Mapping[str, Any], data: Mapping[str, Any], path: Path) -> list[Wording]:
    where = f"{path}, attribute {attribute}"
    check_keys(dict(entry), ATTRIBUTE_KEYS, where)
    nouns = entry.get("nouns") or ()
    patterns = [pattern.replace(NOUN, noun) for pattern in data.get("patterns") or () for noun in nouns]
    generation = [*patterns, *(entry.get("generation") or ())]
    clozes = [lead + text for lead in data.get("cloze_leads") or ("",) for text in entry.get("cloze") or ()]
    if any(BLANK not in text for text in clozes):
        raise InputError(f"{where}: a cloze wording needs the blank {BLANK}")
    values = tuple(str(value) for value in entry.get("values") or ())
    # Any open question can be asked with options; `choice` is for wordings that only make sense with them.
    choice = [*generation, *(entry.get("choice") or ())] if values else []
    if entry.get("choice") and not values or 0 < len(values) < 4:
        raise InputError(f"{where}: multiple choice needs at least four values")
    forms = {"generation": generation, "cloze": clozes, "choice": choice}
    return [Wording(attribute, FORM_TASKS[form], text, values) for form, texts in forms.items() for text in texts]


def _interleaved(strata: list[tuple[str, str]], rng: random.Random) -> list[tuple[str, str]]:
    """The strata in random order with the tasks taking turns, so that a short draw has all of them."""
    queues: dict[str, list[tuple[str, str]]] = {}
    for stratum in strata:
        queues.setdefault(stratum[0], []).append(stratum)
    for queue in queues.values():
        rng.shuffle(queue)
    order: list[tuple[str, str]] = []
    for turn in range(max((len(queue) for queue in queues.values()), default=0)):
        order += [queue[turn] for queue in queues.values() if turn < len(queue)]
    return order


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
