"""Judgements -> numbers."""

from judgelm.evaluation.evaluation import Evaluation, GradeEvaluation, evaluate, evaluate_files, evaluate_grades
from judgelm.evaluation.grades import GradedSample, read_grades
from judgelm.evaluation.many import ManyAnswers, read_many
from judgelm.evaluation.results import JudgedSample, Truth, judged_task, read_files, read_folder
from judgelm.verdict import Reading

__all__ = [
    "Evaluation",
    "GradeEvaluation",
    "GradedSample",
    "JudgedSample",
    "ManyAnswers",
    "Reading",
    "Truth",
    "evaluate",
    "evaluate_files",
    "evaluate_grades",
    "judged_task",
    "read_files",
    "read_folder",
    "read_grades",
    "read_many",
]
