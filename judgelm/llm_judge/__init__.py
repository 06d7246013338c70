"""Judging files with a model, and the metrics of the judgements."""
