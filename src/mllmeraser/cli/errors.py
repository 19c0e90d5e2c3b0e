"""Deliberate errors become one line on standard error; all others keep their traceback."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import typer
from typer.core import TyperGroup

from mllmeraser.samples.errors import InputError, InputWarning, MLLMEraserError

# click's, or the copy that newer typer carries
UsageError = cast(type[Exception], typer.BadParameter.__mro__[1])


def fail(message: str, code: int) -> typer.Exit:
    """Print `message` as one line and return the exit to raise."""
    print(f"mllmeraser: {' '.join(message.split())}", file=sys.stderr)
    return typer.Exit(code)


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """For imports: turn a missing package into one line that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is missing: pip install 'mllmeraser[{extra}]'") from error


class OneLineErrors(TyperGroup):
    """A group of commands that exits with 2 for bad input and with 1 for other deliberate errors."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """As in typer, with usage errors as one line."""
        try:
            return super().make_context(*args, **kwargs)
        except UsageError as error:
            raise _usage(error) from None

    def invoke(self, ctx: Any) -> Any:
        """Run the command and translate its errors; an `InputWarning` is one line."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("default", category=InputWarning)
                warnings.showwarning = partial(_show, warnings.showwarning)
                return super().invoke(ctx)
        except InputError as error:
            raise fail(str(error), 2) from None
        except MLLMEraserError as error:
            raise fail(str(error), 1) from None
        except UsageError as error:
            raise _usage(error) from None


def _show(others: Callable[..., None], message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
    if not issubclass(category, InputWarning):
        others(message, category, *where, **more)
        return
    print(f"mllmeraser: {' '.join(str(message).split())}", file=sys.stderr)


def _usage(error: Any) -> Exception:
    if type(error).__name__ == "NoArgsIsHelpError":
        return cast(Exception, error)
    path = error.ctx.command_path if error.ctx is not None else "mllmeraser"
    return fail(f"{error.format_message().rstrip('.')}; see {path} --help", error.exit_code)
