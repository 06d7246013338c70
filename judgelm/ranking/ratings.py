"""Points -> Bradley-Terry and Elo ratings, for many drawings of the questions at once.

Ratings have one scale: 400 points more are odds of ten to one, and the mean of models that are connected is 1000.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from judgelm.evaluation.metrics.intervals import Floats
from judgelm.ranking.field import Field, Ints

MEAN = 1000.0
SCALE = 400.0
ELO_K = 4.0
"""the most that one judgement moves an Elo rating"""
VIRTUAL_TIE = 0.5
"""weight of the tie that every pair that met gets beside what was judged: all Bradley-Terry ratings are finite by it"""
_LENGTH_PRIOR = 0.01
"""one over the variance of the length's effect beforehand: keeps it finite where the longer answer always wins"""
_CONVERGED = 1e-9
"""the largest last step of a fit, in log odds"""
_MOST_STEPS = 200
POINTS_OF_ODDS = SCALE / math.log(10)
"""rating points for one unit of log odds"""


class Fits(NamedTuple):
    """What each of R drawings of the questions says; NaN for rates of models and pairs that were not drawn."""

    log_odds: Floats
    """[R, M], mean 0 in each group of connected models"""
    length_effects: Floats
    """[R]"""
    model_rates: Floats
    """[R, M], those at equal length with length control"""
    pair_rates: Floats
    """[R, P], of the pair's first model"""
    counted_models: Floats
    """[R, M], without length control the same as `model_rates`"""
    counted_pairs: Floats
    """[R, P]"""

    @property
    def ratings(self) -> Floats:
        """[R, M]"""
        return MEAN + POINTS_OF_ODDS * self.log_odds


def fit(sums: Floats, field: Field, near: Fits | None = None) -> Fits:
    """Ratings and win rates from points [R, 2 K]: counted win rates, or with length control those at equal length.

    `near` is a fit to begin at.
    """
    won, lost = np.split(sums, 2, axis=1)
    first, second = field.pairs.T
    pair_won, pair_lost = field.of_pairs(won), field.of_pairs(lost)
    met = pair_won + pair_lost
    log_odds, effects = fit_ratings(won, lost, field, near)
    with np.errstate(invalid="ignore"):
        counted_pairs = pair_won / met
        model_met = field.of_models(met, met)
        counted_models = field.of_models(pair_won, pair_lost) / model_met
        if not field.length_control:
            return Fits(log_odds, effects, counted_models, counted_pairs, counted_models, counted_pairs)
        chances = _logistic(log_odds[:, first] - log_odds[:, second])
        model_rates = field.of_models(met * chances, met * (1 - chances)) / model_met
    return Fits(log_odds, effects, model_rates, chances, counted_models, counted_pairs)


def fit_ratings(won: Floats, lost: Floats, field: Field, near: Fits | None = None) -> tuple[Floats, Floats]:
    """Bradley-Terry log odds [R, M], mean 0 in each group, and effects of length [R]: log odds for a difference of 1
    after tanh, 0 without length control.

    The most likely ones of points [R, K] and the half tie of each pair that met: log odds = model - model + effect *
    difference. The half tie makes each term strictly convex and so the ratings finite and unique, and keeps what only
    one pair says from moving what others say. Newton's method with steps so damped that it cannot overshoot
    (Bach 2010, Self-concordant analysis for logistic regression).
    """
    half_tie = np.where(field.cell_lengths == 0, VIRTUAL_TIE / 2, 0)
    won, lost = won + half_tie, lost + half_tie
    found = np.zeros((len(won), len(field.names) + 1))
    if near is not None:
        found += np.append(near.log_odds[0], near.length_effects[0])
    for _ in range(_MOST_STEPS):
        gradient, curvature = _slopes(found, won, lost, field)
        step = np.asarray(np.linalg.solve(curvature, gradient[..., None])[..., 0], dtype=np.float64)
        reach = np.abs(_cell_odds(step, field)).max(axis=1, keepdims=True)
        found += step * np.where(reach > 0, np.log1p(reach) / np.where(reach > 0, reach, 1), 1)
        if reach.max(initial=0) < _CONVERGED:
            break
    return found[:, :-1], found[:, -1]


