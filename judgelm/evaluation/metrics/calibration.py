"""How far a judge's probabilities can be believed: Brier score, expected calibration error, reliability curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from judgelm.evaluation.metrics.agreement import MISSING, OUTCOMES, Codes
from judgelm.evaluation.metrics.intervals import Floats, Statistic, quotient
from judgelm.jsonl import Record
from judgelm.judgement import Outcome

BINS = 10
"""of equal width, from 0 to 1"""


@dataclass(frozen=True, slots=True)
class Confidences:
    """Probabilities of samples that have some, and a truth; all else is zero and not `known`."""

    probabilities: Floats
    """of win, tie and lose [n, 3]"""
    truth: Codes
    known: NDArray[np.bool_]

    @classmethod
    def of(cls, given: Sequence[Mapping[Outcome, float] | None], truth: Codes) -> Confidences:
        rows = [[0.0] * len(OUTCOMES) if each is None else [each[outcome] for outcome in OUTCOMES] for each in given]
        return cls(np.array(rows), truth, np.array([each is not None for each in given]) & (truth != MISSING))

    @property
    def confidence(self) -> Floats:
        """Probability of the likeliest outcome [n]."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def likeliest(self) -> Codes:
        """The likeliest outcome; a tie where two share the highest probability [n]."""
        highest = self.probabilities == self.confidence[:, None]
        return np.where(highest.sum(axis=1) == 1, highest.argmax(axis=1), OUTCOMES.index(Outcome.TIE))

    @property
    def right(self) -> Floats:
        """1 where the likeliest outcome is the truth [n]."""
        return np.asarray(self.likeliest == self.truth, dtype=np.float64)

    @property
    def bins(self) -> Floats:
        """Which bin a sample is in, as zeros and ones; in none where it is not known [n, BINS]."""
        places = np.minimum((self.confidence * BINS).astype(np.int64), BINS - 1)
        return np.asarray((places[:, None] == np.arange(BINS)) & self.known[:, None], dtype=np.float64)


def brier(given: Confidences) -> Statistic:
    """Mean of the sum over outcomes of (probability - 1 if true else 0) squared: 0 to 2 (Brier 1950)."""
    true = given.truth[:, None] == np.arange(len(OUTCOMES))
    return quotient(((given.probabilities - true) ** 2).sum(axis=1) * given.known, given.known, (0, 2))


def calibration_error(given: Confidences) -> Statistic:
    """Expected calibration error (Guo et al. 2017): confidence in the likeliest outcome against how often it is right,
    in equal bins, weighted by samples.
    """
    gaps = given.bins * (given.confidence - given.right)[:, None]

    def formula(sums: Floats) -> Floats:
        return np.asarray(np.abs(sums[..., :BINS]).sum(axis=-1) / sums[..., BINS])

    columns = np.concatenate([gaps, given.known[:, None]], axis=1)
    return Statistic(columns, formula, int(given.known.sum()), biased=True)


def reliability(given: Confidences) -> list[Record]:
    """Mean confidence and share of right outcomes in each bin that holds samples; none without probabilities."""
    bins = given.bins
    counts = bins.sum(axis=0)
    confidence, right = (column @ bins for column in (given.confidence, given.right))
    return [
        {
            "low": place / BINS,
            "high": (place + 1) / BINS,
            "confidence": float(confidence[place] / counts[place]),
            "right": float(right[place] / counts[place]),
            "count": int(counts[place]),
        }
        for place in np.flatnonzero(counts).tolist()
    ]
