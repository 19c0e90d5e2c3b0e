"""Thresholds and strengths, chosen on held-out prompts."""
