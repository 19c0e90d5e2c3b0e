"""Studies of the method itself, each one command that writes JSON under ``benchmarks/results/``."""
