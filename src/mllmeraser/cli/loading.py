"""How MODEL is loaded: the options of every command that loads one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

Load = Callable[..., Any]
"""Gives the `MultimodalModel` of a name, loaded as the options say; the name itself where they say nothing."""

PANEL = "How the model is loaded"
OPTIONS = {
    "revision": typer.Option("--revision", help="Branch, tag or commit of a hub checkpoint.", rich_help_panel=PANEL),
    "dtype": typer.Option(
        "--dtype", help="float32, bfloat16 or float16. Default: float32 on a CPU, else the checkpoint's.",
        rich_help_panel=PANEL, show_default=False,
    ),
    "quantisation": typer.Option(
        "--quantise", help="int8 or nf4 (4 bit), by bitsandbytes; an eraser is for the precision it was made on.",
        rich_help_panel=PANEL, show_default=False,
    ),
    "device": typer.Option(
        "--device", help="cpu, cuda, cuda:1, ... Default: a GPU, if there is one.", rich_help_panel=PANEL,
        show_default=False,
    ),
    "device_map": typer.Option(
        "--device-map", help="auto: spread over GPUs, main memory and disk, by accelerate.", rich_help_panel=PANEL,
        show_default=False,
    ),
    "adapter": typer.Option(
        "--adapter", help="Folder or hub id of a PEFT adapter to put on the weights.", rich_help_panel=PANEL,
        show_default=False,
    ),
}  # fmt: skip


def loads_model(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options above; it gets what they say as its argument `load`, see `Load`."""

    @functools.wraps(command)
    def with_options(*args: Any, **kwargs: Any) -> None:
        how = {name: kwargs.pop(name) for name in OPTIONS}
        command(*args, load=functools.partial(_load, {k: v for k, v in how.items() if v is not None}), **kwargs)

    hints = get_type_hints(command, include_extras=True)
    own = [p.replace(annotation=hints[p.name]) for p in inspect.signature(command).parameters.values()]
    kind = inspect.Parameter.KEYWORD_ONLY
    more = [
        inspect.Parameter(name, kind, default=None, annotation=Annotated[str | None, option])
        for name, option in OPTIONS.items()
    ]
    parameters = [*(p.replace(kind=kind) for p in own if p.name != "load"), *more]
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_options


def _load(how: dict[str, Any], name: str, *, device: Any = None) -> Any:
    """``device`` is where the model goes if the options do not say."""
    if not how:
        return name
    from mllmeraser import api

    if "device_map" not in how:
        how = {"device": device, **how}
    return api.load_model(name, **how)
