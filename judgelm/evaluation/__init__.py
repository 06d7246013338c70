"""Judgements -> numbers."""
