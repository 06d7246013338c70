"""Judgements -> numbers."""

from judgelm.evaluation.evaluation import Evaluation, GradeEvaluation, evaluate, evaluate_files, evaluate_grades
from judgelm.evaluation.grades import GradedSample, holds_grades, read_grades
from judgelm.evaluation.results import JudgedSample, Truth, read_files, read_folder
from judgelm.verdict import Reading

__all__ = [
    "Evaluation",
    "GradeEvaluation",
    "GradedSample",
    "JudgedSample",
    "Reading",
    "Truth",
    "evaluate",
    "evaluate_files",
    "evaluate_grades",
    "holds_grades",
    "read_files",
    "read_folder",
    "read_grades",
]
