"""The question library: generic questions about a person, with a picture or by name.

Questions about people are much alike, so a request needs no private fact. `data/questions.yaml` is the shipped
library; a user's library has the same keys.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mllmeraser.samples.errors import InputError
from mllmeraser.samples.folders import check_keys
from mllmeraser.samples.sample import Task
from mllmeraser.samples.yaml_files import load_yaml

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
        attribute: The attribute in question, such as `"occupation"`.
        task: The form of the question; `"classification"` needs options from `values`.
        template: The text with the placeholder `{who}`. Without it the wording suits pictures only.
        values: Generic values of the attribute, the pool of the options.
    """

    attribute: str
    task: Task
    template: str
    values: tuple[str, ...] = ()

    @property
    def names_person(self) -> bool:
        """Whether the wording works by name, without a picture."""
        return WHO in self.template

    def render(self, who: str) -> str:
        """The question about `who` ("this person", or a name)."""
        return fill(self.template, who)

    def options(self, rng: random.Random) -> tuple[tuple[str, str], ...]:
        """Four generic options in random order for multiple choice; empty for the other tasks."""
        return tuple(zip("ABCD", rng.sample(self.values, 4), strict=True)) if self.task == "classification" else ()


@dataclass(frozen=True)
class QuestionLibrary:
    """Wordings about a person, and the phrases for the person in a picture."""

    wordings: tuple[Wording, ...]
    image_forms: tuple[str, ...] = ("this person",)

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes of the wordings, in the order of the file."""
        return tuple(dict.fromkeys(wording.attribute for wording in self.wordings))

    def select(
        self, tasks: Collection[Task] | None = None, attributes: Collection[str] | None = None
    ) -> QuestionLibrary:
        """The part of the library with these tasks and attributes (None: all)."""
        kept = tuple(
            wording
            for wording in self.wordings
            if (tasks is None or wording.task in tasks) and (attributes is None or wording.attribute in attributes)
        )
        return QuestionLibrary(kept, self.image_forms)

    def draw(self, n: int, rng: random.Random, *, by_name: bool = False) -> list[Wording]:
        """Draw `n` wordings, spread evenly over tasks and attributes.

        Within a task and attribute each wording comes once before any repeats. `by_name` leaves out wordings that
        need a picture.
        """
        strata: dict[tuple[str, str], list[Wording]] = {}
        for wording in self.wordings:
            if wording.names_person or not by_name:
                strata.setdefault((wording.task, wording.attribute), []).append(wording)
        for group in strata.values():
            rng.shuffle(group)
        order = _interleaved(list(strata), rng)
        return [strata[stratum][turn % len(strata[stratum])] for turn in range(n) for stratum in order][:n]


@lru_cache(maxsize=1)
def default_library() -> QuestionLibrary:
    """The library that ships with the package."""
    with as_file(files("mllmeraser.samples") / "data" / "questions.yaml") as path:
        return read_library(path)


def read_library(path: str | Path) -> QuestionLibrary:
    """Read a question library from YAML.

    Raises:
        InputError: The file cannot be read, has unknown keys, or has multiple choice with fewer than four values.
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
    # Every open question also works with options; `choice` holds wordings that make sense only with options.
    choice = [*generation, *(entry.get("choice") or ())] if values else []
    if entry.get("choice") and not values or 0 < len(values) < 4:
        raise InputError(f"{where}: multiple choice needs at least four values")
    forms = {"generation": generation, "cloze": clozes, "choice": choice}
    return [Wording(attribute, FORM_TASKS[form], text, values) for form, texts in forms.items() for text in texts]


def _interleaved(strata: list[tuple[str, str]], rng: random.Random) -> list[tuple[str, str]]:
    """The strata in random order, the tasks in turn, so that a short draw has all tasks."""
    queues: dict[str, list[tuple[str, str]]] = {}
    for stratum in strata:
        queues.setdefault(stratum[0], []).append(stratum)
    for queue in queues.values():
        rng.shuffle(queue)
    return [stratum for turn in zip_longest(*queues.values()) for stratum in turn if stratum is not None]


def fill(template: str, who: str) -> str:
    """Put the person into a template, with a capital at the start and after the instruction of a cloze question."""
    head, colon, tail = template.replace(WHO, who).partition(": ")
    if colon and BLANK in tail:
        tail = tail[:1].upper() + tail[1:]
    return head[:1].upper() + head[1:] + colon + tail
