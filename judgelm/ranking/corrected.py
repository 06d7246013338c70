"""Bradley-Terry ratings by people's labels alone, and by labels and judge together: prediction-powered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from judgelm.evaluation.corrected import FEW, Part
from judgelm.evaluation.corrections import CorrectedPair
from judgelm.evaluation.metrics.intervals import LEVEL, Floats, Mask
from judgelm.evaluation.pair_corrections import LabelledPairs, correct_pairs
from judgelm.evaluation.rate import Rate
from judgelm.ranking.field import Field
from judgelm.ranking.matches import Match
from judgelm.ranking.ranking import CorrectedRanking, CorrectedRating, Ranking
from judgelm.ranking.ratings import MEAN, POINTS_OF_ODDS, VIRTUAL_TIE, fit_ratings


@dataclass(frozen=True, slots=True)
class Ratings:
    """Bradley-Terry ratings of M models."""

    names: tuple[str, ...]
    log_odds: Floats
    """[M], mean 0 in each group that is connected"""
    errors: Floats
    """[M], standard errors of those"""
    weight: float
    """of the judge, from 0 to 1"""
    degrees: int
    """of freedom: questions with labels less one, and one more for a weight that was found"""

    def rate(self, name: str, count: int) -> Rate:
        """On the scale of ratings, with its 95 % interval by Student's t."""
        from scipy.stats import t

        place = self.names.index(name)
        value = MEAN + POINTS_OF_ODDS * float(self.log_odds[place])
        half = POINTS_OF_ODDS * float(t.ppf((1 + LEVEL) / 2, self.degrees) * self.errors[place])
        return Rate(value=value, low=value - half, high=value + half, count=count)


@dataclass(frozen=True)
class _Odds:
    """Labelled matches and judged ones, and the terms of their likelihood: a match moves its models against each other
    by what it says less its chance.
    """

    field: Field
    people: Floats
    """[n], points of the pair's first model, NaN without a label"""
    judge: Floats
    """[n], what predicts them"""
    part: Part

    def points(self, weight: float) -> tuple[Floats, Floats]:
        """What each pair's first model won and lost [P]: corrected rates, times the matches that they stand for."""
        asked, given = self.part.asked, ~np.isnan(self.people)
        labels, others = given.sum(), max(1, (~asked).sum())
        shares = given / labels - weight * asked / self.part.labels + weight * ~asked / others
        won = np.where(given, np.nan_to_num(self.people), 0) / labels
        won += weight * self.judge * (~asked / others - asked / self.part.labels)
        worth_as_many = labels + weight * (~asked).sum()
        met, firsts = (np.bincount(self.field.pair_of, each, len(self.field.pairs)) for each in (shares, won))
        met = np.maximum(met, 0)
        firsts = np.clip(firsts, 0, met)
        return worth_as_many * firsts, worth_as_many * (met - firsts)

    def fit(self, weight: float) -> tuple[Floats, Floats]:
        """Log odds of the models [M], and the inverse of the log likelihood's curvature for one match [M, M]."""
        won, lost = self.points(weight)
        log_odds = fit_ratings(won[None], lost[None], self.field)[0][0]
        first, second = self.field.pairs.T
        chance = 1 / (1 + np.exp(log_odds[second] - log_odds[first]))
        weights = (won + lost + VIRTUAL_TIE) * chance * (1 - chance) / (won + lost).sum()
        incidence = self.field.incidence.toarray()
        return log_odds, np.linalg.pinv((incidence * weights) @ incidence.T, hermitian=True)

    def terms(self, log_odds: Floats) -> tuple[Floats, Floats]:
        """Of each match, what people and what the judge says beyond its chance [n], 0 without a label."""
        first, second = self.field.pairs[self.field.pair_of].T
        chance = 1 / (1 + np.exp(log_odds[second] - log_odds[first]))
        return np.nan_to_num(self.people - chance), self.judge - chance

    def tune(self, log_odds: Floats, inverse: Floats) -> float:
        """The judge's weight with the least sum of the ratings' variances, as ppi-python tunes that of a regression."""
        own, control = self.terms(log_odds)
        asked, given = self.part.asked, ~np.isnan(self.people)
        moved = inverse @ self.field.incidence.toarray()
        squares = (moved**2).sum(axis=0)[self.field.pair_of]

        def total(values: Floats) -> Floats:
            return np.asarray(moved @ np.bincount(self.field.pair_of, values, len(self.field.pairs)))

        labels, count, matches = given.sum(), self.part.labels, len(control)
        together = (own * control * squares)[asked].sum() / count
        covariance = together - total(own) @ total(np.where(asked, control, 0)) / count**2
        variance = ((control**2 * squares).sum() - total(control) @ total(control) / matches) / (matches - 1)
        least = covariance / labels / (variance * (1 / count + 1 / (~asked).sum())) if variance > 0 else 0.0
        return float(np.clip(least, 0, 1))

    def errors(self, log_odds: Floats, inverse: Floats, weight: float, degrees: int) -> Floats:
        """Standard errors of the log odds [M], summed over questions."""
        own, control = self.terms(log_odds)
        asked, given = self.part.asked, ~np.isnan(self.people)
        moved = self._centred(own, given)
        if weight:
            moved -= weight * (self._centred(control, asked) - self._centred(control, ~asked))
        return np.asarray(np.sqrt(((moved @ inverse) ** 2).sum(axis=0) * self.part.questions_of(given) / degrees))

    def _centred(self, values: Floats, samples: Mask) -> Floats:
        """The mean over some matches [n] of what moves each model, as parts of questions whose sum is 0: [q, M]."""
        models, questions = len(self.field.names), int(self.part.questions.max()) + 1
        found = np.zeros((questions, models))
        for side, sign in ((0, 1.0), (1, -1.0)):
            who = self.field.pairs[self.field.pair_of, side]
            np.add.at(found, (self.part.questions, who), sign * np.where(samples, values, 0))
        members = self.part.sums(samples.astype(np.float64))[:, None]
        return np.asarray((found - members / samples.sum() * found.sum(axis=0)) / samples.sum())


