"""A number with its interval, as files of results have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from judgelm.documents import Section
from judgelm.evaluation.metrics.intervals import RESAMPLES, SHARE, Estimate, Key, Span, Statistic, estimates, quotient


class Rate(Section):
    """A number with its 95 % interval, and how many samples it is of.

    `value` is None where it is not defined, `low` and `high` where nothing can be said of an interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    count: int = 0

    @classmethod
    def of(cls, estimate: Estimate) -> Rate:
        value = None if np.isnan(estimate.value) else estimate.value
        return cls(value=value, low=estimate.low, high=estimate.high, count=estimate.count)


def rates_of(
    statistics: Mapping[Key, Statistic], clusters: Sequence[str], resamples: int = RESAMPLES, seed: int = 0
) -> dict[Key, Rate]:
    """Those of the statistics that a sample is of, all from the same draws of clusters."""
    known = {key: statistic for key, statistic in statistics.items() if statistic.count}
    return {key: Rate.of(each) for key, each in estimates(known, clusters, resamples, seed).items()}


def mean_rate(
    values: ArrayLike, clusters: Sequence[str], span: Span = SHARE, resamples: int = RESAMPLES, seed: int = 0
) -> Rate:
    """The mean of values [n], which lie within `span`. Raises ValueError for no value."""
    if not len(clusters):
        raise ValueError("a mean of nothing")
    mean = quotient(values, np.ones(len(clusters)), span)
    return rates_of({"mean": mean}, clusters, resamples, seed)["mean"]
