"""YAML files, read strictly: no key twice, and every fault in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mllmeraser.samples.errors import InputError


class StrictLoader(yaml.SafeLoader):
    """Values have the types of YAML 1.1, and no key occurs twice."""


class _Plain(yaml.BaseLoader):
    """Every value is the text as written: the name Null stays a name, and 007 keeps its zeros."""


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    if isinstance(loader, yaml.SafeLoader):
        loader.flatten_mapping(node)
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool | None):
            raise yaml.constructor.ConstructorError(None, None, "a key is a word", key_node.start_mark)
        if key in found:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key} occurs twice", key_node.start_mark)
        found[key] = loader.construct_object(value_node, deep=True)
    return found


for _loader in (StrictLoader, _Plain):
    _loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_yaml(path: Path, *, plain: bool = False) -> Any:
    """Parse a YAML file; with `plain` every value is text.

    Raises:
        InputError: It cannot be read, is no YAML, or has a key twice; with the line where there is one.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Plain if plain else StrictLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "syntax error"
        raise InputError(f"{path}{place}: not valid YAML ({problem})") from None
    except RecursionError:
        raise InputError(f"{path}: not valid YAML (nested too deeply)") from None
    except (OSError, ValueError, OverflowError) as error:  # ValueError: bad UTF-8, impossible dates
        raise InputError(f"{path}: cannot be read ({error})") from None
