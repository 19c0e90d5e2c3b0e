"""Fit an eraser."""

from mllmeraser.erasure.fit.linear import FitResult, fit

__all__ = ["FitResult", "fit"]
