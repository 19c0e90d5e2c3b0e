"""Write constraints.txt: exact pins of every direct dependency in the running environment.

Usage: python tools/constraints.py > constraints.txt
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

HEADER = """\
# Exact versions the tests ran with, written by `make constraints`; use as: pip install -c constraints.txt ...
# A pin with a marker does not install on older Pythons; they get what pyproject.toml allows."""


def direct(pyproject: Path) -> list[str]:
    """Sorted names of all direct dependencies, with those of every extra."""
    project = tomllib.loads(pyproject.read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        wanted += extra
    return sorted({re.sub(r"[-_.]+", "-", Requirement(line).name).lower() for line in wanted})


def pin(name: str) -> str | None:
    """`name==version`, with a marker where the release refuses Python 3.10; None if it is not installed."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return None
    line = f"{name}=={Version(found.version).public}"  # drops +cpu: the build differs, the release does not
    needs = found.metadata["Requires-Python"]
    if needs and not SpecifierSet(needs).contains("3.10.99"):
        line += ' ; python_version >= "3.11"'
    return line


def main() -> None:
    """Print the file."""
    print(HEADER)
    pins = [pin(name) for name in direct(Path(__file__).parent.parent / "pyproject.toml")]
    print("\n".join(line for line in pins if line))


if __name__ == "__main__":
    main()
