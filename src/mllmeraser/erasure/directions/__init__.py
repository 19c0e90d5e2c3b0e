"""Kinds of erasure direction, and the samples that some of them contrast."""
