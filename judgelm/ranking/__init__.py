"""Comparisons -> ratings."""
