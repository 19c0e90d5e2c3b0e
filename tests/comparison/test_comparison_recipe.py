"""Recipes: what is read, what is refused, and those that are committed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mllmeraser.comparison.method_rows import rows_of
from mllmeraser.comparison.recipe import MANDATORY, Recipe, read_recipe
from mllmeraser.comparison.space import candidates_of, read_space
from mllmeraser.samples import InputError

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(path for path in FOLDER.glob("*.yaml") if path.stem != "search")
Write = Callable[..., Path]


def refused(path: Path, *words: str, **options: Any) -> None:
    with pytest.raises(InputError) as error:
        rows_of(read_recipe(path, **options))
    said = str(error.value)
    assert "\n" not in said and all(word in said for word in words), said


def committed(path: Path, tmp_path: Path, *, quick: bool = False) -> Recipe:
    """A committed recipe, where it wants searched settings with the first candidates of the committed search space."""
    changes = []
    if "\nsettings_from:" in path.read_text():
        first = {one.title: dict(one.settings) for one in reversed(candidates_of(read_space(FOLDER / "search.yaml")))}
        (tmp_path / "search.json").write_text(json.dumps({"settings": first}))
        changes = [f"settings_from={tmp_path / 'search.json'}"]
    return read_recipe(path, quick=quick, changes=changes)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("quick", [False, True])
def test_committed_recipes(path: Path, quick: bool, tmp_path: Path) -> None:
    recipe = committed(path, tmp_path, quick=quick)
    labels = [row.label for row in rows_of(recipe)]
    assert set(MANDATORY) < set(labels) and labels[0] == "vanilla" and labels[-1] == "hook-off"
    assert {"mllmeraser, default", "mllmeraser, paper"} <= set(labels)


def test_the_committed_ones_are_there(tmp_path: Path) -> None:
    assert {"quick", "paper-table", "mllmu-llava-1.5-7b", "mllmu-qwen2.5-vl-7b"} <= {path.stem for path in RECIPES}
    whole = committed(FOLDER / "paper-table.yaml", tmp_path)
    assert {(split, fold) for split, fold in whole.pairs()} == {
        *(("forget_5", fold) for fold in range(5)), ("forget_10", 0), ("forget_15", 0),
    }  # fmt: skip
    assert {"ga", "grad-diff", "kl-min", "npo", "idk", "mmunlearner"} <= {row.method for row in rows_of(whole)}


def test_shorthand(recipe_file: Write) -> None:
    recipe = read_recipe(
        recipe_file(sets=["forget", "test"], splits={"forget_5": [0, 1], "forget_10": None}, folds=[1])
    )
    assert recipe.sets == {"forget": None, "test": None}
    assert recipe.pairs() == [("forget_5", 0), ("forget_5", 1), ("forget_10", 1)]


def test_unknown_keys_are_named(recipe_file: Write) -> None:
    refused(recipe_file(split="forget_5"), "unknown key split", "splits")
    refused(recipe_file(methods=[{"method": "idk", "presett": "x"}]), "unknown key methods.0.presett", "preset")
    refused(recipe_file(models=[{"name": "m", "twin": "x"}]), "unknown key models.0.twin", "retain_only")
    refused(recipe_file(quick={"splitz": []}), "quick.splitz", quick=True)
    refused(recipe_file(methods=[{"method": "idk", "settings": {"lr": 1}}]), "idk", "lr")
    refused(recipe_file(methods=[{"method": "mllmeraser", "settings": {"gate": {"sort": 1}}}]), "gate.sort")


def test_values_that_do_not_fit(recipe_file: Write, tmp_path: Path) -> None:
    refused(recipe_file(models=[]), "models")
    refused(recipe_file(seeds=[0, 0]), "seeds", "twice")
    refused(recipe_file(sets={"forget": 0}), "sets.forget")
    refused(recipe_file(methods=[{"method": "forgetful"}]), "unknown method 'forgetful'", "grad-diff")
    refused(recipe_file(methods=[{"method": "mllmeraser", "preset": "best"}]), "unknown preset 'best'")
    refused(recipe_file(methods=[{"method": "idk", "preset": "paper"}]), "only mllmeraser has presets")
    refused(recipe_file(methods=[{"method": "grad-diff", "variant": "odd"}]), "no variant 'odd'", "sequential")
    refused(recipe_file(methods=[{"method": "idk"}, {"method": "idk"}]), "two rows", "label")
    refused(recipe_file(methods=[{"method": "vanilla", "settings": {"a": 1}}]), "vanilla", "no settings")
    refused(recipe_file(models=[{"name": "m", "retain_only": "{who}"}]), "{split}")
    refused(tmp_path / "nowhere.yaml", "nowhere.yaml", "cannot be read")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [\n")
    refused(broken, "not YAML", "line")
    broken.write_text("name: a\nname: b\n")
    refused(broken, "the key name occurs twice")
    broken.write_text("- a\n- b\n")
    refused(broken, "mapping")


def test_changes_from_outside(recipe_file: Write) -> None:
    path = recipe_file()
    assert read_recipe(path, changes=["seeds=[3, 4]", "models=elsewhere"]).seeds == (3, 4)
    assert read_recipe(path, changes=["models=elsewhere"]).models[0].name == "elsewhere"
    refused(path, "expected KEY=VALUE", changes=["seeds"])
    refused(path, "unknown key seed", changes=["seed=3"])


def test_quick(recipe_file: Write) -> None:
    path = recipe_file(
        methods=[{"method": "idk", "settings": {"epochs": 2, "lora": {"rank": 4}}}],
        quick={"seeds": [7], "methods": {"idk": {"steps": 3, "lora": {"alpha": 2}}}},
    )
    quick = read_recipe(path, quick=True)
    assert quick.seeds == (7,) and read_recipe(path).seeds == (0,)
    assert read_recipe(path, quick=True, changes=["seeds=[8]"]).seeds == (8,)
    assert quick.methods[0].settings == {"epochs": 2, "steps": 3, "lora": {"rank": 4, "alpha": 2}}
    refused(recipe_file(quick={"methods": {"npo": {}}}), "no row 'npo'", quick=True)


def test_mandatory_rows_can_have_settings(recipe_file: Write) -> None:
    rows = rows_of(
        read_recipe(
            recipe_file(methods=[{"method": "block-list", "settings": {"answer": "No."}}, {"method": "vanilla"}])
        )
    )
    assert [row.label for row in rows] == ["vanilla", "retain-only", "system-prompt", "block-list", "hook-off"]
    assert rows[3].settings["answer"] == "No."
    assert rows[-1].preset == "default" and not any(row.seeded for row in rows)
