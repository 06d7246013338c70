"""Judged, graded or many answers -> matches: two models' answers to a question, and what came of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from judgelm.calibration import Calibration
from judgelm.distribution import certain
from judgelm.errors import InputError
from judgelm.evaluation.calibrated import read_calibrated
from judgelm.evaluation.grades import GradedSample, read_grades
from judgelm.evaluation.many import ManyAnswers, read_many
from judgelm.evaluation.results import JudgedSample, judged_task, read_files
from judgelm.judgement import Outcome
from judgelm.samples import PathLike

_Scored = tuple[str | None, float, str]
"""a model, its answer's score, and the answer"""


@dataclass(frozen=True, slots=True)
class Match:
    """Two models' answers to a question, and what came of them."""

    first: str
    second: str
    outcomes: tuple[float, float, float]
    """first wins, tie, second wins: one 1 and two 0, or probabilities"""
    question: str
    lengths: tuple[int, int] = (0, 0)
    """characters of the answers"""

    def sorted(self) -> Match:
        """The same with the models in the order of their names."""
        if self.first <= self.second:
            return self
        return Match(self.second, self.first, self.outcomes[::-1], self.question, self.lengths[::-1])


def read_judged(
    place: PathLike, calibration: Calibration | None = None
) -> list[JudgedSample] | list[GradedSample] | list[ManyAnswers]:
    """What was judged or graded into a folder, or into a file in forward order, of answers whose models are named; of
    pairs in a folder with probabilities calibrated by a map.

    Raises InputError where a sample cannot be of a ranking, naming it, and as `read_calibrated`.
    """
    task = "pair" if calibration else judged_task(place)
    if task == "grade":
        graded = read_grades(place)
        for one in graded:
            _check_named(place, one.key, {"answer_model_id, answer1_model_id or model": one.model})
        return graded
    if task == "multi":
        many = read_many(place)
        for each in many:
            _check_named(place, each.key, _model_ids(each.models))
        return many
    is_folder = calibration is not None or Path(place).expanduser().is_dir()
    samples = read_calibrated(place, calibration) if is_folder else read_files(place)
    for sample in samples:
        where = f"{place}: question_id {sample.key}"
        if sample.known_answer and sample.models[0] is None:
            raise InputError(f"{where} grades one answer beside the right one: nobody is ranked")
        _check_named(place, sample.key, _model_ids(sample.models))
        if sample.models[0] == sample.models[1]:
            raise InputError(f"{where} compares {sample.models[0]} with itself")
    return samples


def _model_ids(models: Sequence[str | None]) -> dict[str, str | None]:
    """By the fields that name them."""
    return {f"answer{number}_model_id": model for number, model in enumerate(models, start=1)}


def _check_named(place: PathLike, key: str, models: Mapping[str, str | None]) -> None:
    """Raises InputError where a field names no model."""
    for field, model in models.items():
        if model is None:
            raise InputError(f"{place}: question_id {key} has no {field}, without which nobody can be ranked")


def match_many(samples: Sequence[ManyAnswers]) -> list[Match]:
    """A match of each two answers of a sample by different models, by their mean scores over the orders that were read:
    the higher one wins.

    Means are compared to the fourth decimal. Raises InputError where there is none.
    """
    scored = [(one.cluster, list(zip(one.models, one.means, one.answers, strict=True))) for one in samples if one.means]
    return _compare(scored, "scores")


def match_grades(samples: Sequence[GradedSample]) -> list[Match]:
    """A match of each two answers to one question by different models whose grades could be read: the higher one wins.

    Grades are compared to the fourth decimal. Raises InputError where there is none.
    """
    by_question: dict[str, list[_Scored]] = {}
    for sample in samples:
        if sample.grade is not None:
            by_question.setdefault(sample.cluster, []).append((sample.model, sample.grade, sample.answer))
    return _compare(by_question.items(), "grades")


def _compare(questions: Iterable[tuple[str, Sequence[_Scored]]], what: str) -> list[Match]:
    """Each two answers to a question by different models. Raises InputError where there are none."""
    found = [
        Match(first, second, _chances(Outcome.from_scores(round(one, 4), round(other, 4))), question, (len(a), len(b)))
        for question, scored in questions
        for (first, one, a), (second, other, b) in combinations(scored, 2)
        if first is not None and second is not None and first != second
    ]
    if not found:
        raise InputError(f"no question has {what} of two models that can be read: there is nothing to rank from")
    return found


def _chances(outcome: Outcome) -> tuple[float, float, float]:
    sure = certain(outcome)
    return sure[Outcome.WIN], sure[Outcome.TIE], sure[Outcome.LOSE]


def make_matches(samples: Sequence[JudgedSample], outcomes: str) -> list[Match]:
    """A match of each sample whose score lines, or with soft `outcomes` whose probabilities, can be read.

    Raises InputError where there is none.
    """
    found = [match for sample in samples if (match := _match(sample, outcomes)) is not None]
    if not found and outcomes == "soft":
        raise InputError("no judgement has probabilities: --outcomes soft needs those that --scoring expected gives")
    if not found:
        raise InputError("no judgement has scores that can be read: there is nothing to rank from")
    return found


def _match(sample: JudgedSample, rule: str) -> Match | None:
    first, second = sample.models
    chances = sample.probabilities
    if rule == "hard":
        outcome = sample.hard_outcome
        chances = None if outcome is None else certain(outcome)
    if first is None or second is None or chances is None:
        return None
    lengths = (len(sample.answers[0]), len(sample.answers[1]))
    outcomes = (chances[Outcome.WIN], chances[Outcome.TIE], chances[Outcome.LOSE])
    return Match(first, second, outcomes, sample.cluster, lengths)
