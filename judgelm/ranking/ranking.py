"""A ranking, as ranking.json holds it."""

from __future__ import annotations

from judgelm.documents import Document, Section, Sparse
from judgelm.evaluation.corrections import Corrections
from judgelm.evaluation.rate import Rate


class Strength(Rate):
    """A win rate from 0 to 1, or a rating; `count` is of judgements."""

    value: float


class RankedModel(Sparse):
    """A model's numbers. Ratings: 400 points more are odds of ten to one, the mean of connected models is 1000."""

    left_out = ("grade",)

    name: str
    judged: int
    """judgements that it took part in"""
    win_rate: Strength
    """ties as halves; at equal length with length control"""
    bradley_terry: Strength
    elo: Strength
    grade: Rate | None = None
    """where answers were graded: the mean grade, `count` being of grades; of many answers the mean score, of samples"""


class RankedPair(Section):
    """Two models against each other, the better one first."""

    first: str
    second: str
    wins: int | float
    """of the first; sums of probabilities with soft outcomes"""
    ties: int | float
    losses: int | float
    win_rate: Strength
    told_apart: bool
    """the interval of the win rate leaves out one half"""
    more_needed: int | None
    """judgements until they are told apart, at this win rate; None where it is one half exactly"""


class CorrectedRating(Section):
    """A model's Bradley-Terry rating, on the ranking's scale."""

    name: str
    labels: int
    """people's labels of its answers"""
    people: Rate | None
    """by the labels alone; null where there are too few of its answers"""
    corrected: Rate | None
    """by labels and judge together, prediction-powered; null where there are too few of its answers"""


class CorrectedRanking(Corrections):
    """What people's labels of a part of the judgements make of the ranking."""

    ratings: list[CorrectedRating]
    """the highest first"""
    rating_weight: float | None
    """of the judge in them, from 0, people alone, to 1"""


class Ranking(Sparse, Document):
    """Models and pairs, best first."""

    what = "a ranking"
    left_out = ("corrected",)

    rule: str
    """hard or soft, see `RankSettings.outcomes`"""
    length_controlled: bool
    """whether ratings and win rates are those at equal length"""
    judgements: int
    """those that count; of grades and of many answers each two that were compared"""
    unread: int
    """judgements, or grades, left out because a score line could not be read"""
    models: list[RankedModel]
    pairs: list[RankedPair]
    notes: list[str]
    """what a reader of the ratings has to know"""
    corrected: CorrectedRanking | None = None
    """with --human: [corrected rates](trust.md#corrected-rates) and ratings"""
