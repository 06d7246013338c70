"""Many models from pairwise judgements: win rates, Bradley-Terry and Elo ratings, each with an interval; pure.

Ratings have one scale: 400 points more are odds of ten to one, and the mean of models that are connected is 1000.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from judgelm.evaluation.metrics.intervals import (
    RESAMPLES,
    Estimate,
    Floats,
    around,
    cluster_indices,
    constant_interval,
    draw_counts,
    is_constant,
    percentiles,
    share_interval,
)

Ints = NDArray[np.int64]
MEAN = 1000.0
SCALE = 400.0
ELO_K = 4.0
"""the most that one judgement moves an Elo rating"""
VIRTUAL_TIE = 0.5
"""weight of the tie that every pair that met gets beside what was judged: all Bradley-Terry ratings are finite by it"""
_LENGTH_STEP = 0.04
"""differences of length are rounded to it, so that judgements can be added up"""
_LENGTH_PRIOR = 0.01
"""one over the variance of the length's effect beforehand: keeps it finite where the longer answer always wins"""
_FEW_QUESTIONS = 20
_CONVERGED = 1e-9
"""the largest last step of a fit, in log odds"""
_MOST_STEPS = 200
_NUMBERS_AT_ONCE = 4_000_000
"""in memory, of fits that are made together"""
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
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class _Field:
    """All comparisons as numbers: M models, P pairs that met, K cells (a pair at a rounded difference of length).

    Cells are sorted by pair, and each pair has one at equal length, judged or not.
    """

    names: tuple[str, ...]
    pairs: Ints
    """[P, 2], the models' numbers"""
    groups: Ints
    """[M], which models are connected by judgements"""
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
class _Fits:
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
        return MEAN + _POINTS * self.log_odds

    @classmethod
    def joined(cls, parts: Sequence[_Fits]) -> _Fits:
        columns = zip(*([getattr(part, each.name) for each in fields(cls)] for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


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
    whole = _fit(np.asarray(table.sum(axis=0)).reshape(1, -1), field, length_control)
    draws = [part.astype(np.uint8) for part in draw_counts(field.num_questions, resamples, seed)]
    fits = _Fits.joined([_fit(sums, field, length_control, whole) for sums in _drawn_sums(table, draws, field)])
    effect = float(whole.length_effects[0])
    once = np.ones((1, field.num_questions), dtype=np.uint8)
    elos = _elo_ratings(field, field.points, np.concatenate([once, *draws]).T, effect, seed)
    models = _models(field, whole, fits, elos, _extremes(field, table, whole, fits, length_control, seed))
    pairs = _pairs(field, whole, fits, [model.name for model in models], length_control)
    notes = _notes(field, effect, length_control)
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
    # each pair's cell at equal length is there in any case: its half tie goes there
    level = np.stack([np.arange(len(pairs)), np.zeros(len(pairs), dtype=np.int64)], axis=1)
    judged = np.stack([pair_of.ravel(), steps], axis=1)
    cells, cell_of = np.unique(np.concatenate([judged, level]), axis=0, return_inverse=True)
    question_of, num_questions = cluster_indices([each.question for each in comparisons])
    return _Field(
        tuple(names),
        pairs,
        _connected(pairs, len(names), "weak"),
        pair_of.ravel(),
        cell_of.ravel()[: len(comparisons)],
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


def _sum_cells(field: _Field, points: Floats) -> Floats:
    """The same over all questions, of other points [n]: [2 K]."""
    sides = (np.bincount(field.cell_of, side, len(field.cell_pairs)) for side in (points, 1 - points))
    return np.concatenate(list(sides))


def _drawn_sums(table: Any, draws: Sequence[NDArray[np.uint8]], field: _Field) -> Iterator[Floats]:
    """Points [some resamples, 2 K] of the drawn questions, in parts that fit into memory."""
    step = max(1, _NUMBERS_AT_ONCE // max(table.shape[1], len(field.names) ** 2))
    for part in draws:
        for start in range(0, len(part), step):
            yield (table.T @ part[start : start + step].T.astype(np.float64)).T


def _fit(sums: Floats, field: _Field, length_control: bool, near: _Fits | None = None) -> _Fits:
    """Ratings and win rates from points [R, 2 K]: counted win rates, or with length control those at equal length.

    `near` is a fit to begin at.
    """
    won, lost = np.split(sums, 2, axis=1)
    first, second = field.pairs.T
    pair_won, pair_lost = (np.add.reduceat(each, _pair_starts(field), axis=1) for each in (won, lost))
    met = pair_won + pair_lost
    log_odds, effects = fit_ratings(won, lost, field, length_control, near)
    signed = _incidence(field)
    sides = abs(signed) + signed, abs(signed) - signed

    def of_models(ones: Floats, others: Floats) -> Floats:
        """Sums over a model's pairs of what the pair's first model and its second get [R, M]."""
        return np.asarray((sides[0] @ ones.T + sides[1] @ others.T).T) / 2

    with np.errstate(invalid="ignore"):
        counted_pairs = pair_won / met
        model_met = of_models(met, met)
        counted_models = of_models(pair_won, pair_lost) / model_met
        if not length_control:
            return _Fits(log_odds, effects, counted_models, counted_pairs, counted_models, counted_pairs)
        chances = _logistic(log_odds[:, first] - log_odds[:, second])
        model_rates = of_models(met * chances, met * (1 - chances)) / model_met
    return _Fits(log_odds, effects, model_rates, chances, counted_models, counted_pairs)


def _pair_starts(field: _Field) -> Ints:
    """Where each pair's cells begin [P]."""
    return np.flatnonzero(np.diff(field.cell_pairs, prepend=-1))


def fit_ratings(
    won: Floats, lost: Floats, field: _Field, length_control: bool, near: _Fits | None
) -> tuple[Floats, Floats]:
    """Bradley-Terry log odds [R, M], mean 0 in each group, and effects of length [R]: log odds for a difference of 1
    after tanh, 0 without length control.

    The most likely ones of points [R, K] and the half tie of each pair that met: log odds = model - model + effect *
    difference. The half tie makes each term strictly convex and so the ratings finite and unique, and keeps what only
    one pair says from moving what others say. Newton's method with steps so damped that it cannot overshoot
    (Bach 2010, Self-concordant analysis for logistic regression).
    """
    first, second = field.pairs.T
    num_models, starts, signed = len(field.names), _pair_starts(field), _incidence(field)
    half_tie = np.where(field.cell_lengths == 0, VIRTUAL_TIE / 2, 0)
    won, lost = won + half_tie, lost + half_tie
    found = np.zeros((len(won), num_models + 1))
    if near is not None:
        found += np.append(near.log_odds[0], near.length_effects[0])
    same_group = field.groups[:, None] == field.groups

    def log_odds_of(strengths: Floats) -> Floats:
        """[R, K]"""
        between = strengths[:, first] - strengths[:, second]
        return np.asarray(between[:, field.cell_pairs] + strengths[:, -1:] * field.cell_lengths)

    def of_pairs(cells: Floats) -> Floats:
        return np.asarray(np.add.reduceat(cells, starts, axis=1))

    def of_models(pairs: Floats) -> Floats:
        """What each pair gives its first model and takes from its second [R, M]."""
        return np.asarray((signed @ pairs.T).T)

    for _ in range(_MOST_STEPS):
        odds = log_odds_of(found)
        chance, other = _logistic(odds), _logistic(-odds)
        missed, weight = won * other - lost * chance, (won + lost) * chance * other
        gradient = np.zeros_like(found)
        gradient[:, :-1] = of_models(of_pairs(missed))
        curvature = np.zeros((*found.shape, num_models + 1))
        pair_weight = of_pairs(weight)
        curvature[:, first, second] = curvature[:, second, first] = -pair_weight
        curvature[:, range(num_models), range(num_models)] = (abs(signed) @ pair_weight.T).T
        # holds each group's mean at 0, which the data leave open
        curvature[:, :-1, :-1] += same_group
        if length_control:
            gradient[:, -1] = missed @ field.cell_lengths - _LENGTH_PRIOR * found[:, -1]
            shared = of_models(of_pairs(weight * field.cell_lengths))
            curvature[:, :-1, -1] = curvature[:, -1, :-1] = shared
            curvature[:, -1, -1] = weight @ field.cell_lengths**2 + _LENGTH_PRIOR
        else:
            curvature[:, -1, -1] = 1
        step = np.asarray(np.linalg.solve(curvature, gradient[..., None])[..., 0], dtype=np.float64)
        reach = np.abs(log_odds_of(step)).max(axis=1, keepdims=True)
        found += step * np.where(reach > 0, np.log1p(reach) / np.where(reach > 0, reach, 1), 1)
        if reach.max(initial=0) < _CONVERGED:
            break
    return found[:, :-1], found[:, -1]


def _logistic(log_odds: Floats) -> Floats:
    from scipy.special import expit

    return np.asarray(expit(log_odds))


def _incidence(field: _Field) -> Any:
    """1 for a pair's first model, -1 for its second: a sparse matrix [M, P]."""
    from scipy.sparse import csr_matrix

    places = np.arange(len(field.pairs))
    rows, columns = field.pairs.T.ravel(), np.tile(places, 2)
    return csr_matrix((np.repeat([1.0, -1.0], len(places)), (rows, columns)), shape=(len(field.names), len(places)))


@dataclass(frozen=True, slots=True)
class _Extremes:
    """What a model would have at both ends of its win rate's interval, where all questions give it the same rate: a
    bootstrap of nothing but wins knows nothing else. [2, M], NaN for all other models.
    """

    win_rates: Floats
    ratings: Floats
    elos: Floats


def _extremes(field: _Field, table: Any, whole: _Fits, fits: _Fits, length_control: bool, seed: int) -> _Extremes:
    """Its rivals keep what they have of each other."""
    shape = 2, len(field.names)
    found = _Extremes(*(np.full(shape, np.nan) for _ in range(3)))
    alike = [place for place in range(shape[1]) if is_constant(fits.counted_models[:, place])]
    if not alike:
        return found
    points = []
    for place in alike:
        first, second = (field.pairs[field.pair_of, side] == place for side in (0, 1))
        rate = float(whole.counted_models[0, place])
        for end in constant_interval(rate, len(np.unique(field.question_of[first | second]))):
            gained = np.where(second, 1 - field.points, field.points)
            gained = _moved(gained, rate, rate if end is None else end)
            points.append(np.where(first, gained, np.where(second, 1 - gained, field.points)))
    changed = np.stack(points)
    sums = np.stack([_sum_cells(field, each) for each in changed])
    ends = _fit(sums, field, length_control, whole)
    once = np.ones((field.num_questions, 1), dtype=np.uint8)
    elos = _elo_ratings(field, changed.T, once, float(whole.length_effects[0]), seed)
    for row, place in enumerate(np.repeat(alike, 2).tolist()):
        found.win_rates[row % 2, place] = ends.model_rates[row, place]
        if field.num_questions < 2:
            continue
        found.ratings[row % 2, place] = ends.ratings[row, place]
        found.elos[row % 2, place] = elos[place, row]
    return found


def _moved(points: Floats, rate: float, to: float) -> Floats:
    """Points with the mean `rate` so that it is `to`: all wins, or all losses, become less certain alike."""
    if to < rate:
        return points * to / rate
    return 1 - (1 - points) * (1 - to) / (1 - rate) if to > rate else points


def _elo_ratings(field: _Field, points: Floats, weights: NDArray[np.uint8], length_effect: float, seed: int) -> Floats:
    """Elo ratings [M, R] of the judgements in the order that the seed draws; see `elo`."""
    order = np.random.default_rng(seed).permutation(len(field.pair_of))
    advantages = _POINTS * length_effect * field.cell_lengths[field.cell_of]
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
        moved = ELO_K * weights[question] * (point - 1 / (1 + np.exp(difference / -_POINTS)))
        ratings[first] += moved
        ratings[second] -= moved
    return ratings


def _models(field: _Field, whole: _Fits, fits: _Fits, elos: Floats, extremes: _Extremes) -> tuple[RankedModel, ...]:
    found = []
    for place, name in enumerate(field.names):
        took_part = (field.pairs[field.pair_of] == place).any(axis=1)
        judged, questions = int(took_part.sum()), len(np.unique(field.question_of[took_part]))
        rate, rating, elo_rating = (
            Estimate(float(value), *_bounds(float(value), draws[:, place], ends[:, place], num), judged)
            for value, draws, ends, num in (
                (whole.model_rates[0, place], fits.model_rates, extremes.win_rates, questions),
                (whole.ratings[0, place], fits.ratings, extremes.ratings, field.num_questions),
                (elos[place, 0], elos[:, 1:].T, extremes.elos, field.num_questions),
            )
        )
        found.append(RankedModel(name, judged, rate, rating, elo_rating))
    return tuple(sorted(found, key=lambda model: (-model.bradley_terry.value, model.name)))


def _bounds(value: float, draws: Floats, ends: Floats, questions: int) -> tuple[float | None, float | None]:
    """Percentiles of draws [R], with the value and the extremes [2] in them, if there are any."""
    found = [bound for bound in (*percentiles(draws, questions), *ends.tolist()) if bound is not None]
    known = [bound for bound in found if not math.isnan(bound)]
    return (min(value, *known), max(value, *known)) if known else (None, None)


def _pairs(
    field: _Field, whole: _Fits, fits: _Fits, best_first: Sequence[str], length_control: bool
) -> tuple[RankedPair, ...]:
    place_of = {name: place for place, name in enumerate(best_first)}
    found = []
    for pair, (one, other) in enumerate(field.pairs.tolist()):
        there = field.pair_of == pair
        outcomes, column = field.outcomes[there].sum(axis=0), fits.pair_rates[:, pair]
        rate = float(whole.pair_rates[0, pair])
        first, second = field.names[one], field.names[other]
        if place_of[first] > place_of[second]:
            first, second, outcomes, column, rate = second, first, outcomes[::-1], 1 - column, 1 - rate
        questions = len(np.unique(field.question_of[there]))
        if length_control and not is_constant(fits.counted_pairs[:, pair]):
            low, high = around(rate, percentiles(column, questions))
        else:
            low, high = share_interval(rate, questions)
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


def _connected(arrows: Ints, num_models: int, connection: str) -> Ints:
    """The group of each model [M], from arrows [k, 2]: weakly connected, or strongly."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    matrix = csr_matrix((np.ones(len(arrows)), (arrows[:, 0], arrows[:, 1])), shape=(num_models, num_models))
    groups: Ints = connected_components(matrix, directed=True, connection=connection)[1].astype(np.int64)
    return groups


def _notes(field: _Field, length_effect: float, length_control: bool) -> tuple[str, ...]:
    notes = []
    count = int(field.groups.max()) + 1
    if count > 1:
        parts = (", ".join(np.array(field.names)[field.groups == group]) for group in range(count))
        notes.append(
            f"no judgement connects these groups, and ratings compare models of one group only: {'; '.join(parts)}"
        )
    sides, points = field.pairs[field.pair_of], field.points
    beaten = np.concatenate([sides[points > 0], sides[points < 1][:, ::-1]])
    if int(_connected(beaten, len(field.names), "strong").max()) + 1 > count:
        notes.append(
            f"{_unbeaten(field.names, beaten)}: their Bradley-Terry ratings have no finite value by themselves; the"
            f" {VIRTUAL_TIE:g} of a tie that each pair that met gets sets how far they lie from the others"
        )
    if field.num_questions < _FEW_QUESTIONS:
        notes.append(f"there are {field.num_questions} questions only: too few for intervals to be relied on")
    if length_control:
        odds = math.exp(length_effect * math.tanh(1))
        notes.append(f"an answer longer by one standard deviation has {odds:.2f} times the odds to win, all else equal")
    return tuple(notes)


def _unbeaten(names: Sequence[str], beaten: Ints) -> str:
    """`beaten` [k, 2] has who got a point from whom."""
    got, gave = set(beaten[:, 0].tolist()), set(beaten[:, 1].tolist())
    winners = [name for place, name in enumerate(names) if place not in gave]
    losers = [name for place, name in enumerate(names) if place not in got]
    said = [f"{', '.join(who)} {what}" for who, what in ((winners, "won all"), (losers, "lost all")) if who]
    return " and ".join(said) or "some models won all judgements against some others"
