"""Methods are found by name; other packages add theirs."""

from __future__ import annotations

import ast
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mllmeraser.methods
from mllmeraser.methods import Method, MethodSettings, load_method, method_names
from mllmeraser.methods.method import checked
from mllmeraser.methods.registry import BUILT_IN, GROUP
from mllmeraser.samples import InputError


def announce(monkeypatch: pytest.MonkeyPatch, *entries: metadata.EntryPoint) -> None:
    def entry_points(group: str) -> list[metadata.EntryPoint]:
        assert group == GROUP
        return list(entries)

    monkeypatch.setattr(metadata, "entry_points", entry_points)


class Outside:
    name = "outside"
    variants: tuple[str, ...] = ()
    settings = MethodSettings

    def make(self, model: Any, request: Any, **options: Any) -> Any:
        raise NotImplementedError


def outside_package(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("outside_package")
    module.Outside, module.number = Outside, 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "outside_package", module)


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_built_in_method_keeps_the_protocol(name: str) -> None:
    method = load_method(name)
    assert isinstance(method, Method) and method.name == name
    assert method.trained == (name not in ("block-list", "system-prompt"))
    defaults = method.settings()
    assert defaults.model_config["extra"] == "forbid"
    if method.variants:
        assert getattr(defaults, "variant", method.variants[0]) == method.variants[0]
        for variant in method.variants:
            assert checked(method.settings, {"variant": variant}).variant == variant  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="surprise"):
        checked(method.settings, {"surprise": 1})


def test_an_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'gradient'.*block-list, ga, grad-diff, idk, kl-min, mmunlearner, npo"):
        load_method("gradient")


def test_an_outside_package_adds_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    outside_package(monkeypatch)
    announce(monkeypatch, metadata.EntryPoint("outside", "outside_package:Outside", GROUP))
    assert "outside" in method_names() and "ga" in method_names()
    made = load_method("outside")
    assert isinstance(made, Outside) and isinstance(made, Method) and made.trained


@pytest.mark.parametrize(
    ("value", "message"),
    [("nowhere_package:Outside", "cannot be loaded"), ("outside_package:Gone", "cannot be loaded"),
     ("outside_package:number", "is not a method"), ("builtins:object", "is not a method")],
)  # fmt: skip
def test_what_is_no_method_is_refused(monkeypatch: pytest.MonkeyPatch, value: str, message: str) -> None:
    outside_package(monkeypatch)
    announce(monkeypatch, metadata.EntryPoint("outside", value, GROUP))
    with pytest.raises(InputError, match=message):
        load_method("outside")


def test_two_methods_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, metadata.EntryPoint("ga", "outside_package:Outside", GROUP))
    with pytest.raises(InputError, match="two methods are called 'ga'"):
        method_names()
    announce(monkeypatch, metadata.EntryPoint("ga", BUILT_IN["ga"], GROUP))
    assert "ga" in method_names()


def test_the_package_announces_its_own_methods() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"][GROUP] == BUILT_IN


def test_nothing_swallows_every_exception() -> None:
    folder = Path(mllmeraser.methods.__file__).parent
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                assert caught not in ("everything", "Exception", "BaseException"), f"{file.name}:{node.lineno}"
