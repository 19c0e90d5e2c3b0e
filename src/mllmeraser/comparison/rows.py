"""The rows of a comparison: those that the recipe lists, and those that are always there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from mllmeraser.comparison.recipe import (
    GUARDS,
    HOOK_OFF,
    OURS,
    RETAIN_ONLY,
    VANILLA,
    MethodEntry,
    Recipe,
    is_trained,
    label_of,
    merged,
)
from mllmeraser.erasure.settings import FitSettings
from mllmeraser.methods.method import checked
from mllmeraser.methods.registry import load_method
from mllmeraser.samples.errors import InputError

SALT = "compare"
"""Of the erasers' opaque keys and splits: two runs of a recipe make the same erasers. Nobody's secret here."""


@dataclass(frozen=True)
class Row:
    """One method as it is compared.

    Attributes:
        method: Its name in records.
        label: What tables call it; different for every row.
        preset: Of `mllmeraser`, and of the eraser that hook-off takes off again.
        variant: Of a method that has variants.
        settings: Whole settings where a product is made; empty for rows without one.
    """

    method: str
    label: str
    preset: str | None = None
    variant: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seeded(self) -> bool:
        """Whether another seed would make another product."""
        return self.method == OURS or is_trained(self.method)

    @property
    def erases(self) -> bool:
        """Whether an eraser is made for it."""
        return self.method in (OURS, HOOK_OFF)


def rows_of(recipe: Recipe) -> list[Row]:
    """All rows in the order in which they are run: vanilla and its twin first, hook-off last.

    Hook-off is vanilla asked again once everything else has been on the model and off again, the default eraser last.

    Raises:
        InputError: A method, preset, variant or setting does not exist, or two rows have one label.
    """
    listed = [row_of(entry) for entry in recipe.methods if entry.method not in (VANILLA, RETAIN_ONLY, HOOK_OFF)]
    for entry in recipe.methods:
        if entry.method in (VANILLA, RETAIN_ONLY, HOOK_OFF) and (entry.settings or entry.preset or entry.variant):
            raise InputError(f"the row {entry.method} is always there and has no settings")
    there = {row.method for row in listed}
    guards = [row_of(MethodEntry(method=name)) for name in GUARDS if name not in there]
    default = next((row for row in listed if row.method == OURS and row.preset == "default"), None)
    default = default or row_of(MethodEntry(method=OURS))
    hook_off = replace(default, method=HOOK_OFF, label=HOOK_OFF)
    rows = [Row(VANILLA, VANILLA), Row(RETAIN_ONLY, RETAIN_ONLY), *guards, *listed, hook_off]
    labels = [row.label for row in rows]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise InputError(f"two rows are called {twice!r}: give one of them a label")
    return rows


def row_of(entry: MethodEntry) -> Row:
    """A row with whole settings.

    Raises:
        InputError: The method, preset, variant or a setting does not exist.
    """
    if entry.method == OURS:
        preset = entry.preset or "default"
        if entry.variant is not None:
            raise InputError(f"{label_of(entry)}: mllmeraser has presets, not variants")
        settings = fit_settings(preset, entry.settings).model_dump(mode="json")
        return Row(OURS, label_of(entry), preset, None, settings)
    if entry.preset is not None:
        raise InputError(f"{label_of(entry)}: only mllmeraser has presets")
    method = load_method(entry.method)
    if entry.variant is not None and entry.variant not in method.variants:
        known = ", ".join(method.variants) or "none"
        raise InputError(f"{entry.method} has no variant {entry.variant!r}; variants: {known}")
    given = entry.settings | ({"variant": entry.variant} if entry.variant is not None else {})
    try:
        settings = checked(method.settings, given).model_dump(mode="json")
    except InputError as error:
        raise InputError(f"{label_of(entry)}: {error}") from None
    return Row(entry.method, label_of(entry), None, settings.get("variant"), settings)


def fit_settings(preset: str, changes: Mapping[str, Any]) -> FitSettings:
    """A preset of the eraser with some settings changed.

    Raises:
        InputError: There is no such preset, or a setting is unknown or does not fit.
    """
    whole = merged({**FitSettings.preset(preset).model_dump(), "salt": SALT}, changes)
    try:
        return FitSettings.model_validate(whole)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "settings"
        raise InputError(f"mllmeraser, {preset}: {place}: {first['msg'].removeprefix('Value error, ')}") from None


def seeds_of(row: Row, seeds: Sequence[int]) -> Sequence[int]:
    """The seeds with which a row is made."""
    return seeds if row.seeded else seeds[:1]
