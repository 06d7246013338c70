"""Judgements -> numbers."""

from judgelm.evaluation.evaluation import Evaluation, evaluate, evaluate_files
from judgelm.evaluation.places import ManySummary, read_many, summarize_many
from judgelm.evaluation.results import JudgedSample, Truth, judged_task, read_files, read_folder
from judgelm.verdict import Reading

__all__ = [
    *("Evaluation", "JudgedSample", "ManySummary", "Reading", "Truth", "evaluate", "evaluate_files", "judged_task"),
    *("read_files", "read_folder", "read_many", "summarize_many"),
]
