"""Benchmarks: portraits, and data sets in the schema of MLLMU-Bench, read into Samples."""

from mllmeraser.benchmarks.benchmark import SETS, Benchmark, thin
from mllmeraser.benchmarks.registry import load_benchmark, register_benchmark

__all__ = ["SETS", "Benchmark", "load_benchmark", "register_benchmark", "thin"]
