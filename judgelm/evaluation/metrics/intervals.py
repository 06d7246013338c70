"""How sure a number is: 95 % intervals, drawn over questions, since samples of one question are not independent.

Where all questions say the same, a bootstrap draws nothing but that and would call it certain. Then Wilson's score
interval (1927) says how large the share of questions can be that would have said something else.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Span = tuple[float, float]
Key = TypeVar("Key", bound=Hashable)
SHARE: Span = (0.0, 1.0)
LEVEL = 0.95
RESAMPLES = 1000
DEVIATIONS = 1.959964
"""of a normal distribution, within which 95 % lie"""
_DRAWN_AT_ONCE = 4_000_000
"""counts in memory at a time"""
ROUNDING = 1e-9
"""shares and draws that differ by less are the same number"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, its 95 % interval, and how many samples it is of; no interval where nothing can be said of one.

    The value is NaN where the samples are there and the number is not, as a kappa of one class.
    """

    value: float
    low: float | None
    high: float | None
    count: int


def share_interval(share: float, count: float) -> tuple[float | None, float | None]:
    """Wilson's score interval (1927) of a share in which ties count a half, so that `share * count` need not be whole.

    With ties it is wider than need be. None for a share of nothing.
    """
    if not count:
        return None, None
    square = DEVIATIONS**2 / count
    middle = (share + square / 2) / (1 + square)
    half = (square * share * (1 - share) + square**2 / 4) ** 0.5 / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def constant_interval(value: float, count: int, span: Span = SHARE) -> tuple[float | None, float | None]:
    """The interval of a number within `span` that is the same in all of `count` questions.

    None of them differs; by Wilson's interval a share u of all questions could, to either end of the span. For a share
    of 0 or 1 that is Wilson's own interval.
    """
    _, most = share_interval(0, count)
    if most is None:
        return None, None
    return value + most * (span[0] - value), value + most * (span[1] - value)


def cluster_indices(clusters: Sequence[str]) -> tuple[NDArray[np.int64], int]:
    """Each sample's cluster as a number from 0 [n], and how many clusters there are."""
    numbers: dict[str, int] = {}
    found = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)
    return found, len(numbers)


def draw_counts(num_clusters: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each cluster is drawn in each resample, in parts [some resamples, num_clusters]."""
    random = np.random.default_rng(seed)
    step = max(1, _DRAWN_AT_ONCE // num_clusters)
    for start in range(0, resamples, step):
        # twenty times as fast as numpy's multinomial, for 100,000 clusters
        drawn = (random.integers(0, num_clusters, num_clusters) for _ in range(min(step, resamples - start)))
        yield np.stack([np.bincount(each, minlength=num_clusters) for each in drawn])


@dataclass(frozen=True, slots=True)
class Statistic:
    """A number that follows from sums over samples alone, such as a share, a kappa or an F1."""

    columns: Floats
    """what is summed [n, k]"""
    formula: Callable[[Floats], Floats]
    """sums [.., k] -> values [..], NaN where there is none"""
    count: int
    """samples that it is of"""
    span: Span | None = None
    """the least and the most that a sample could make of it, where it is a mean over samples"""
    trials: Mask | None = None
    """the samples whose questions count where all say the same [n]; without, those that have a column of not zero"""
    biased: bool = False
    """drawing alone raises it, as it does all means of absolute differences: the draws are moved back by that much"""

    def over(self, samples: Mask) -> float:
        """The number of some samples [n] alone, without an interval; NaN where it is not defined."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(self.formula(self.columns[samples].sum(axis=0)))


def quotient(numerators: ArrayLike, denominators: ArrayLike, span: Span = SHARE) -> Statistic:
    """Sum of numerators [n] over sum of denominators [n], of the samples whose denominator is not zero.

    `span` is the least and the most that one sample's numerator over its denominator can be.
    """
    columns = np.stack([np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)], axis=1)
    asked = columns[:, 1] != 0
    return Statistic(columns, lambda sums: sums[..., 0] / sums[..., 1], int(asked.sum()), span, asked)


