"""Attach erasers to a model, shift its states, detach."""
