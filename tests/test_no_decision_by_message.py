"""No code decides by the words of an error: types, enums and codes do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "mllmeraser"
ALLOWED = {("database.py", "_sqlite_code")}
"""SQLite's errors have no code on Python 3.10."""
DECIDES = {"startswith", "endswith", "find", "search", "match", "fullmatch", "index", "count"}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def errors_of(function: ast.AST) -> set[str]:
    """Names of caught errors, and of arguments that are errors."""
    caught = {node.name for node in ast.walk(function) if isinstance(node, ast.ExceptHandler) and node.name}
    arguments = [node for node in ast.walk(function) if isinstance(node, ast.arg) and node.annotation is not None]
    return caught | {a.arg for a in arguments if ast.unparse(a.annotation).endswith(("Error", "Exception"))}


def quotes(node: ast.AST, errors: set[str], words: set[str]) -> bool:
    """Whether an expression holds the words of an error."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in words:
            return True
        if isinstance(part, ast.Attribute) and part.attr in ("args", "message") and named(part.value, errors):
            return True
        made = isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id in ("str", "repr")
        if made and any(named(argument, errors) for argument in part.args):  # type: ignore[attr-defined]
            return True
    return False


def named(node: ast.AST, names: set[str]) -> bool:
    return isinstance(node, ast.Name) and node.id in names


def assigned(function: ast.AST, names: set[str], holds: object) -> None:
    """Add the variables to `names` that are assigned from what `holds` accepts, until there are no more."""
    for _ in range(3):
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and holds(node.value):  # type: ignore[operator]
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}


def decisions(source: str) -> list[tuple[str, int]]:
    """Function and line of each comparison with the words of an error."""
    return [(function.name, line) for function in functions(ast.parse(source)) for line in lines_of(function)]


def lines_of(function: ast.AST) -> Iterator[int]:
    errors, words = errors_of(function), set[str]()
    chosen = (ast.BoolOp, ast.IfExp)  # such as `error.orig or error`
    assigned(
        function, errors, lambda value: isinstance(value, chosen) and any(named(v, errors) for v in ast.walk(value))
    )
    assigned(function, words, lambda value: quotes(value, errors, words))
    for node in ast.walk(function):
        compared = isinstance(node, ast.Compare)
        asked = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in DECIDES
        if (compared or asked) and quotes(node, errors, words):
            yield node.lineno  # type: ignore[attr-defined]


def test_no_code_decides_by_the_words_of_an_error() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{line}"
        for path in sorted(SOURCE.rglob("*.py"))
        for name, line in decisions(path.read_text(encoding="utf-8"))
        if (path.name, name) not in ALLOWED
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        'if "full" in str(error): pass',
        'if str(error).startswith("no"): pass',
        'if error.args[0] == "x": pass',
        're.search("x", str(error))',
        'text = str(error)\n        if "x" in text: pass',
        'cause = error.orig or error\n        text = str(cause)\n        if "x" in text: pass',
    ],
)
def test_such_code_is_found(line: str) -> None:
    assert decisions(f"def f():\n    try:\n        g()\n    except ValueError as error:\n        {line}\n")


def test_other_code_is_not() -> None:
    assert not decisions(
        "def f(error: ValueError):\n    if not str(error) or error.code == 1:\n        raise E(str(error))\n"
    )
