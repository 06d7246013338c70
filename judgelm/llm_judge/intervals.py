"""How sure a number is: 95 % intervals, drawn over questions, since samples of one question are not independent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
LEVEL = 0.95
RESAMPLES = 1000
_DEVIATIONS = 1.959964
"""of a normal distribution, within which 95 % lie"""
_DRAWN_AT_ONCE = 4_000_000
"""counts in memory at a time"""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, its 95 % interval, and how many samples it is of; no interval where there are too few to draw from."""

    value: float
    low: float | None
    high: float | None
    count: int

    def to_record(self) -> dict[str, float | int | None]:
        return {"value": self.value, "low": self.low, "high": self.high, "count": self.count}


def wilson(successes: int, count: int) -> Estimate:
    """A share of `count` independent trials with Wilson's score interval (1927). Raises ValueError for none."""
    from scipy.stats import binomtest

    if count < 1:
        raise ValueError("a share of nothing")
    found = binomtest(successes, count).proportion_ci(LEVEL, method="wilson")
    return Estimate(successes / count, float(found.low), float(found.high), count)


def share_interval(share: float, count: int) -> tuple[float | None, float | None]:
    """Wilson's interval of a share in which ties count a half, so that `share * count` need not be whole.

    With ties it is wider than need be. None for a share of nothing.
    """
    if not count:
        return None, None
    square = _DEVIATIONS**2 / count
    middle = (share + square / 2) / (1 + square)
    half = (square * share * (1 - share) + square**2 / 4) ** 0.5 / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


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


def ratio(
    numerators: ArrayLike,
    clusters: Sequence[str],
    denominators: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """One of `ratios`; without `denominators` a mean."""
    below = np.ones(len(clusters)) if denominators is None else denominators
    return ratios({"ratio": (numerators, below)}, clusters, resamples, seed)["ratio"]


def ratios(
    columns: Mapping[str, tuple[ArrayLike, ArrayLike]],
    clusters: Sequence[str],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """For each name sum of numerators [n] over sum of denominators [n], bootstrapped by cluster, percentiles.

    All are of the same draws, so that many cost little more than one. `count` is the samples whose denominator is not
    zero. Raises ValueError where the denominators of one sum to zero.
    """
    statistics = {name: quotient(*pair) for name, pair in columns.items()}
    for name, each in statistics.items():
        if not each.columns[:, 1].any():
            raise ValueError(f"{name} is a share of nothing")
    return estimates(statistics, clusters, resamples, seed)


@dataclass(frozen=True, slots=True)
class Statistic:
    """A number that follows from sums over samples alone, such as a share, a kappa or an F1."""

    columns: Floats
    """what is summed [n, k]"""
    formula: Callable[[Floats], Floats]
    """sums [.., k] -> values [..], NaN where there is none"""
    count: int
    """samples that it is of"""


def quotient(numerators: ArrayLike, denominators: ArrayLike) -> Statistic:
    """Sum of numerators [n] over sum of denominators [n], of the samples whose denominator is not zero."""
    columns = np.stack([np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)], axis=1)
    return Statistic(columns, lambda sums: sums[..., 0] / sums[..., 1], int(np.count_nonzero(columns[:, 1])))


def estimates(
    statistics: Mapping[str, Statistic], clusters: Sequence[str], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Estimate]:
    """All of them from the same draws of clusters: each draw is one product of matrices. Those that are not defined
    are left out.
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
            low, high = percentiles(each.formula(drawn[:, block]), num)
        if not np.isnan(value):
            found[name] = Estimate(value, low, high, each.count)
    return found


def bootstrap(
    statistic: Callable[[Floats], float],
    clusters: Sequence[str],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A statistic of weighted samples: `statistic(weights [n])`, NaN where it is not defined; percentiles by cluster.

    For shares and means `ratio` is much faster.
    """
    index, num = cluster_indices(clusters)
    drawn = [statistic(row[index].astype(np.float64)) for counts in draw_counts(num, resamples, seed) for row in counts]
    low, high = percentiles(np.array(drawn), num)
    return Estimate(float(statistic(np.ones(len(index)))), low, high, len(index))


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
