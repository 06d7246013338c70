"""How scores go together and how they spread. Rank correlations come from a table of how often each pair occurs: most
are ties.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import compress

import numpy as np

from judgelm.evaluation.metrics.intervals import RESAMPLES, Estimate, Floats, Mask, Statistic, bootstrap

Correlation = Callable[[Floats], float]
MANY = 20_000
"""samples, from which on a rank correlation is drawn less often, because each draw has to be ranked anew"""
RESAMPLES_OF_MANY = 200
_ROUNDING = 1e-12


def pearson(first: Floats, second: Floats, known: Mask) -> Statistic:
    """Pearson's product-moment correlation (1895) of scores [n] and [n], of the samples that are `known` [n]; NaN where
    either never varies.
    """
    x, y = _centred(first, known), _centred(second, known)

    def formula(sums: Floats) -> Floats:
        n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
        spreads = _squares(xx, x, n) * _squares(yy, y, n)
        return np.asarray(np.where(spreads > 0, (xy - x * y / n) / np.sqrt(spreads), np.nan))

    return Statistic(np.stack([known, x, y, x * x, y * y, x * y], axis=1).astype(np.float64), formula, int(known.sum()))


def spread(scores: Floats, known: Mask) -> Statistic:
    """The sample's standard deviation of scores [n], those that are `known` [n]; NaN for fewer than two."""
    x = _centred(scores, known)

    def formula(sums: Floats) -> Floats:
        n, x, xx = np.moveaxis(sums, -1, 0)
        return np.asarray(np.where(n > 1, np.sqrt(_squares(xx, x, n) / (n - 1)), np.nan))

    return Statistic(np.stack([known, x, x * x], axis=1).astype(np.float64), formula, int(known.sum()))


def _centred(scores: Floats, known: Mask) -> Floats:
    """Less the mean of those known, which keeps sums of squares exact; 0 for the others."""
    mean = scores[known].mean() if known.any() else 0.0
    return np.asarray(np.where(known, scores - mean, 0.0))


def _squares(squared: Floats, total: Floats, n: Floats) -> Floats:
    """Sum of squared differences from the mean, 0 where it is nothing but rounding."""
    found = squared - total**2 / n
    return np.asarray(np.where(found > _ROUNDING * (1 + squared), found, 0.0))


def spearman(table: Floats) -> float:
    """Spearman's rho of counts [I, J], rows and columns in ascending order of score; NaN where either never varies."""
    rows, columns = _centred_ranks(table.sum(axis=1)), _centred_ranks(table.sum(axis=0))
    spread = (table.sum(axis=1) @ rows**2) * (table.sum(axis=0) @ columns**2)
    return float(rows @ table @ columns / np.sqrt(spread)) if spread > 0 else float("nan")


def _centred_ranks(counts: Floats) -> Floats:
    """Mean rank of each score, less the mean of all."""
    return np.asarray(counts.cumsum() - counts / 2 - counts.sum() / 2)


def kendall(table: Floats) -> float:
    """Kendall's tau-b (1945) of counts [I, J], rows and columns in ascending order of score; NaN where either never
    varies.
    """
    # pairs of a count with all that stand below it and to its right
    after = table[::-1, ::-1].cumsum(axis=0).cumsum(axis=1)[::-1, ::-1]
    concordant = (table[:-1, :-1] * after[1:, 1:]).sum()
    pairs = _pairs(table.sum())
    tied_rows, tied_columns = _pairs(table.sum(axis=1)), _pairs(table.sum(axis=0))
    discordant = pairs - tied_rows - tied_columns + _pairs(table) - concordant
    spread = (pairs - tied_rows) * (pairs - tied_columns)
    return float((concordant - discordant) / np.sqrt(spread)) if spread > 0 else float("nan")


def _pairs(counts: Floats) -> float:
    return float((counts * (counts - 1)).sum() / 2)


def rank_correlations(
    first: Floats, second: Floats, known: Mask, clusters: Sequence[str], resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Spearman's and Kendall's, by name, of the scores [k] or [k, m] of the samples [n] that are `known`, each sample
    being one of the count; nothing without any. Of many samples fewer resamples are drawn.
    """
    if not known.any():
        return {}
    draws = min(resamples, RESAMPLES_OF_MANY) if len(first) > MANY else resamples
    of_scores = np.repeat(list(compress(clusters, known)), first[0].size).tolist()
    found = {
        name: correlate(formula, first.ravel(), second.ravel(), of_scores, draws)
        for name, formula in (("spearman", spearman), ("kendall", kendall))
    }
    return {name: replace(each, count=len(first)) for name, each in found.items()}


def correlate(
    formula: Correlation, first: Floats, second: Floats, clusters: Sequence[str], resamples: int, seed: int = 0
) -> Estimate:
    """A rank correlation of scores [n] and [n], with its interval; NaN and none where either never varies.

    Scores are taken to the hundredth, so that the table stays small where they are expected ones.
    """
    rows, columns = (np.unique(np.round(scores, 2), return_inverse=True) for scores in (first, second))
    shape = len(rows[0]), len(columns[0])
    cells = rows[1] * shape[1] + columns[1]

    def statistic(weights: Floats) -> float:
        table = np.bincount(cells, weights=weights, minlength=shape[0] * shape[1])
        return formula(table.reshape(shape).astype(np.float64))

    return bootstrap(statistic, clusters, resamples, seed)
