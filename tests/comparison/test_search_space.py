"""The search space and the criterion: what is refused, what is tried, what is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from search_kit import SETS, answer

from mllmeraser.comparison.cells import Cell
from mllmeraser.comparison.choice import Figures, Judged, choose, figures_of
from mllmeraser.comparison.space import Criterion, candidates_of, read_space
from mllmeraser.samples import InputError

Write = Callable[..., Path]


def one(name: str, recalled: float, utility: float) -> Judged:
    figures = Figures(recalled=recalled, utility=utility, sets={}, outcomes={}, gibberish={})
    return Judged(name=name, settings={}, figures=figures)


def taken(*tried: Judged, vanilla: float = 0.9, within: float = 5) -> tuple[str | None, str]:
    bare = Figures(recalled=0.9, utility=vanilla, sets={}, outcomes={}, gibberish={})
    best, rule = choose(tried, bare, Criterion(within=within))
    assert [judged.name for judged in tried if judged.chosen] == ([] if best is None else [tried[best].name])
    return None if best is None else tried[best].name, rule


# -- the criterion ---------------------------------------------------------------------------------------------


def test_of_those_near_enough_the_one_that_recalls_least() -> None:
    tried = (one("keeps", 0.6, 0.9), one("best", 0.3, 0.86), one("ruin", 0.0, 0.5), one("worse", 0.4, 0.95))
    assert taken(*tried) == ("best", "within")
    assert [judged.within for judged in tried] == [True, True, False, True], "more utility than vanilla is no loss"
    assert taken(*(judged.model_copy(update={"chosen": False}) for judged in tried), within=50) == ("ruin", "within")


def test_exactly_the_allowed_loss_is_near_enough() -> None:
    # 0.9 - 0.05 is 0.85 only up to rounding.
    assert taken(one("a", 0.3, 0.9), one("edge", 0.1, 0.85)) == ("edge", "within")
    assert taken(one("a", 0.3, 0.9), one("beyond", 0.1, 0.8499)) == ("a", "within")


def test_where_none_is_near_enough_the_best_balance() -> None:
    tried = (one("ruin", 0.0, 0.1), one("best", 0.2, 0.7), one("keeps", 0.6, 0.84))
    assert taken(*tried) == ("best", "balance")
    assert not any(judged.within for judged in tried)


def test_the_first_of_equals() -> None:
    assert taken(one("a", 0.5, 0.9), one("b", 0.2, 0.86), one("c", 0.2, 0.9)) == ("b", "within")
    # 0.7 - 0.4 and 0.5 - 0.2 differ in the last bit.
    assert taken(one("a", 0.6, 0.6), one("b", 0.4, 0.7), one("c", 0.2, 0.5)) == ("b", "balance")
    assert taken(one("a", 0.6, 0.6), one("c", 0.2, 0.5), one("b", 0.4, 0.7)) == ("c", "balance")


def test_what_could_not_be_made_is_never_taken() -> None:
    fallen = Judged(name="fallen", settings={}, reason="diverged")
    assert taken(fallen, one("a", 0.9, 0.9)) == ("a", "within")
    assert taken(fallen.model_copy()) == (None, "nothing")


def cell_of(items: list[dict[str, Any]], **changes: Any) -> Cell:
    fixed: dict[str, Any] = {
        "digest": "d", "status": "done", "model": "m", "fingerprint": "f", "benchmark": "b", "protocol": "portraits",
        "split": "forget_5", "fold": 1, "seed": 0, "label": "l", "method": "ga", "items": items,
    }  # fmt: skip
    return Cell(**{**fixed, **changes})


def test_figures() -> None:
    forget = [
        answer("forget", 0, True),
        answer("forget", 1, False, "gibberish"),
        answer("forget", 2, False, task="cloze", modality="text"),
        answer("forget", 3, False, task="cloze"),
        answer("forget", 4, True, task="classification"),  # a letter is guessed right by chance: it does not count
        answer("test", 5, True),
    ]
    # Sets of different sizes count alike.
    rest = [answer("retain_heldout", n, n == 0, "gibberish", task="classification") for n in range(4)]
    rest += [answer(name, 0, True) for name in SETS[1:]]
    found = figures_of([cell_of(forget + rest, making_seconds=2.0)], Criterion())
    assert found.recalled == 0.25 and found.sets == {"retain_heldout": 0.25, **dict.fromkeys(SETS[1:], 1.0)}
    assert found.utility == pytest.approx(3.25 / 4) and found.seconds == 2
    assert {key: count for key, count in found.outcomes.items() if count} == {
        "recalled": 1, "unknown": 2, "gibberish": 1,
    }  # fmt: skip
    assert found.gibberish == {"forget": 0.25, "utility": 3 / 7}
    other = [answer("forget", 0, False), *rest]
    both = figures_of([cell_of(forget + rest), cell_of(other, seed=1)], Criterion())
    assert both.recalled == pytest.approx(0.125), "the mean over seeds of each question"
    with pytest.raises(InputError, match="perception has no question"):
        figures_of([cell_of(forget + rest[:-1])], Criterion())


# -- the space -------------------------------------------------------------------------------------------------


def test_grid_and_list(space_file: Write) -> None:
    space = read_space(space_file())
    found = candidates_of(space)
    assert [(one.title, one.name) for one in found] == [
        ("ga", "steps=1"), ("ga", "steps=2"), ("grad-diff, joint", "steps=1"), ("grad-diff, joint", "steps=1, gamma=2"),
    ]  # fmt: skip
    assert found[1].settings == {"learning_rate": 0.01, "steps": 2}
    assert (found[1].row.settings["learning_rate"], found[1].row.settings["steps"]) == (0.01, 2)
    assert found[3].row.variant == "joint" and len({one.row.label for one in found}) == 4
    recipe = space.recipe()
    assert recipe.pairs() == [("forget_5", 1)] and list(recipe.sets or ()) == ["forget", *SETS]
    grid = {"method": "ga", "grid": {"learning_rate": [0.1, 0.2], "steps": [1, 2]}}
    many = read_space(space_file(budget=4, methods=[grid]))
    assert [one.name for one in candidates_of(many)][:2] == ["learning_rate=0.1, steps=1", "learning_rate=0.1, steps=2"]


def test_what_a_space_may_not_be(space_file: Write) -> None:
    ga = {"method": "ga", "grid": {"steps": [1, 2]}}
    for changes, words in (
        ({"methods": [ga, {"method": "idk", "grid": {"steps": [1]}}]}, "idk has 1 candidate.*budget is 2"),
        ({"budget": 3}, "ga has 2 candidate.*budget is 3"),
        ({"fold": 0}, "fold 0 is a test fold"),
        ({"fold": 0, "test_folds": [2]}, "fold 0 is a test fold"),
        ({"test_folds": [0, 1]}, "fold 1 is a test fold"),
        ({"methods": [ga, ga]}, "ga is there twice"),
        ({"methods": [{"method": "ga"}]}, "either a grid or candidates"),
        ({"methods": [{**ga, "candidates": [{}]}]}, "either a grid or candidates"),
        ({"methods": [{"method": "mllmeraser", "candidates": [{}]}]}, "not trained"),
        ({"methods": [{"method": "ga", "candidates": [{}, {"epochs": 1}]}]}, "epochs=1 is the same as as shared"),
        ({"methods": [{"method": "ga", "grid": {"lr": [1, 2]}}]}, "lr.*learning_rate"),
        ({"methods": [{"method": "forgetful", "grid": {"lr": [1, 2]}}]}, "unknown method 'forgetful'"),
        ({"methods": [{**ga, "gird": {}}]}, "unknown key methods.0.gird.*grid"),
        ({"sets": {"retain": 3}}, "sets.retain: the criterion uses forget"),
        ({"criterion": {"within": -1}}, "criterion.within"),
        ({"criterion": {"without": 1}}, "unknown key criterion.without.*within"),
        ({"folds": [1]}, "unknown key folds.*fold"),
    ):
        with pytest.raises(InputError, match=words) as error:
            candidates_of(read_space(space_file(**changes)))
        assert "\n" not in str(error.value)
