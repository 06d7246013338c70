"""Fits -> each model's and each pair's numbers with their intervals, and what their reader has to know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from judgelm.evaluation.metrics.intervals import (
    DEVIATIONS,
    Floats,
    around,
    constant_interval,
    draw_counts,
    is_constant,
    percentiles,
    share_interval,
)
from judgelm.ranking.field import Field, Ints, connected
from judgelm.ranking.matches import Match
from judgelm.ranking.ranking import RankedModel, RankedPair, Strength
from judgelm.ranking.ratings import VIRTUAL_TIE, Fits, fit, fit_elo

_FEW_QUESTIONS = 20
_NUMBERS_AT_ONCE = 4_000_000
"""in memory, of fits that are made together"""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A field, what all its questions say, and what R drawings of them do."""

    field: Field
    whole: Fits
    """[1, ..]"""
    drawn: Fits
    elos: Floats
    """[M, 1 + R], of all questions first"""
    seed: int
    """of the order in which Elo reads"""

    @classmethod
    def of(cls, matches: Sequence[Match], length_control: bool, resamples: int, seed: int) -> Fitted:
        """Of matches that are sorted, and each one's models too."""
        field = Field.of(matches, length_control)
        table = field.by_question()
        whole = fit(np.asarray(table.sum(axis=0)).reshape(1, -1), field)
        draws = [part.astype(np.uint8) for part in draw_counts(field.num_questions, resamples, seed)]
        at_once = max(1, _NUMBERS_AT_ONCE // max(table.shape[1], len(field.names) ** 2))
        parts = [part[start : start + at_once] for part in draws for start in range(0, len(part), at_once)]
        drawn = [fit((table.T @ part.T.astype(np.float64)).T, field, whole) for part in parts]
        weights = np.concatenate([np.ones((1, field.num_questions), dtype=np.uint8), *draws]).T
        elos = fit_elo(field, field.points, weights, float(whole.length_effects[0]), seed)
        return cls(field, whole, Fits(*(np.concatenate(column) for column in zip(*drawn, strict=True))), elos, seed)

    @property
    def length_effect(self) -> float:
        return float(self.whole.length_effects[0])


def _extremes(fitted: Fitted) -> Floats:
    """What a model would have at both ends of its win rate's interval, where all questions give it the same rate, or
    all draws the same rating: such a bootstrap knows nothing else. Its rivals keep what they have of each other.

    Win rates, ratings and Elo ratings [3, 2, M], NaN for all other models.
    """
    field, whole = fitted.field, fitted.whole
    found = np.full((3, 2, len(field.names)), np.nan)
    places = range(len(field.names))
    same_rate = {place for place in places if is_constant(fitted.drawn.counted_models[:, place])}
    alike = [place for place in places if place in same_rate or is_constant(fitted.drawn.ratings[:, place])]
    if not alike:
        return found
    points = []
    for place in alike:
        first, second = field.side(place, 0), field.side(place, 1)
        rate = float(whole.counted_models[0, place])
        for end in constant_interval(rate, field.count_questions(first | second)):
            gained = np.where(second, 1 - field.points, field.points)
            gained = _moved(gained, rate, rate if end is None else end)
            points.append(np.where(first, gained, np.where(second, 1 - gained, field.points)))
    changed = np.stack(points)
    ends = fit(np.stack([field.sum_cells(each) for each in changed]), field, whole)
    once = np.ones((field.num_questions, 1), dtype=np.uint8)
    elos = fit_elo(field, changed.T, once, fitted.length_effect, fitted.seed)
    for row, place in enumerate(np.repeat(alike, 2).tolist()):
        if place in same_rate:
            found[0, row % 2, place] = ends.model_rates[row, place]
        if field.num_questions > 1:
            found[1:, row % 2, place] = ends.ratings[row, place], elos[place, row]
    return found


def _moved(points: Floats, rate: float, to: float) -> Floats:
    """Points with the mean `rate` so that it is `to`: all wins, or all losses, become less certain alike."""
    if to < rate:
        return points * to / rate
    return 1 - (1 - points) * (1 - to) / (1 - rate) if to > rate else points


def rank_models(fitted: Fitted) -> list[RankedModel]:
    """Best first, by Bradley-Terry."""
    field, whole, drawn, elos = fitted.field, fitted.whole, fitted.drawn, fitted.elos
    of_models = (
        (whole.model_rates[0].tolist(), drawn.model_rates),
        (whole.ratings[0].tolist(), drawn.ratings),
        (elos[:, 0].tolist(), elos[:, 1:].T),
    )
    extremes, found = _extremes(fitted), []
    for place, name in enumerate(field.names):
        took_part = field.side(place, 0) | field.side(place, 1)
        judged, questions = int(took_part.sum()), field.count_questions(took_part)
        counts = (questions, field.num_questions, field.num_questions)
        rate, rating, elo = (
            _strength(values[place], draws[:, place], ends[:, place], num, judged)
            for (values, draws), ends, num in zip(of_models, extremes, counts, strict=True)
        )
        found.append(RankedModel(name=name, judged=judged, win_rate=rate, bradley_terry=rating, elo=elo))
    return sorted(found, key=lambda model: (-model.bradley_terry.value, model.name))


def _strength(value: float, draws: Floats, ends: Floats, questions: int, count: int) -> Strength:
    """Its interval: percentiles of draws [R], with the value and the extremes [2] in them, if there are any."""
    found = [bound for bound in (*percentiles(draws, questions), *ends.tolist()) if bound is not None]
    known = [bound for bound in found if not math.isnan(bound)]
    low, high = (min(value, *known), max(value, *known)) if known else (None, None)
    return Strength(value=value, low=low, high=high, count=count)


def rank_pairs(fitted: Fitted, best_first: Sequence[str]) -> list[RankedPair]:
    """All pairs that met, in the order of the models."""
    field = fitted.field
    place_of = {name: place for place, name in enumerate(best_first)}
    found = []
    for pair, (one, other) in enumerate(field.pairs.tolist()):
        there = np.asarray(field.pair_of == pair)
        outcomes, column = field.outcomes[there].sum(axis=0), fitted.drawn.pair_rates[:, pair]
        rate = float(fitted.whole.pair_rates[0, pair])
        first, second = field.names[one], field.names[other]
        if place_of[first] > place_of[second]:
            first, second, outcomes, column, rate = second, first, outcomes[::-1], 1 - column, 1 - rate
        questions = field.count_questions(there)
        if field.length_control and not is_constant(fitted.drawn.counted_pairs[:, pair]):
            low, high = around(rate, percentiles(column, questions))
        else:
            low, high = share_interval(rate, questions)
        apart = low is not None and high is not None and not low <= 0.5 <= high
        wins, ties, losses = (_count(number) for number in outcomes.tolist())
        found.append(
            RankedPair(
                first=first,
                second=second,
                wins=wins,
                ties=ties,
                losses=losses,
                win_rate=Strength(value=rate, low=low, high=high, count=int(there.sum())),
                told_apart=apart,
                more_needed=0 if apart else more_needed(rate, questions),
            )
        )
    return sorted(found, key=lambda pair: (place_of[pair.first], place_of[pair.second]))


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
    enough = math.floor((DEVIATIONS / (2 * rate - 1)) ** 2) + 1
    return max(enough - questions, 1)


def find_notes(fitted: Fitted) -> list[str]:
    """What a reader of the ratings has to know."""
    field, notes = fitted.field, []
    count = int(field.groups.max()) + 1
    if count > 1:
        parts = (", ".join(np.array(field.names)[field.groups == group]) for group in range(count))
        notes.append(
            f"no judgement connects these groups, and ratings compare models of one group only: {'; '.join(parts)}"
        )
    sides, points = field.pairs[field.pair_of], field.points
    beaten = np.concatenate([sides[points > 0], sides[points < 1][:, ::-1]])
    if int(connected(beaten, len(field.names), "strong").max()) + 1 > count:
        notes.append(
            f"{_unbeaten(field.names, beaten)}: their Bradley-Terry ratings have no finite value by themselves; the"
            f" {VIRTUAL_TIE:g} of a tie that each pair that met gets sets how far they lie from the others"
        )
    if field.num_questions < _FEW_QUESTIONS:
        notes.append(f"there are {field.num_questions} questions only: too few for intervals to be relied on")
    if field.length_control:
        odds = math.exp(fitted.length_effect * math.tanh(1))
        notes.append(f"an answer longer by one standard deviation has {odds:.2f} times the odds to win, all else equal")
    return notes


def _unbeaten(names: Sequence[str], beaten: Ints) -> str:
    """`beaten` [k, 2] has who got a point from whom."""
    got, gave = set(beaten[:, 0].tolist()), set(beaten[:, 1].tolist())
    winners = [name for place, name in enumerate(names) if place not in gave]
    losers = [name for place, name in enumerate(names) if place not in got]
    said = [f"{', '.join(who)} {what}" for who, what in ((winners, "won all"), (losers, "lost all")) if who]
    return " and ".join(said) or "some models won all judgements against some others"
