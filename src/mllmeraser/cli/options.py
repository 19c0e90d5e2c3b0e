"""Options that several commands share, and how a decorator adds some of them to a command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from mllmeraser.cli.runtime import prepare

Command = Callable[..., Any]
MODEL_HELP = "embedded:llava, embedded:qwen2.5-vl, a hub id, or a folder."
Model = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP, show_default=False)]
Erasers = Annotated[list[Path] | None, typer.Option("--eraser", metavar="DIR", help="Eraser to attach; repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of all random choices.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="CPU threads. Default: OMP_NUM_THREADS, else one per CPU; at most 2 for embedded models.",
    ),
]
Retain = Annotated[
    Path | None, typer.Option("--retain", help="For a model of your own: prompts about people that it knows.")
]
Strangers = Annotated[
    Path | None, typer.Option("--strangers", help="For a model of your own: people that it has never seen.")
]
VerifyWith = Annotated[
    Path | None, typer.Option("--verify-with", help="As --retain, other prompts: verifications ask them.")
]
Kind = Annotated[
    Literal["person", "entity", "fact", "concept", "topic"] | None,
    typer.Option("--kind", help="What it is; a fact is what the questions of its request.yaml or table ask for."),
]
Reply = Annotated[
    str | None,
    typer.Option("--reply", help="The sentence to answer with. Default: what the model says of strangers."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing result at --out.")]
LOAD_HELP = {
    "revision": "Branch, tag or commit of a hub checkpoint.",
    "dtype": "float32, bfloat16 or float16. Default: float32 on a CPU, else the checkpoint's.",
    "quantization": "int8 or nf4 (4 bit), by bitsandbytes. An eraser fits only the precision it was made on.",
    "device": "cpu, cuda, cuda:1, ... Default: a GPU if there is one.",
    "device-map": "auto: spread the model over GPUs, main memory and disk, by accelerate.",
    "adapter": "Folder or hub id of a PEFT adapter to load onto the weights.",
}


def _load_option(name: str, **settings: Any) -> tuple[Any, None]:
    option = typer.Option(f"--{name}", rich_help_panel="How the model is loaded", show_default=False, **settings)
    return Annotated[str | None, option], None


LOAD_OPTIONS = {name.replace("-", "_"): _load_option(name, help=text) for name, text in LOAD_HELP.items()}


@dataclass(frozen=True)
class Load:
    """MODEL and the options that say how to load it."""

    name: str
    options: dict[str, Any]

    def __call__(self, device: str | None = None) -> Any:
        """Load the model, on `device` unless the options name one. Without options: only its name, to load later."""
        if not self.options:
            return self.name
        from mllmeraser import api

        place: dict[str, Any] = {} if "device_map" in self.options else {"device": device}
        return api.load_model(self.name, **{**place, **self.options})


def loads_model(command: Command) -> Command:
    """Give a command MODEL, --threads and the options above; its argument `load` is a `Load`."""

    def run(*, model: str, threads: int | None, quantise: str | None, **rest: Any) -> None:
        options = {name: rest.pop(name) for name in LOAD_OPTIONS}
        options["quantization"] = options["quantization"] or quantise
        prepare(model, threads, rest.get("seed", 0))
        command(load=Load(model, {name: value for name, value in options.items() if value is not None}), **rest)

    last = {"threads": (Threads, None), **LOAD_OPTIONS, "quantise": _load_option("quantise", hidden=True)}
    return add_options(command, run, hide="load", first={"model": Model}, last=last)


def add_options(
    command: Command, run: Command, *, hide: str, first: Mapping[str, Any] | None = None, last: Mapping[str, Any]
) -> Command:
    """Give `run` the name, help and options of `command`, and more options before and after those.

    Args:
        command: The function that does the work.
        run: The function that typer calls; it calls `command`.
        hide: Parameter of `command` that is no option: `run` supplies it.
        first: Annotations of required parameters that come first, by name.
        last: Annotation and default of the parameters that come last, by name.
    """
    kind = inspect.Parameter.KEYWORD_ONLY
    hints = get_type_hints(command, localns={"Ledger": Any}, include_extras=True)
    own = [p for p in inspect.signature(command).parameters.values() if p.name != hide]
    parameters = [
        *(inspect.Parameter(name, kind, annotation=hint) for name, hint in (first or {}).items()),
        *(p.replace(kind=kind, annotation=hints[p.name]) for p in own),
        *(inspect.Parameter(name, kind, annotation=hint, default=value) for name, (hint, value) in last.items()),
    ]
    functools.update_wrapper(run, command)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run