def power_ratings(
    models: Sequence[tuple[str, str]], people: Floats, judge: Floats, part: Part, weight: float | None = None
) -> Ratings:
    """Ratings of a Bradley-Terry model, fitted by PPI++ as a logistic regression (arXiv 2311.01453, section 3).

    Each pair's points are people's, moved by what the judge says of matches without labels; the half tie of each pair
    that met is there as in `fit_ratings`.

    Args:
        models: [n], of each match, different ones.
        people: [n], points of the first model from 0 to 1, NaN without a label.
        judge: [n], what predicts them.
        part: which matches people were asked about.
        weight: of the judge; without it the one with the least variance.

    Raises ValueError where there is no label.
    """
    if np.isnan(people).all():
        raise ValueError("there is no label")
    turned = np.array([first > second for first, second in models])
    people, judge = np.where(turned, 1 - people, people), np.where(turned, 1 - judge, judge)
    matches = [Match(first, second, (1.0, 0.0, 0.0), "").sorted() for first, second in models]
    odds = _Odds(Field.of(matches, False), people, judge, part)
    degrees = part.questions_of(~np.isnan(people)) - 1
    if part.asked.all():
        weight = 0.0
    elif weight is None:
        weight = odds.tune(*odds.fit(1.0))
        degrees -= weight > 0
    log_odds, inverse = odds.fit(weight)
    return Ratings(odds.field.names, log_odds, odds.errors(log_odds, inverse, weight, degrees), weight, degrees)


def correct_ranking(given: LabelledPairs, ranked: Ranking) -> CorrectedRanking:
    """Win rates, who is better of each two, and ratings, of samples that all name two models; what the judge alone says
    is the ranking's own.
    """
    names = [(str(first), str(second)) for first, second in (sample.models for sample in given.samples)]
    together, alone, wins = None, None, given.wins
    if given.part.questions_of(given.known) >= FEW:
        together = power_ratings(names, wins.people, wins.control, given.part)
        labelled = [each for each, known in zip(names, given.known.tolist(), strict=True) if known]
        part = given.part.among(given.known)
        alone = power_ratings(labelled, wins.people[given.known], wins.control[given.known], part)
    models = sorted({name for pair in names for name in pair})
    ratings = [_rating(name, names, given, together, alone) for name in models]
    found = dict(correct_pairs(given))
    found["pairs"] = [_as_ranked(pair, ranked) for pair in found["pairs"]]
    by_model = {f"win rate of {model.name}": model.win_rate for model in ranked.models}
    found["rates"] = [rate.model_copy(update={"judge": by_model.get(rate.name, rate.judge)}) for rate in found["rates"]]
    return CorrectedRanking(
        **found,
        ratings=sorted(ratings, key=lambda one: (-_value(one), one.name)),
        rating_weight=None if together is None else together.weight,
    )


def _as_ranked(pair: CorrectedPair, ranked: Ranking) -> CorrectedPair:
    """With the ranking's win rate, of the pair's first model."""
    for one in ranked.pairs:
        rate = one.win_rate
        if (one.first, one.second) == (pair.first, pair.second):
            return pair.model_copy(update={"judge": rate})
        if (one.second, one.first) == (pair.first, pair.second):
            low, high = (None if end is None else 1 - end for end in (rate.high, rate.low))
            return pair.model_copy(update={"judge": Rate(value=1 - rate.value, low=low, high=high, count=rate.count)})
    return pair


def _rating(
    name: str, names: Sequence[tuple[str, str]], given: LabelledPairs, together: Ratings | None, alone: Ratings | None
) -> CorrectedRating:
    """None of a model with labels of few questions."""
    there = np.array([name in pair for pair in names])
    known = there & given.known
    enough = given.part.questions_of(known) >= FEW
    return CorrectedRating(
        name=name,
        labels=int(known.sum()),
        people=alone.rate(name, int(known.sum())) if alone is not None and enough else None,
        corrected=together.rate(name, int(there.sum())) if together is not None and enough else None,
    )


def _value(rating: CorrectedRating) -> float:
    known = rating.corrected or rating.people
    return -math.inf if known is None or known.value is None else known.value
