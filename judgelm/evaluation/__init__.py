"""Judgements -> numbers."""

from judgelm.evaluation.evaluation import Evaluation, evaluate, evaluate_files
from judgelm.evaluation.results import JudgedSample, Truth, judged_task, read_files, read_folder
from judgelm.verdict import Reading

__all__ = [
    "Evaluation",
    "JudgedSample",
    "Reading",
    "Truth",
    "evaluate",
    "evaluate_files",
    "judged_task",
    "read_files",
    "read_folder",
]
