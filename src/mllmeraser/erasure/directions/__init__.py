"""Erasure directions: one record per kind, and the contrast samples that some need."""
