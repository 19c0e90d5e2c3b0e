"""The recipe of a comparison: a YAML file, checked completely before any work."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mllmeraser.methods import load_method
from mllmeraser.samples import InputError
from mllmeraser.samples.yaml_files import StrictLoader

COMMITTED = "committed"
VANILLA, RETAIN_ONLY, HOOK_OFF, OURS = "vanilla", "retain-only", "hook-off", "mllmeraser"
GUARDS = ("system-prompt", "block-list")
MANDATORY = (VANILLA, RETAIN_ONLY, *GUARDS, HOOK_OFF)
SETTINGS = "settings"
"""Key of a search result: method and variant -> settings."""
Count = Annotated[int, Field(ge=1)]
Numbers = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
Kind = TypeVar("Kind", bound=BaseModel)


class Strict(BaseModel):
    """Base of the parts of a recipe: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelEntry(Strict):
    """A model that is to forget; a bare name stands for an entry with that name.

    Attributes:
        name: `embedded:llava`, a hub id, or a folder.
        revision: Branch, tag or commit of a hub checkpoint.
        dtype: Type of the weights; None: as `load_model` chooses.
        retain_only: Folder of the model trained without the people to forget, if there is one; `{split}`, `{percent}`
            and `{fold}` are replaced. Or `committed`: the shipped answers of the embedded models' twins.
    """

    name: str = Field(min_length=1)
    revision: str | None = None
    dtype: str | None = None
    retain_only: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, entry: Any) -> Any:
        return {"name": entry} if isinstance(entry, str) else entry

    @field_validator("retain_only")
    @classmethod
    def _known_places(cls, text: str | None) -> str | None:
        if text is not None and text != COMMITTED:
            try:
                text.format(split="", percent="", fold="")
            except (KeyError, IndexError, ValueError):
                raise ValueError("only {split}, {percent} and {fold} can be filled in") from None
        return text


class MethodEntry(Strict):
    """A row of the comparison.

    Attributes:
        method: `mllmeraser`, a method of the registry, or a mandatory row.
        preset: Of `mllmeraser`: default (if none is named), paper or tail.
        settings: Changes of the preset, of the searched settings, or of the method's own.
        label: Name of the row; None: method, preset and variant.
    """

    method: str = Field(min_length=1)
    preset: str | None = None
    variant: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    label: str | None = Field(default=None, min_length=1)

    @property
    def title(self) -> str:
        """Method and variant: the key of searched settings, whatever the label."""
        return ", ".join(part for part in (self.method, self.variant) if part)


class Recipe(Strict):
    """The methods, models, splits, folds and seeds of a comparison.

    Attributes:
        benchmark: `portraits:dev`, a folder, or a hub id.
        training: Folder or hub id of the benchmark's training form by split, if it is elsewhere.
        protocol: Wording and scoring of the benchmark; None: the benchmark's own.
        splits: How many people to forget; a mapping gives each split its own folds.
        seeds: Of everything random. Rows without randomness use the first one alone.
        sets: Set -> largest number of samples of each task and modality (None: all). A list of sets means all samples;
            None: the sets of the protocol.
        limit: Largest number of samples of each task and modality in all other sets.
        methods: The rows, beside the mandatory ones.
        settings_from: Result of `mllmeraser search`, relative to the recipe. Trained rows start from its settings, and
            it must contain all of them. None: trained rows start from the methods' own, which the tables say.
        keep_products: Whether erasers, adapters and weights stay in the folder of the comparison.
        activations: Prompts of each task and modality that are captured before and after steering; 0: none.
        quick: The changes of `--quick`: any of the keys above; `methods` there maps labels to further settings.
    """

    name: str = Field(min_length=1)
    models: tuple[ModelEntry, ...] = Field(min_length=1)
    benchmark: str = Field(min_length=1)
    training: str | None = None
    protocol: str | None = None
    splits: dict[str, Numbers | None] = Field(default={"forget_5": None}, min_length=1)
    folds: Numbers = (0,)
    seeds: Numbers = (0,)
    sets: dict[str, Count | None] | None = None
    limit: Count | None = None
    methods: tuple[MethodEntry, ...] = ()
    settings_from: str | None = Field(default=None, min_length=1)
    batch_size: Count = 32
    keep_products: bool = True
    activations: Annotated[int, Field(ge=0)] = 20
    quick: dict[str, Any] = Field(default_factory=dict)

    @field_validator("models", mode="before")
    @classmethod
    def _single(cls, entries: Any) -> Any:
        return [entries] if isinstance(entries, str) else entries

    @field_validator("sets", "splits", mode="before")
    @classmethod
    def _listed(cls, names: Any) -> Any:
        return dict.fromkeys(map(str, names)) if isinstance(names, list | tuple) else names

    @model_validator(mode="after")
    def _nothing_twice(self) -> Recipe:
        lists = {"folds": self.folds, "seeds": self.seeds, "models": [entry.name for entry in self.models]}
        lists |= {f"splits.{split}": folds for split, folds in self.splits.items() if folds is not None}
        for key, values in lists.items():
            if len(set(values)) < len(values):
                raise ValueError(f"{key} holds something twice")
        return self

    def pairs(self) -> list[tuple[str, int]]:
        """Splits and folds, in order."""
        return [(split, fold) for split, folds in self.splits.items() for fold in folds or self.folds]


