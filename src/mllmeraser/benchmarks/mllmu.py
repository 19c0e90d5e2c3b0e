"""Rows in the schema of MLLMU-Bench (arXiv 2410.22108), and of its relatives, as Samples.

There are three kinds of row. The *evaluation form* has classification, generation and cloze tasks about one person.
The *training form* has `metadata`, a list of questions and answers. *Flat* rows have one question.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from mllmeraser.benchmarks.fields import Person, attribute_key, get, identifier, parse, person, pictures
from mllmeraser.samples.errors import InputError
from mllmeraser.samples.hashing import hash64
from mllmeraser.samples.readers import options_from, text_or_none
from mllmeraser.samples.sample import Modality, Sample, Task
from mllmeraser.samples.text import contains, contains_words, words

Row = Mapping[str, Any]
Prompts = Literal["plain", "instructed"]

BLANK = "__"
TASK_COLUMNS: dict[Task, tuple[str, ...]] = {
    "classification": ("Classification_Task", "Classify"),
    "generation": ("Generation_Task", "Generation"),
    "cloze": ("Mask_Task", "Cloze"),
}
_INSTRUCTIONS: dict[Task, str] = {
    "generation": "Answer in one sentence.",
    "cloze": "Answer with the missing words only.",
}
_LETTER = re.compile(r"\s*\(?([A-Ha-h])\s*[.:)]")
_MODALITIES: dict[str, Modality] = {
    **dict.fromkeys(("image_textual_questions", "image_textual", "multimodal", "muitimodal", "image"), "image"),
    **dict.fromkeys(("pure_text_questions", "pure_text", "unimodal", "text"), "text"),
}


def evaluation_samples(
    row: Row, *, prefix: str = "", prompts: Prompts = "plain", picture_seed: int | None = None
) -> list[Sample]:
    """Every item of an evaluation-form row.

    An image item is repeated for every picture of the row (`Test_Set` has several).
    Ids are `<prefix><ID>/<task>/<modality>/<number>`, followed by `/<picture>` if there are several pictures.

    Args:
        row: The row, with plain Python values.
        prefix: Prefix of every id, to distinguish sets.
        prompts: `"instructed"` adds the answer format to generation and cloze questions. A general model needs it; a
            model trained on the plain questions does not.
        picture_seed: Seed of the choice among several pictures (`chosen_picture`); None: all of them.

    Raises:
        InputError: A field cannot be read, or the row is not in evaluation form.
    """
    key = identifier(row, prefix or "row")
    where = f"{prefix}{key}"
    if all(get(row, *columns) is None for columns in TASK_COLUMNS.values()):
        form = "is in training form" if get(row, "metadata") is not None else "has none of the task columns"
        raise InputError(f"{where}: the row {form}; evaluation needs {', '.join(c[0] for c in TASK_COLUMNS.values())}")
    about, shown = person(row, where), pictures(row, where)
    only = None if picture_seed is None or len(shown) < 2 else chosen_picture(key, len(shown), picture_seed)
    samples: list[Sample] = []
    for task, columns in TASK_COLUMNS.items():
        counts: dict[Modality, int] = {"image": 0, "text": 0}
        for modality, item in _items(parse(get(row, *columns), where), where):
            name = f"{where}/{task}/{modality}/{counts[modality]}"
            counts[modality] += 1
            if modality == "text":
                samples.append(_sample(item, task, about, key, name, prompts))
                continue
            for index, image in enumerate(shown):
                if only in (None, index):
                    full = f"{name}/{index}" if len(shown) > 1 else name
                    samples.append(replace(_sample(item, task, about, key, full, prompts), image=image))
    return samples


def chosen_picture(key: str, count: int, seed: int = 0) -> int:
    """Number of one of `count` pictures of a person; it depends only on the arguments."""
    return hash64(seed, key) % count


def training_samples(
    row: Row, *, prefix: str = "train/", about: Person | None = None, key: str | None = None
) -> list[Sample]:
    """Every question and answer of a training-form row (`ft_Data`); a question with a blank is a cloze.

    Training rows have no biography, so attributes and keywords come from the facts of `about`. A question with the
    person's name gets no picture, unless its `Type` says otherwise. `key` is the ID of a row without one.
    """
    key = key or identifier(row, prefix)
    where = f"{prefix}{key}"
    shown = pictures(row, where)
    about = about or person(row, where)
    samples = []
    for index, item in enumerate(_listed(parse(get(row, "metadata"), where), where)):
        question, answer = text_or_none(get(item, "Question")), text_or_none(get(item, "Answer"))
        if question is None or answer is None:
            raise InputError(f"{where}: an entry of metadata lacks Question or Answer")
        named = about.name is not None and contains(question, about.name)
        modality = _modality(get(item, "Type", "modality")) or ("image" if shown and not named else "text")
        task: Task = "cloze" if BLANK in question else "generation"
        sample = _about(item, Sample(question, answer=answer, task=task, subject=key, id=f"{where}/{index}"), about)
        for number, image in enumerate(shown if modality == "image" else [None]):
            samples.append(replace(sample, image=image, id=sample.id + (f"/{number}" if number else "")))
    return samples


def flat_sample(row: Row, *, prefix: str, number: int) -> Sample:
    """The sample of a flat row: ID, image, question, answer, task, modality, attribute, options, keywords."""
    where = f"{prefix}{number}"
    question = text_or_none(get(row, "question"))
    if question is None:
        raise InputError(f"{where}: question is missing")
    options = options_from(parse(get(row, "options"), where), where)
    task = get(row, "task") or ("classification" if options else "generation")
    if task not in TASK_COLUMNS:
        raise InputError(f"{where}: unknown task {task!r}")
    shown = pictures(row, where) if _modality(get(row, "modality")) != "text" else []
    return Sample(
        question=question,
        image=shown[0] if shown else None,
        answer=text_or_none(get(row, "answer")),
        task=task,
        options=options,
        keywords=_texts(parse(get(row, "keywords"), where)),
        subject=identifier(row, where),
        id=where,
        attribute=attribute_key(get(row, "attribute")),
    )


def _sample(item: Row, task: Task, about: Person, key: str, name: str, prompts: Prompts) -> Sample:
    """A sample of the evaluation form, without picture."""
    question = text_or_none(get(item, "Question"))
    answer = text_or_none(get(item, "Correct_Answer", "Ground_Truth", "Answer"))
    if question is None or answer is None:
        raise InputError(f"{name}: an item lacks its question or its answer")
    options = options_from(parse(get(item, "Options"), name), name) if task == "classification" else ()
    if task == "classification":
        answer = _letter(answer, options, name)
    sample = Sample(question, answer=answer, task=task, options=options, subject=key, id=name)
    return replace(_about(item, sample, about), question=_worded(question, task, prompts))


def _about(item: Row, sample: Sample, about: Person) -> Sample:
    """The sample with attribute and keywords, from the item or else from the facts of its person."""
    answer = sample.answer or ""
    value = dict(sample.options).get(answer, answer)
    attribute = attribute_key(get(item, "Attribute")) or about.attribute_in(value, sample.question)
    keywords = _texts(get(item, "Keywords"))
    if not keywords and sample.task != "classification":
        keywords = _recall_keywords(sample, attribute, about)
    return replace(sample, attribute=attribute, keywords=keywords)


def _recall_keywords(sample: Sample, attribute: str | None, about: Person) -> tuple[str, ...]:
    """The value of the attribute, the cloze value, or the facts in the gold answer."""
    answer, value = sample.answer or "", about.value(attribute)
    said, asked = words(answer), words(sample.question)
    if value is not None and contains_words(said, words(value)):
        return (value,)
    if sample.task == "cloze":
        return (answer,)
    facts = ((fact, words(fact)) for fact in about.facts.values())
    return tuple(f for f, split in facts if contains_words(said, split) and not contains_words(asked, split))


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(str, [value] if isinstance(value, str) else value or ()))


def _items(value: Any, where: str) -> Iterator[tuple[Modality, Row]]:
    """The items of a task column: a list of items with a type, or a mapping by modality."""
    if isinstance(value, Mapping):
        for key, entries in value.items():
            modality = _modality(key)
            if modality is None:
                raise InputError(f"{where}: unknown modality {key!r}")
            for item in _listed(parse(entries, where), where):
                yield modality, item
        return
    for item in _listed(value, where):
        kind = get(item, "Type", "modality")
        modality = _modality(kind)
        if modality is None:
            raise InputError(f"{where}: unknown Type {kind!r}")
        yield modality, item


def _listed(value: Any, where: str) -> list[Row]:
    """The entries of a list, or of a mapping by number; each is an object or the text of one."""
    entries = list(value.values()) if isinstance(value, Mapping) else list(value or ())
    parsed = [parse(entry, where) for entry in entries if entry is not None]
    for entry in parsed:
        if not isinstance(entry, Mapping):
            raise InputError(f"{where}: an item must be an object, not {str(entry)[:40]!r}")
    return parsed


def _modality(value: Any) -> Modality | None:
    return _MODALITIES.get(attribute_key(value) or "")


def _letter(answer: str, options: tuple[tuple[str, str], ...], where: str) -> str:
    """The letter of the right option; some files have its text instead, or both ("B. Oslo")."""
    letters = dict(options)
    if answer.upper() in letters:
        return answer.upper()
    for letter, text in options:
        if text.casefold() == answer.casefold():
            return letter
    match = _LETTER.match(answer)
    if match and match.group(1).upper() in letters:
        return match.group(1).upper()
    raise InputError(f"{where}: the answer {answer!r} is none of the options")


def _worded(question: str, task: Task, prompts: Prompts) -> str:
    if prompts == "plain" or task not in _INSTRUCTIONS:
        return question
    return f"{question}\n{_INSTRUCTIONS[task]}"
