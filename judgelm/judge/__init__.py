"""Samples -> judgements, in memory or on disk."""