def _cell_odds(strengths: Floats, field: Field) -> Floats:
    """Log odds of each cell [R, K], from the models' and the effect of length [R, M + 1]."""
    first, second = field.pairs.T
    between = strengths[:, first] - strengths[:, second]
    return np.asarray(between[:, field.cell_pairs] + strengths[:, -1:] * field.cell_lengths)


def _slopes(found: Floats, won: Floats, lost: Floats, field: Field) -> tuple[Floats, Floats]:
    """The log likelihood's gradient [R, M + 1], and its curvature with the sign turned [R, M + 1, M + 1]."""
    first, second = field.pairs.T
    models = range(len(field.names))
    odds = _cell_odds(found, field)
    chance, other = _logistic(odds), _logistic(-odds)
    missed, weight = won * other - lost * chance, (won + lost) * chance * other
    gradient = np.zeros_like(found)
    gradient[:, :-1] = field.moved(field.of_pairs(missed))
    curvature = np.zeros((*found.shape, found.shape[1]))
    pair_weight = field.of_pairs(weight)
    curvature[:, first, second] = curvature[:, second, first] = -pair_weight
    curvature[:, models, models] = (abs(field.incidence) @ pair_weight.T).T
    # holds each group's mean at 0, which the data leave open
    curvature[:, :-1, :-1] += field.groups[:, None] == field.groups
    if not field.length_control:
        curvature[:, -1, -1] = 1
        return gradient, curvature
    gradient[:, -1] = missed @ field.cell_lengths - _LENGTH_PRIOR * found[:, -1]
    curvature[:, :-1, -1] = curvature[:, -1, :-1] = field.moved(field.of_pairs(weight * field.cell_lengths))
    curvature[:, -1, -1] = weight @ field.cell_lengths**2 + _LENGTH_PRIOR
    return gradient, curvature


def _logistic(log_odds: Floats) -> Floats:
    from scipy.special import expit

    return np.asarray(expit(log_odds))


def fit_elo(field: Field, points: Floats, weights: NDArray[np.uint8], length_effect: float, seed: int) -> Floats:
    """Elo ratings [M, R] of the judgements in the order that the seed draws; see `elo`."""
    order = np.random.default_rng(seed).permutation(len(field.pair_of))
    advantages = POINTS_OF_ODDS * length_effect * field.cell_lengths[field.cell_of]
    return elo(
        field.pairs[field.pair_of][order],
        points[order],
        weights,
        field.question_of[order],
        len(field.names),
        advantages[order],
    )


def elo(
    sides: Ints, points: Floats, weights: NDArray[Any], questions: Ints, num_models: int, advantages: Floats
) -> Floats:
    """Elo ratings [M, R] after judgements one after another, from `MEAN` on, for R ways to weigh them at once.

    sides [n, 2], points [n] or [n, R], weights [questions, R] or [questions, 1], advantages [n] on the scale of
    ratings. A weight multiplies K. (evalica's weights multiply what was scored, but not what was expected: neither
    drawings nor probabilities can go in there.)
    """
    ratings = np.full((num_models, np.broadcast_shapes(weights.shape[1:], points.shape[1:])[0]), MEAN)
    for (first, second), point, question, advantage in zip(
        sides.tolist(), points, questions.tolist(), advantages.tolist(), strict=True
    ):
        difference = ratings[first] - ratings[second] + advantage
        moved = ELO_K * weights[question] * (point - 1 / (1 + np.exp(difference / -POINTS_OF_ODDS)))
        ratings[first] += moved
        ratings[second] -= moved
    return ratings
