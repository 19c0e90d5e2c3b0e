"""The rows of a comparison: those of the recipe and the mandatory ones."""

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
from mllmeraser.erasure import FitSettings
from mllmeraser.methods import load_method
from mllmeraser.methods.method import checked
from mllmeraser.samples import InputError
from mllmeraser.samples.validation import first_fault

SALT = "compare"
"""Of the erasers' opaque keys and splits. It is public, so that two runs of a recipe make the same erasers."""


@dataclass(frozen=True)
class Row:
    """One method of a comparison.

    Attributes:
        label: Its name in tables, different for every row.
        preset: Of `mllmeraser`, and of the eraser that hook-off detaches.
        settings: Complete settings of a product; empty for rows without one.
    """

    method: str
    label: str
    preset: str | None = None
    variant: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seeded(self) -> bool:
        """Whether another seed makes another product."""
        return self.method == OURS or is_trained(self.method)

    @property
    def erases(self) -> bool:
        """Whether its product is an eraser."""
        return self.method in (OURS, HOOK_OFF)


def rows_of(recipe: Recipe) -> list[Row]:
    """All rows in running order: vanilla and its twin first, hook-off last.

    Hook-off asks vanilla again after every other row was attached and detached, the default eraser last. It is an
    InputError if a method, preset, variant or setting does not exist, or two rows have one label.
    """
    fixed = (VANILLA, RETAIN_ONLY, HOOK_OFF)
    for entry in recipe.methods:
        if entry.method in fixed and (entry.settings or entry.preset or entry.variant):
            raise InputError(f"the row {entry.method} is always there and has no settings")
    listed = [row_of(entry) for entry in recipe.methods if entry.method not in fixed]
    there = {row.method for row in listed}
    guards = [row_of(MethodEntry(method=name)) for name in GUARDS if name not in there]
    default = next((row for row in listed if row.method == OURS and row.preset == "default"), None)
    hook_off = replace(default or row_of(MethodEntry(method=OURS)), method=HOOK_OFF, label=HOOK_OFF)
    rows = [Row(VANILLA, VANILLA), Row(RETAIN_ONLY, RETAIN_ONLY), *guards, *listed, hook_off]
    labels = [row.label for row in rows]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise InputError(f"two rows are called {twice!r}: give one of them a label")
    return rows


def row_of(entry: MethodEntry) -> Row:
    """A row with complete settings; an InputError if its method, preset, variant or a setting does not exist."""
    label = label_of(entry)
    if entry.method == OURS:
        preset = entry.preset or "default"
        if entry.variant is not None:
            raise InputError(f"{label}: mllmeraser has presets, not variants")
        return Row(OURS, label, preset, None, _fit_settings(preset, entry.settings).model_dump(mode="json"))
    if entry.preset is not None:
        raise InputError(f"{label}: only mllmeraser has presets")
    method = load_method(entry.method)
    if entry.variant is not None and entry.variant not in method.variants:
        known = ", ".join(method.variants) or "none"
        raise InputError(f"{entry.method} has no variant {entry.variant!r}; variants: {known}")
    changes = entry.settings | ({"variant": entry.variant} if entry.variant is not None else {})
    try:
        settings = checked(method.settings, changes).model_dump(mode="json")
    except InputError as error:
        raise InputError(f"{label}: {error}") from None
    return Row(entry.method, label, None, settings.get("variant"), settings)


def _fit_settings(preset: str, changes: Mapping[str, Any]) -> FitSettings:
    """A preset of the eraser with some settings changed."""
    try:
        return FitSettings.model_validate(merged({**FitSettings.preset(preset).model_dump(), "salt": SALT}, changes))
    except ValidationError as error:
        raise InputError(f"mllmeraser, {preset}: {first_fault(error)}") from None


def seeds_of(row: Row, seeds: Sequence[int]) -> Sequence[int]:
    """The seeds of a row's products."""
    return seeds if row.seeded else seeds[:1]
