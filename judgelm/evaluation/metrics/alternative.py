"""The alternative annotator test (Calderon, Reichart and Dror, ACL 2025): may a judge stand for one of several people?

One annotator after the other is left out. The others' labels say of each row who speaks for them at least as well: the
judge, or the one left out. The judge wins against a person where it does not fall behind by epsilon, by a t-test of the
differences; over all people the false discovery rate is bounded by Benjamini and Yekutieli's rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from judgelm.evaluation.metrics.agreement import MISSING, OUTCOMES, Codes
from judgelm.evaluation.metrics.intervals import SHARE, Floats, Mask, Statistic, cluster_indices

LEAST_ANNOTATORS = 3
LEAST_QUESTIONS = 30
"""of each annotator: below, a t-test of shares is not to be trusted"""
DISCOVERIES = 0.05
"""the false discovery rate"""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One annotator left out, on the rows [n] that this one and somebody else labelled."""

    rows: Mask
    judge: Floats
    """1 where the judge agrees with the others at least as often as the annotator does; 0 elsewhere"""
    annotator: Floats
    """1 where the annotator does at least as often as the judge; 0 elsewhere"""


def leave_out(judged: Codes, labels: Codes, counts: Floats) -> list[LeftOut]:
    """Of each annotator, from the judge's outcomes [n], these annotators' [n, m], `MISSING` where there is none, and
    how many of all annotators voted for each outcome [n, 3]. An outcome of the judge that is not one of `OUTCOMES`
    agrees with nobody.
    """
    readable = (judged >= 0) & (judged < len(OUTCOMES))
    found = []
    for own in labels.T:
        rows = (own != MISSING) & (counts.sum(axis=1) > 1) & (judged != MISSING)
        place = np.flatnonzero(rows)
        others = counts.copy()
        others[place, own[place]] -= 1
        # of the same others, so that shares need not be divided
        with_annotator, with_judge = np.zeros(len(own)), np.zeros(len(own))
        with_annotator[place] = others[place, own[place]]
        said = np.flatnonzero(rows & readable)
        with_judge[said] = others[said, judged[said]]
        judge, annotator = rows & (with_judge >= with_annotator), rows & (with_annotator >= with_judge)
        found.append(LeftOut(rows, judge.astype(np.float64), annotator.astype(np.float64)))
    return found


def advantage(each: Sequence[LeftOut]) -> Statistic:
    """The mean over annotators of the share of rows on which the judge does as well: the advantage probability."""
    columns = np.stack([column for one in each for column in (one.judge, one.rows)], axis=1).astype(np.float64)
    asked = np.asarray(columns[:, 1::2].any(axis=1), dtype=np.bool_)
    return Statistic(
        columns, lambda sums: (sums[..., ::2] / sums[..., 1::2]).mean(axis=-1), int(asked.sum()), SHARE, asked
    )


def p_value(one: LeftOut, clusters: Sequence[str], epsilon: float) -> float:
    """How likely the differences are if the judge falls behind the annotator by epsilon: a one-sided t-test of their
    mean, whose error is that of sums over questions. Where each row has a question of its own that is the paper's.
    """
    from scipy.stats import t

    place = np.flatnonzero(one.rows)
    differences = (one.annotator - one.judge)[place]
    index, num = cluster_indices([clusters[row] for row in place.tolist()])
    mean = float(differences.mean())
    sums = np.bincount(index, weights=differences - mean, minlength=num)
    error = float(np.sqrt(num / (num - 1) * (sums**2).sum())) / len(place)
    if not error:
        return 0.0 if mean < epsilon else 1.0
    return float(t.cdf((mean - epsilon) / error, num - 1))


def discoveries(p_values: Sequence[float]) -> list[bool]:
    """Which of the hypotheses are rejected, at a false discovery rate of `DISCOVERIES`, however they depend on one
    another.
    """
    from scipy.stats import false_discovery_control

    return [bool(p <= DISCOVERIES) for p in false_discovery_control(p_values, method="by")]
