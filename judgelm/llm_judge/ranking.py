"""Many models from pairwise judgements: win rates, Bradley-Terry and Elo ratings, each with an interval; pure.

Ratings have one scale: 400 points more are odds of ten to one, and the mean is 1000.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from judgelm.llm_judge.intervals import (
    RESAMPLES,
    Estimate,
    Floats,
    cluster_indices,
    draw_counts,
    percentiles,
    share_interval,
)

Ints = NDArray[np.int64]
MEAN = 1000.0
SCALE = 400.0
ELO_K = 4.0
"""the most that one judgement moves an Elo rating"""
VIRTUAL_TIE = 0.5
"""weight of the tie that every pair gets where the judgements alone give no finite Bradley-Terry ratings"""
_LENGTH_STEP = 0.04
"""differences of length are rounded to it, so that judgements can be added up"""
_LENGTH_PRIOR = 0.01
"""one over the variance of the length's effect beforehand: keeps it finite where the longer answer always wins"""
_FEW_QUESTIONS = 20
_POINTS = SCALE / math.log(10)
"""rating points for one unit of log odds"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models' answers to a question, and what came of them."""

    first: str
    second: str
    outcomes: tuple[float, float, float]
    """first wins, tie, second wins: one 1 and two 0, or probabilities"""
    question: str
    lengths: tuple[int, int] = (0, 0)
    """characters of the answers"""

    def sorted(self) -> Comparison:
        """The same with the models in the order of their names."""
        if self.first <= self.second:
            return self
        return Comparison(self.second, self.first, self.outcomes[::-1], self.question, self.lengths[::-1])


@dataclass(frozen=True, slots=True)
class RankedModel:
    """A model's numbers; `judged` is how many judgements it took part in."""

    name: str
    judged: int
    win_rate: Estimate
    bradley_terry: Estimate
    elo: Estimate


@dataclass(frozen=True, slots=True)
class RankedPair:
    """Two models against each other, the better one first."""

    first: str
    second: str
    wins: float
    ties: float
    losses: float
    win_rate: Estimate
    told_apart: bool
    """the interval of the win rate leaves out one half"""
    more_needed: int | None
    """judgements until they are told apart, at this win rate; None where it is one half exactly"""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Models and pairs, best first."""

    rule: str
    length_controlled: bool
    unread: int
    """judgements left out because a score line could not be read"""
    models: tuple[RankedModel, ...]
    pairs: tuple[RankedPair, ...]
    judgements: int
    """those that count"""
    notes: tuple[str, ...] = ()
    """what a reader of the ratings has to know"""

    def to_record(self) -> dict[str, Any]:
        models = [
            {
                "name": model.name,
                "judged": model.judged,
                "win_rate": model.win_rate.to_record(),
                "bradley_terry": model.bradley_terry.to_record(),
                "elo": model.elo.to_record(),
            }
            for model in self.models
        ]
        pairs = [
            {
                "first": pair.first,
                "second": pair.second,
                "wins": pair.wins,
                "ties": pair.ties,
                "losses": pair.losses,
                "win_rate": pair.win_rate.to_record(),
                "told_apart": pair.told_apart,
                "more_needed": pair.more_needed,
            }
            for pair in self.pairs
        ]
        return {
            "rule": self.rule,
            "length_controlled": self.length_controlled,
            "judgements": self.judgements,
            "unread": self.unread,
            "models": models,
            "pairs": pairs,
        }


@dataclass(frozen=True, slots=True)
class _Field:
    """All comparisons as numbers: M models, P pairs that met, K cells (a pair at a rounded difference of length)."""

    names: tuple[str, ...]
    pairs: Ints
    """[P, 2], the models' numbers"""
    pair_of: Ints
    """[n], of each comparison"""
    cell_of: Ints
    """[n]"""
    cell_pairs: Ints
    """[K]"""
    cell_lengths: Floats
    """[K], tanh of the standardised difference; zeros without length control"""
    question_of: Ints
    """[n]"""
    num_questions: int
    outcomes: Floats
    """[n, 3], of the pair's first model"""

    @property
    def points(self) -> Floats:
        """What each comparison gives its first model, a tie being one half [n]."""
        points: Floats = self.outcomes[:, 0] + self.outcomes[:, 1] / 2
        return points


@dataclass(frozen=True, slots=True)
class _Fit:
    """What one drawing of the questions says."""

    log_odds: Floats
    """[M], mean 0"""
    model_rates: Floats
    """[M]; NaN for a model that was not drawn"""
    pair_rates: Floats
    """[P], of the pair's first model; NaN for a pair that was not drawn"""
    length_effect: float = 0.0


