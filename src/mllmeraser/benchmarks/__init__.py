"""Benchmarks: portraits, and data sets in the schema of MLLMU-Bench, read into Samples."""

from mllmeraser.benchmarks.benchmark import SETS, Benchmark, thin
from mllmeraser.benchmarks.registry import benchmark_names, load_benchmark, register_benchmark

__all__ = ["SETS", "Benchmark", "benchmark_names", "load_benchmark", "register_benchmark", "thin"]
