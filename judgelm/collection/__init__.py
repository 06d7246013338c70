"""Answers of many models to questions, collected: each is asked for once, kept as it comes, and paid for once."""

from judgelm.collection.collect import CollectSettings, collect
from judgelm.collection.collected import Collection, ModelAnswers
from judgelm.collection.models import AnswerModel, read_models
from judgelm.collection.questions import Question, read_questions

__all__ = [
    "AnswerModel",
    "CollectSettings",
    "Collection",
    "ModelAnswers",
    "Question",
    "collect",
    "read_models",
    "read_questions",
]