def estimates(
    statistics: Mapping[Key, Statistic], clusters: Sequence[str], resamples: int = RESAMPLES, seed: int = 0
) -> dict[Key, Estimate]:
    """All of them from the same draws of clusters, so that many cost little more than one: each draw is one product of
    matrices. Those that are not defined have a value of NaN and no interval.
    """
    if not statistics:
        return {}
    index, num = cluster_indices(clusters)
    columns = np.concatenate([each.columns for each in statistics.values()], axis=1)
    table = np.stack([np.bincount(index, weights=column, minlength=num) for column in columns.T], axis=1)
    drawn = np.concatenate([counts.astype(np.float64) @ table for counts in draw_counts(num, resamples, seed)])
    found, place = {}, 0
    for name, each in statistics.items():
        block = slice(place, place := place + each.columns.shape[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            value = float(each.formula(table[:, block].sum(axis=0)))
            draws = each.formula(drawn[:, block])
        found[name] = Estimate(value, *_interval(each, value, draws, index, num), each.count)
    return found


def _interval(
    statistic: Statistic, value: float, draws: Floats, index: NDArray[np.int64], num_clusters: int
) -> tuple[float | None, float | None]:
    known = draws[~np.isnan(draws)]
    if np.isnan(value) or not len(known):
        return None, None
    if statistic.biased:
        least = 0 if statistic.span is None else statistic.span[0]
        known = np.maximum(known - np.median(known) + value, least)
    if not is_constant(known):
        low, high = around(value, percentiles(known, num_clusters))
        if low != high:
            return low, high
    # nine draws of ten may say the same, too
    if statistic.span is None:
        return None, None
    asked = statistic.columns.any(axis=1) if statistic.trials is None else statistic.trials
    return constant_interval(value, len(np.unique(index[asked])), statistic.span)


def is_constant(drawn: Floats) -> bool:
    """Whether all draws are the same number: a bootstrap that says nothing."""
    known = drawn[~np.isnan(drawn)]
    return bool(len(known)) and float(np.ptp(known)) <= ROUNDING * max(1.0, float(np.abs(known).max()))


def around(value: float, interval: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
    """The interval with the value in it, which rounding alone can put out."""
    low, high = interval
    return (None if low is None else min(low, value), None if high is None else max(high, value))


def bootstrap(
    statistic: Callable[[Floats], float],
    clusters: Sequence[str],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A statistic of weighted samples: `statistic(weights [n])`, NaN where it is not defined; percentiles by cluster,
    none where all draws are the same.

    For what follows from sums `estimates` is much faster.
    """
    index, num = cluster_indices(clusters)
    value = float(statistic(np.ones(len(index))))
    draws = (row[index].astype(np.float64) for counts in draw_counts(num, resamples, seed) for row in counts)
    drawn = np.array([statistic(weights) for weights in draws])
    nothing = np.isnan(value) or is_constant(drawn)
    low, high = (None, None) if nothing else around(value, percentiles(drawn, num))
    return Estimate(value, low, high, len(index))


def percentiles(drawn: Floats, num_clusters: int) -> tuple[float | None, float | None]:
    """The middle 95 % of what was drawn; None for fewer than two clusters or where nothing is defined.

    With few clusters somewhat more than the middle 95 %, as much as a t interval is wider than a normal one, since
    plain percentiles would cover too seldom (the expanded percentile interval of Hesterberg 2015, section 5.2).
    """
    from scipy.stats import norm, t

    known = drawn[~np.isnan(drawn)]
    if num_clusters < 2 or not len(known):
        return None, None
    n = num_clusters
    tail = norm.cdf(t.ppf((1 - LEVEL) / 2, n - 1) * (n / (n - 1)) ** 0.5)
    found: Any = np.quantile(known, [tail, 1 - tail])
    return float(found[0]), float(found[1])