def read_recipe(path: str | Path, *, quick: bool = False, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        quick: Whether to make the changes under its key `quick`.
        changes: `KEY=VALUE`, the value as YAML. Each replaces a key of the file, also of its `quick` form. A path to
            searched settings is relative to the working directory here, and to the recipe there.

    Raises:
        InputError: The file cannot be read, a key is unknown, a value does not fit, or searched settings are missing.
    """
    content = read_mapping(Path(path))
    recipe = _checked(content, path)
    if quick:
        content = _quickened(content, recipe.quick, path)
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {change}: expected KEY=VALUE")
        content[key.strip()] = _yaml(text, f"--set {change}")
        if key.strip() == "settings_from" and isinstance(content["settings_from"], str):
            content["settings_from"] = str(Path(content["settings_from"]).absolute())
    return _with_searched(_checked(content, path), Path(path))


def _with_searched(recipe: Recipe, path: Path) -> Recipe:
    """The recipe with searched settings in its rows; settings that a row states override them."""
    if recipe.settings_from is None:
        return recipe
    file = path.parent / recipe.settings_from
    searched, rows = _searched_settings(file, path), []
    for entry in recipe.methods:
        if is_trained(entry.method):
            if entry.title not in searched:
                raise InputError(f"{path}: {file} has no settings of {entry.title}: search them, or leave out the row")
            entry = entry.model_copy(update={"settings": merged(searched[entry.title], entry.settings)})
        rows.append(entry)
    return recipe.model_copy(update={"methods": tuple(rows)})


def _searched_settings(file: Path, recipe: Path) -> dict[str, dict[str, Any]]:
    """The settings of a search result, by method and variant."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"{recipe}: settings_from: there is no {file}: make it with mllmeraser search") from None
    except ValueError:
        content = None
    settings = content.get(SETTINGS) if isinstance(content, dict) else None
    if not isinstance(settings, dict) or not all(isinstance(values, dict) for values in settings.values()):
        raise InputError(f"{recipe}: settings_from: {file} is no result of mllmeraser search")
    return settings


def read_mapping(path: Path) -> dict[str, Any]:
    """The keys of a YAML file; an InputError if it cannot be read, or is not a mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: the recipe cannot be read ({reason})") from None
    content = _yaml(text, str(path))
    if not isinstance(content, dict):
        raise InputError(f"{path}: a recipe is a mapping of keys such as name, models and benchmark")
    return {str(key): value for key, value in content.items()}


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=StrictLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        raise InputError(f"{where}: not YAML ({getattr(error, 'problem', None) or error}{place})") from None


def _checked(content: Mapping[str, Any], path: str | Path) -> Recipe:
    return validated(Recipe, content, path, {"models": ModelEntry, "methods": MethodEntry})


def validated(
    kind: type[Kind], content: Mapping[str, Any], path: str | Path, parts: Mapping[str, type[BaseModel]]
) -> Kind:
    """The keys of a file as an object; `parts` are the classes of nested keys. What does not fit is an InputError."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "recipe"
        if first["type"] == "extra_forbidden":
            known = parts.get(str(first["loc"][0]), kind)
            raise InputError(f"{path}: unknown key {key}; there are {', '.join(known.model_fields)}") from None
        raise InputError(f"{path}: {key}: {first['msg'].removeprefix('Value error, ')}") from None


def _quickened(content: Mapping[str, Any], changes: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    unknown = [key for key in changes if key not in Recipe.model_fields or key in ("name", "quick")]
    if unknown:
        raise InputError(f"{path}: unknown key quick.{unknown[0]}")
    further = changes.get("methods") or {}
    if not isinstance(further, Mapping):
        raise InputError(f"{path}: quick.methods maps labels to settings")
    entries = content.get("methods", ())
    labels = [label_of(MethodEntry.model_validate(entry)) for entry in entries] if further else []
    missing = set(further) - set(labels)
    if missing:
        raise InputError(f"{path}: quick.methods: there is no row {sorted(missing)[0]!r}")
    rows = [
        {**entry, "settings": merged(entry.get("settings") or {}, further.get(label) or {})}
        for label, entry in zip(labels, entries, strict=False)
    ]
    quick = {key: value for key, value in changes.items() if key != "methods"}
    return {**content, **quick, **({"methods": rows} if further else {})}


def label_of(entry: MethodEntry) -> str:
    """Name of a row."""
    if entry.label is not None:
        return entry.label
    preset = entry.preset or ("default" if entry.method == OURS else None)
    return ", ".join(part for part in (entry.method, preset, entry.variant) if part)


def is_trained(method: str) -> bool:
    """Whether a method trains the model. Its settings are then searched, and each seed makes another product."""
    return method not in (OURS, VANILLA, RETAIN_ONLY, HOOK_OFF) and load_method(method).trained


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` updated by `above`, nested mappings too."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result
