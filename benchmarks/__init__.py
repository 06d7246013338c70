"""Measurements; each is one command and leaves its raw numbers beside it."""
