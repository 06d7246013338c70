"""Batched generation with transformers."""
