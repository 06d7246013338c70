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
    shares = np.full(num_clusters, 1 / num_clusters)
    step = max(1, _DRAWN_AT_ONCE // num_clusters)
    for start in range(0, resamples, step):
        yield random.multinomial(num_clusters, shares, size=min(step, resamples - start))


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
    index, num = cluster_indices(clusters)
    given = {name: [np.asarray(column, dtype=np.float64) for column in pair] for name, pair in columns.items()}
    for name, (_, below) in given.items():
        if not below.any():
            raise ValueError(f"{name} is a share of nothing")
    sums = [np.bincount(index, weights=column, minlength=num) for pair in given.values() for column in pair]
    table = np.stack(sums, axis=1)
    drawn = np.concatenate([counts.astype(np.float64) @ table for counts in draw_counts(num, resamples, seed)])
    found = {}
    for place, (name, (above, below)) in enumerate(given.items()):
        top, bottom = drawn[:, 2 * place], drawn[:, 2 * place + 1]
        low, high = percentiles(top[bottom != 0] / bottom[bottom != 0], num)
        found[name] = Estimate(float(above.sum() / below.sum()), low, high, int(np.count_nonzero(below)))
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
    """The middle 95 %; None for fewer than two clusters or where nothing is defined."""
    known = drawn[~np.isnan(drawn)]
    if num_clusters < 2 or not len(known):
        return None, None
    found: Any = np.percentile(known, [50 * (1 - LEVEL), 100 - 50 * (1 - LEVEL)])
    return float(found[0]), float(found[1])
