"""Rank correlations of scores, from a table of how often each pair of scores occurs: most are ties."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from judgelm.evaluation.metrics.intervals import Estimate, Floats, bootstrap

Correlation = Callable[[Floats], float]


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


def correlate(
    formula: Correlation, first: Floats, second: Floats, clusters: Sequence[str], resamples: int, seed: int
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
