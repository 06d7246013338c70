"""Graded samples -> the statistics of them: how near the truth grades are, and how they lie without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from judgelm.criteria import READABLE, Scale
from judgelm.evaluation.grades import GradedSample
from judgelm.evaluation.metrics.correlation import pearson, rank_correlations, spread
from judgelm.evaluation.metrics.intervals import Floats, Mask, Statistic, quotient
from judgelm.evaluation.rate import Rate

_NEAR = 1.0
"""point"""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class RatedGrades:
    """The samples as arrays [n], NaN where there is none."""

    clusters: Sequence[str]
    grades: Floats
    truths: Floats
    scale: Scale

    @classmethod
    def of(cls, samples: Sequence[GradedSample]) -> RatedGrades:
        """Raises ValueError for no sample."""
        if not samples:
            raise ValueError("there is no grade to rate")
        columns = [[one.grade for one in samples], [one.truth for one in samples]]
        grades, truths = np.array(columns, dtype=np.float64)
        return cls([one.cluster for one in samples], grades, truths, samples[0].scale or READABLE)

    @property
    def labelled(self) -> Mask:
        return np.asarray(~np.isnan(self.truths))

    @property
    def known(self) -> Mask:
        """Those with a grade and a truth."""
        return np.asarray(self.labelled & ~np.isnan(self.grades))

    @property
    def on_scale(self) -> bool:
        """Whether all truths are from 0 to the scale's most; else they are of another scale, and have no errors."""
        given = self.truths[self.labelled]
        return bool(((given >= 0) & (given <= self.scale.most)).all())

    @property
    def statistics(self) -> dict[str, Statistic]:
        """By the names of `grade_summary.GRADE_RATES`, those without a sample too."""
        least, most = self.scale.least, self.scale.most
        read, known = ~np.isnan(self.grades), self.known
        grades, truths = np.where(read, self.grades, 0), np.where(self.labelled, self.truths, 0)
        apart = np.where(known, grades - truths, 0)
        near = {
            "mae": quotient(np.abs(apart), known, (0, most)),
            "exact": quotient(known & (_whole(grades) == _whole(truths)), known),
            "within_one": quotient(known & (np.abs(apart) <= _NEAR + _ROUNDING), known),
            "bias": quotient(apart, known, (-most, most)),
        }
        ends = (0, most) if self.on_scale else (float(truths.min()), float(truths.max()))
        return {
            "pearson": pearson(grades, truths, known),
            **(near if self.on_scale else {}),
            "mean": quotient(grades, read, (least, most)),
            "mean_truth": quotient(truths, self.labelled, ends),
            "spread": spread(grades, read),
            "unparsed": quotient(~read, np.ones(len(read))),
        }

    @property
    def correlations(self) -> dict[str, Rate]:
        """Rank correlations of grades and truths, to the hundredth."""
        known = self.known
        found = rank_correlations(self.grades[known], self.truths[known], known, self.clusters)
        return {name: Rate.of(each) for name, each in found.items()}


def _whole(scores: Floats) -> Floats:
    """The nearest whole ones, a half going up."""
    return np.asarray(np.floor(scores + 0.5 + _ROUNDING))
