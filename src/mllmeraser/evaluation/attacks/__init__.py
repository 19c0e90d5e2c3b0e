"""Attacks on an erased model: what brings a forgotten fact back. Start at `run.py`."""