def rank(
    comparisons: Sequence[Comparison],
    rule: str = "hard",
    unread: int = 0,
    length_control: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Ranking:
    """Rank the models. The order of the comparisons, and of each one's models, does not matter.

    Intervals are percentiles of a bootstrap over questions, except those of win rates that are counted alone: see
    `share_interval`. Raises ValueError for no comparison and for one of a model with itself.
    """
    if not comparisons:
        raise ValueError("there is no comparison to rank from")
    if any(each.first == each.second for each in comparisons):
        raise ValueError("a model cannot be compared with itself")
    ordered = sorted(
        (each.sorted() for each in comparisons), key=lambda c: (c.question, c.first, c.second, c.outcomes, c.lengths)
    )
    field = _make_field(ordered, length_control)
    table = _by_question(field)
    whole = _fit(np.asarray(table.sum(axis=0)).ravel(), field, length_control)
    drawn, counts = [], []
    for part in draw_counts(field.num_questions, resamples, seed):
        drawn += [_fit(sums, field, length_control, whole) for sums in (table.T @ part.T.astype(np.float64)).T]
        counts.append(part.astype(np.uint8))
    elos = _elo_ratings(field, np.concatenate(counts), whole.length_effect, seed)
    models = _models(field, whole, drawn, elos, length_control)
    pairs = _pairs(field, whole, drawn, [model.name for model in models], length_control)
    notes = _notes(field, whole, length_control)
    return Ranking(rule, length_control, unread, models, pairs, len(ordered), notes)


def _make_field(comparisons: Sequence[Comparison], length_control: bool) -> _Field:
    names = sorted({name for each in comparisons for name in (each.first, each.second)})
    number = {name: place for place, name in enumerate(names)}
    met = np.array([(number[each.first], number[each.second]) for each in comparisons], dtype=np.int64)
    pairs, pair_of = np.unique(met, axis=0, return_inverse=True)
    steps = np.zeros(len(comparisons), dtype=np.int64)
    if length_control:
        lengths = np.array([each.lengths for each in comparisons], dtype=np.float64)
        steps = np.rint(length_differences(lengths) / _LENGTH_STEP).astype(np.int64)
    cells, cell_of = np.unique(np.stack([pair_of.ravel(), steps], axis=1), axis=0, return_inverse=True)
    question_of, num_questions = cluster_indices([each.question for each in comparisons])
    return _Field(
        tuple(names),
        pairs,
        pair_of.ravel(),
        cell_of.ravel(),
        cells[:, 0],
        (cells[:, 1] * _LENGTH_STEP).astype(np.float64),
        question_of,
        num_questions,
        np.array([each.outcomes for each in comparisons], dtype=np.float64),
    )


def length_differences(lengths: Floats) -> Floats:
    """tanh of the difference of lengths [n, 2] over its standard deviation: -1 to 1 (Dubois et al. 2024)."""
    difference = lengths[:, 0] - lengths[:, 1]
    # around 0, not around the mean: exchanging a pair's models must change the sign alone
    spread = float(np.sqrt(np.mean(difference**2)))
    found: Floats = np.tanh(difference / spread) if spread else difference
    return found


def _by_question(field: _Field) -> Any:
    """Points of the first and of the second model: a sparse matrix [questions, 2 K]."""
    from scipy.sparse import csr_matrix

    num_cells = len(field.cell_pairs)
    points = np.concatenate([field.points, 1 - field.points])
    columns = np.concatenate([field.cell_of, field.cell_of + num_cells])
    rows = np.tile(field.question_of, 2)
    return csr_matrix((points, (rows, columns)), shape=(field.num_questions, 2 * num_cells))


def _fit(sums: Floats, field: _Field, length_control: bool, near: _Fit | None = None) -> _Fit:
    """Ratings and win rates from points [2 K]: counted win rates, or with length control those at equal length.

    `near` is a fit to begin at.
    """
    won, lost = np.split(sums, 2)
    num_models, num_pairs = len(field.names), len(field.pairs)
    pair_won, pair_lost = (np.bincount(field.cell_pairs, column, num_pairs) for column in (won, lost))
    matrix = np.zeros((num_models, num_models))
    first, second = field.pairs.T
    matrix[first, second], matrix[second, first] = pair_won, pair_lost
    met = matrix + matrix.T
    prior = 0.0 if _count_groups(matrix, "strong")[0] == 1 else VIRTUAL_TIE
    with np.errstate(invalid="ignore"):
        if not length_control:
            rates = pair_won / (pair_won + pair_lost)
            return _Fit(bradley_terry(matrix, prior), matrix.sum(axis=1) / met.sum(axis=1), rates)
        log_odds, effect = _length_controlled(won, lost, field, prior, near)
        expected = 1 / (1 + np.exp(log_odds[None, :] - log_odds[:, None]))
        rates = (met * expected).sum(axis=1) / met.sum(axis=1)
        return _Fit(log_odds, rates, expected[first, second], effect)


def bradley_terry(matrix: Floats, virtual_tie: float = 0.0) -> Floats:
    """Log odds [M], mean 0, of the models whose wins over one another, ties as halves, stand in `matrix` [M, M].

    `virtual_tie` is the weight of a tie that is added to each pair.
    """
    from evalica import Winner
    from evalica import bradley_terry as fit

    wins = matrix + virtual_tie / 2 * (1 - np.eye(len(matrix)))
    first, second = (side.tolist() for side in np.nonzero(wins))
    weights = wins[first, second].tolist()
    winners = [Winner.X] * len(first)
    scores = fit(first, second, winners, weights=weights, tolerance=1e-8, limit=20_000).scores.to_dict()
    log_odds: Floats = np.log([scores[model] for model in range(len(matrix))])
    centred: Floats = log_odds - log_odds.mean()
    return centred


def _length_controlled(
    won: Floats, lost: Floats, field: _Field, prior: float, near: _Fit | None
) -> tuple[Floats, float]:
    """Log odds at equal length [M], and the length's effect: log odds for a difference of 1 after tanh.

    A logistic regression by Newton's method: log odds = model - model + effect * difference.
    """
    num_models = len(field.names)
    everyone = np.array(list(combinations(range(num_models), 2)))
    sides = np.concatenate([field.pairs[field.cell_pairs], everyone])
    rows = np.arange(len(sides))
    design = np.zeros((len(sides), num_models + 1))
    design[rows, sides[:, 0]], design[rows, sides[:, 1]] = 1, -1
    design[: len(won), -1] = field.cell_lengths
    half_tie = np.full(len(everyone), prior / 2)
    won, total = np.concatenate([won, half_tie]), np.concatenate([won + lost, 2 * half_tie])
    # holds the models' mean at 0, which the data leave open
    penalty = np.ones((num_models + 1, num_models + 1))
    penalty[-1], penalty[:, -1] = 0, 0
    penalty[-1, -1] = _LENGTH_PRIOR
    found = np.zeros(num_models + 1) if near is None else np.append(near.log_odds, near.length_effect)
    for _ in range(100):
        expected = 1 / (1 + np.exp(-design @ found))
        gradient = design.T @ (won - total * expected) - penalty @ found
        curvature = (design.T * (total * expected * (1 - expected))) @ design + penalty
        step = np.linalg.solve(curvature, gradient)
        # a longer step can overshoot where nearly all is won
        found = found + step / max(1.0, float(np.abs(step).max()) / 2)
        if np.abs(step).max() < 1e-8:
            break
    return found[:-1] - found[:-1].mean(), float(found[-1])


def _elo_ratings(field: _Field, counts: NDArray[np.uint8], length_effect: float, seed: int) -> Floats:
    """Elo ratings [M, 1 + resamples] of the questions as they are, and of each drawing of them."""
    order = np.random.default_rng(seed).permutation(len(field.pair_of))
    once = np.ones((1, field.num_questions), dtype=np.uint8)
    weights = np.concatenate([once, counts]).T
    advantages = _POINTS * length_effect * field.cell_lengths[field.cell_of]
    return elo(
        field.pairs[field.pair_of][order],
        field.points[order],
        weights,
        field.question_of[order],
        len(field.names),
        advantages[order],
    )


def elo(
    sides: Ints, points: Floats, weights: NDArray[Any], questions: Ints, num_models: int, advantages: Floats
) -> Floats:
    """Elo ratings [M, R] after judgements one after another, from `MEAN` on, for R ways to weigh them at once.

    sides [n, 2], points [n], weights [questions, R], advantages [n] on the scale of ratings. A weight multiplies K.
    (evalica's weights multiply what was scored, but not what was expected: neither drawings nor probabilities can go
    in there.)
    """
    ratings = np.full((num_models, weights.shape[1]), MEAN)
    for (first, second), point, question, advantage in zip(
        sides.tolist(), points.tolist(), questions.tolist(), advantages.tolist(), strict=True
    ):
        difference = ratings[first] - ratings[second] + advantage
        moved = ELO_K * weights[question] * (point - 1 / (1 + np.exp(difference / -_POINTS)))
        ratings[first] += moved
        ratings[second] -= moved
    return ratings


def _models(
    field: _Field, whole: _Fit, drawn: Sequence[_Fit], elos: Floats, length_control: bool
) -> tuple[RankedModel, ...]:
    ratings = np.array([fit.log_odds for fit in drawn]) * _POINTS + MEAN
    rates = np.array([fit.model_rates for fit in drawn])
    found = []
    for place, name in enumerate(field.names):
        took_part = (field.pairs[field.pair_of] == place).any(axis=1)
        judged = int(took_part.sum())
        questions = len(np.unique(field.question_of[took_part]))
        rate = float(whole.model_rates[place])
        # a bootstrap of a model that won all, or lost all, knows nothing else
        low, high = share_interval(rate, questions) if rate in (0, 1) else percentiles(rates[:, place], questions)
        value = MEAN + _POINTS * float(whole.log_odds[place])
        bounds = percentiles(ratings[:, place], field.num_questions)
        elo_bounds = percentiles(elos[place, 1:], field.num_questions)
        found.append(
            RankedModel(
                name,
                judged,
                Estimate(rate, low, high, judged),
                Estimate(value, *bounds, judged),
                Estimate(float(elos[place, 0]), *elo_bounds, judged),
            )
        )
    return tuple(sorted(found, key=lambda model: (-model.bradley_terry.value, model.name)))


def _pairs(
    field: _Field, whole: _Fit, drawn: Sequence[_Fit], best_first: Sequence[str], length_control: bool
) -> tuple[RankedPair, ...]:
    place_of = {name: place for place, name in enumerate(best_first)}
    rates = np.array([fit.pair_rates for fit in drawn])
    found = []
    for pair, (one, other) in enumerate(field.pairs.tolist()):
        there = field.pair_of == pair
        outcomes, column, rate = field.outcomes[there].sum(axis=0), rates[:, pair], float(whole.pair_rates[pair])
        first, second = field.names[one], field.names[other]
        if place_of[first] > place_of[second]:
            first, second, outcomes, column, rate = second, first, outcomes[::-1], 1 - column, 1 - rate
        questions = len(np.unique(field.question_of[there]))
        low, high = percentiles(column, questions) if length_control else share_interval(rate, questions)
        apart = low is not None and high is not None and not low <= 0.5 <= high
        wins, ties, losses = (_count(number) for number in outcomes.tolist())
        estimate = Estimate(rate, low, high, int(there.sum()))
        needed = 0 if apart else more_needed(rate, questions)
        found.append(RankedPair(first, second, wins, ties, losses, estimate, apart, needed))
    return tuple(sorted(found, key=lambda pair: (place_of[pair.first], place_of[pair.second])))


def _count(number: float) -> float:
    """Whole numbers as such; sums of probabilities to four places."""
    return int(number) if number.is_integer() else round(number, 4)


def more_needed(rate: float, questions: int) -> int | None:
    """Judgements that are still needed to tell two models apart, at least one; None at one half exactly.

    n independent judgements with win rate p do where |p - 1/2| > 1.96 sqrt(1/4 / n), that is n > 1.96^2 / (2 p - 1)^2:
    the normal approximation, with the variance that models of equal strength have without ties. Ties need fewer.
    """
    if rate == 0.5:
        return None
    enough = math.floor((1.959964 / (2 * rate - 1)) ** 2) + 1
    return max(enough - questions, 1)


def _count_groups(matrix: Floats, connection: str) -> tuple[int, Ints]:
    from scipy.sparse.csgraph import connected_components

    count, groups = connected_components(matrix > 0, directed=True, connection=connection)
    return int(count), groups


def _notes(field: _Field, whole: _Fit, length_control: bool) -> tuple[str, ...]:
    matrix = np.zeros((len(field.names), len(field.names)))
    first, second = field.pairs[field.pair_of].T
    np.add.at(matrix, (first, second), field.points)
    np.add.at(matrix, (second, first), 1 - field.points)
    notes = []
    count, groups = _count_groups(matrix, "weak")
    if count > 1:
        parts = (", ".join(np.array(field.names)[groups == group]) for group in range(count))
        notes.append(
            f"no judgement connects these groups, and ratings compare models of one group only: {'; '.join(parts)}"
        )
    if _count_groups(matrix, "strong")[0] > count:
        notes.append(
            f"{_unbeaten(field.names, matrix)}: their Bradley-Terry ratings have no finite value by themselves"
        )
    if _count_groups(matrix, "strong")[0] > 1:
        notes.append(
            f"so that all ratings are finite, each pair of models got {VIRTUAL_TIE:g} of a tie more than was judged"
        )
    if field.num_questions < _FEW_QUESTIONS:
        notes.append(f"there are {field.num_questions} questions only: too few for intervals to be relied on")
    if length_control:
        odds = math.exp(whole.length_effect * math.tanh(1))
        notes.append(f"an answer longer by one standard deviation has {odds:.2f} times the odds to win, all else equal")
    return tuple(notes)


def _unbeaten(names: Sequence[str], matrix: Floats) -> str:
    winners = [name for name, lost in zip(names, matrix.sum(axis=0), strict=True) if lost == 0]
    losers = [name for name, won in zip(names, matrix.sum(axis=1), strict=True) if won == 0]
    said = [f"{', '.join(who)} {what}" for who, what in ((winners, "won all"), (losers, "lost all")) if who]
    return " and ".join(said) or "some models won all judgements against some others"
