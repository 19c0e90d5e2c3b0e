"""The deliberate errors of this package.

The command line prints an `InputError` as one line and exits with code 2. Other errors keep their traceback.
"""

from __future__ import annotations


class MLLMEraserError(Exception):
    """Base of every deliberate error of the package. Its message is one printable line."""

    def __str__(self) -> str:
        """The message; what a terminal might act on, or cannot print, is a question mark."""
        return "".join(c if c.isprintable() else "?" for c in " ".join(super().__str__().split()))


class InputError(MLLMEraserError):
    """The user's input cannot be used; the message says why, and what to do about it."""


class InputWarning(UserWarning):
    """A part of the user's input is not used; the message names it. The command line prints it as one line."""


class ArtifactError(InputError):
    """An eraser on disk is corrupt, made by a newer version, or belongs to another model."""


class NumericalError(InputError):
    """A state, a score or a statistic is not finite (NaN or infinity)."""


class UnknownFamilyError(InputError):
    """No adapter knows this model type; the message lists known families and candidate modules."""


class AttachError(MLLMEraserError):
    """An intervention could not be attached everywhere, or cannot steer this model."""
