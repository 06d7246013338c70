"""People's labels of a part of the samples, a judge's verdicts on all -> a rate that both correct, and how sure it is.

Two ways, both in closed form. Prediction-powered inference (Angelopoulos, Bates, Fannjiang, Jordan and Zrnic, Science
382, 2023) with the weight of PPI++ (Angelopoulos, Duchi and Zrnic, arXiv 2311.01453, 2023): what people say, moved by
as much as the judge finds the samples without labels different. And Rogan and Gladen's estimator (American Journal of
Epidemiology 107, 1978): what the judge says, taken back through the matrix of what it says where people say win, tie or
lose. Both hold where the labelled part is drawn at random, whatever the judge is worth.

Variances are sums over questions of squares, as samples of one question are not independent, with the correction
k / (k - 1) and t quantiles of k - 1 degrees of freedom for k questions with labels; k - 2 where a weight was found from
them, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from judgelm.evaluation.metrics.agreement import MISSING, OUTCOMES, Codes
from judgelm.evaluation.metrics.intervals import (
    DEVIATIONS,
    LEVEL,
    SHARE,
    Estimate,
    Floats,
    Mask,
    Span,
    cluster_indices,
    constant_interval,
    share_interval,
)

FEW = 10
"""questions with labels, below which nothing is corrected"""
POINTS = np.array([1.0, 0.5, 0.0])
"""what a win, a tie and a loss are worth: by the places in `OUTCOMES`"""
_SINGULAR = 1e6
"""condition of a matrix from which on its inverse is rounding"""


@dataclass(frozen=True, slots=True)
class Part:
    """Of n samples, those that people were asked about, and which question each is of."""

    asked: Mask
    """[n]"""
    questions: NDArray[np.int64]
    """[n], numbers from 0"""

    @classmethod
    def of(cls, asked: Mask, clusters: Sequence[str]) -> Part:
        """`clusters` [n] as `JudgedSample.cluster`."""
        return cls(asked, cluster_indices(clusters)[0])

    def among(self, samples: Mask) -> Part:
        """Of some samples [n] alone."""
        return Part(self.asked[samples], self.questions[samples])

    @property
    def labels(self) -> int:
        """How many samples people were asked about."""
        return int(self.asked.sum())

    def questions_of(self, samples: Mask) -> int:
        """How many questions some samples [n] are of."""
        return len(np.unique(self.questions[samples]))

    def sums(self, values: Floats) -> Floats:
        """By question: [n] -> [q]."""
        return np.bincount(self.questions, weights=values).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Corrected:
    """A number, and what each sample has to do with it."""

    value: float
    influence: Floats
    """[n]: the number moves by their sum; over questions they are independent, with mean 0"""
    of_labels: Floats
    """[n], as much of that as comes from labels"""
    part: Part
    given: Mask
    """[n], samples with a label, of those that people were asked about"""
    weight: float = 0.0
    """of the judge, from 0, which leaves people alone, to 1"""
    unit: float = 1.0
    """by how much a label differs from the judge where it does"""
    spent: int = 1
    """degrees of freedom: 1 for the mean, 1 for a weight that was found"""

    @property
    def labels(self) -> int:
        """How many samples have one."""
        return int(self.given.sum())

    @property
    def questions(self) -> int:
        """How many have labels."""
        return self.part.questions_of(self.given)

    @property
    def degrees(self) -> int:
        """Of freedom: questions with labels, less what was found from them."""
        return self.questions - self.spent

    @property
    def variance(self) -> float:
        """Summed over questions. Infinite for labels of too few.

        Where people and judge hardly ever differ there is nothing to see a variance in: it is at least that of one
        label that differs by a unit.
        """
        if self.degrees < 1:
            return math.inf
        seen, all_ = (self.part.sums(each) for each in (self.of_labels, self.influence))
        unseen = max(0.0, (self.unit / self.labels) ** 2 - float(seen @ seen))
        return float(all_ @ all_) * self.questions / self.degrees + unseen

    def estimate(self, span: Span, count: int) -> Estimate:
        """With its 95 % interval, all within `span`; `count` samples are what it is said of.

        Of shares Wilson's, for as many samples as have this variance, else Student's. Where all labels are the same,
        `constant_interval`.
        """
        value = float(np.clip(self.value, *span))
        if not self.influence.any():
            return Estimate(value, *constant_interval(value, self.questions, span), count)
        return Estimate(value, *self._interval(span), count)

    @property
    def half(self) -> float:
        """Of Student's interval, the half; infinite where there is none."""
        from scipy.stats import t

        variance = self.variance
        if math.isinf(variance):
            return variance
        return float(t.ppf((1 + LEVEL) / 2, self.degrees)) * math.sqrt(variance)

    def _interval(self, span: Span) -> tuple[float | None, float | None]:
        half = self.half
        if math.isinf(half):
            return None, None
        if span == SHARE and 0 < self.value < 1:
            return share_interval(self.value, self.value * (1 - self.value) * (DEVIATIONS / half) ** 2)
        low, high = np.clip([self.value - half, self.value + half], *span).tolist()
        return low, high


def power(people: Floats, judge: Floats, part: Part, weight: float | None = None, unit: float = 1.0) -> Corrected:
    """The mean of what people say, moved by what a judge says of the samples that they were not asked about (PPI++).

    Args:
        people: [n], NaN where there is no label; of samples that were asked about in vain, too.
        judge: [n], any prediction of it that all samples have; the nearer, the narrower the interval.
        part: which samples people were asked about.
        weight: of the judge; without it the one with the least variance, from 0 to 1, as ppi-python tunes it.
        unit: by how much a label differs from the judge where it does.

    Raises ValueError where there is no label.
    """
    asked, given = part.asked, part.asked & ~np.isnan(people)
    if not given.any():
        raise ValueError("there is no label")
    count, others = part.labels, len(asked) - part.labels
    mean = float(people[given].mean())
    own = np.where(given, people - mean, 0.0) / given.sum()
    if not others:
        return Corrected(mean, own, own, part, given, 0.0, unit)
    with_labels, without = float(judge[asked].mean()), float(judge[~asked].mean())
    control = np.where(asked, (judge - with_labels) / count, (without - judge) / others)
    spent = 1
    if weight is None:
        variance = float(judge.var(ddof=1)) * (1 / count + 1 / others)
        weight = float(np.clip(own @ control / variance, 0, 1)) if variance else 0.0
        spent += weight > 0
    influence = own - weight * control
    value = mean - weight * (with_labels - without)
    return Corrected(value, influence, np.where(asked, influence, 0.0), part, given, weight, unit, spent)


def invert_confusion(truth: Codes, said: Codes, worth: Floats, part: Part) -> Corrected | None:
    """Rogan and Gladen's estimate of a mean, its variance by the delta method.

    How often the judge says win, tie and lose of all samples is a mixture of how often it does where people say win,
    tie or lose: the matrix of these, inverted, gives how often people would have said each. Where labels have two of
    the outcomes only, it is inverted in the judge's points, as there are no three columns.

    Args:
        truth: [n], places in `OUTCOMES`, `MISSING` without a label.
        said: [n], places in `OUTCOMES`, of all samples.
        worth: [n], what is averaged, of the samples with a label.
        part: which samples people were asked about.

    None where it is not defined: all labels are the same, or the matrix has no inverse.
    """
    given = part.asked & (truth != MISSING)
    classes = np.unique(truth[given])
    if len(classes) < 2:
        return None
    ones = np.ones(len(said))
    shown = np.eye(len(OUTCOMES))[said] if len(classes) == 3 else np.stack([ones, POINTS[said]], axis=1)
    members = [given & (truth == each) for each in classes]
    matrix = np.stack([shown[each].mean(axis=0) for each in members], axis=1)
    if np.linalg.cond(matrix) > _SINGULAR:
        return None
    gained = np.array([worth[each].mean() for each in members])
    # of all samples that people can tell of: those asked in vain are taken out by what is said of them
    sets = ((np.ones_like(given), 1.0), (given, 1.0), (part.asked, -1.0))
    means = [shown[each].mean(axis=0) for each, _ in sets]
    mixture = np.sum([sign * mean for mean, (_, sign) in zip(means, sets, strict=True)], axis=0)
    shares = np.linalg.solve(matrix, mixture)
    slope = np.linalg.solve(matrix.T, gained)
    whole, *labels = (
        np.where(each, sign * ((shown - mean) @ slope) / each.sum(), 0.0)
        for mean, (each, sign) in zip(means, sets, strict=True)
    )
    of_labels = np.sum(labels, axis=0)
    for share, gain, column, each in zip(shares, gained, matrix.T, members, strict=True):
        of_labels[each] += share * (worth[each] - gain - (shown[each] - column) @ slope) / each.sum()
    return Corrected(float(gained @ shares), whole + of_labels, of_labels, part, given, 1.0)


def invert_line(people: Floats, judge: Floats, part: Part, unit: float = 1.0) -> Corrected | None:
    """The same of numbers such as grades: the line of what the judge gives for what people give, inverted.

    people [n], NaN without a label; judge [n]. None where people give the same to all, or the line is level.
    """
    given = part.asked & ~np.isnan(people)
    mean, own_mean = float(people[given].mean()), float(judge[given].mean())
    apart = np.where(given, people - mean, 0.0)
    square = float(apart @ apart)
    slope = float(apart @ judge) / square if square else 0.0
    if abs(slope) * _SINGULAR < 1:
        return None
    asked, count = part.asked, len(judge)
    moved = (float(judge.mean()) - float(judge[asked].mean())) / slope
    whole = (judge - judge.mean()) / (slope * count)
    bent = np.where(given, judge - own_mean - slope * apart, 0.0) * apart / square
    of_labels = apart / given.sum() - moved / slope * bent
    of_labels -= np.where(asked, (judge - judge[asked].mean()) / (slope * part.labels), 0.0)
    return Corrected(mean + moved, whole + of_labels, of_labels, part, given, 1.0, unit)


def difference(first: Corrected, second: Corrected, first_of: Mask, second_of: Mask, part: Part) -> Corrected:
    """first - second, each of some of the samples [n] of `part`; what the same questions do to both cancels out."""
    influence, of_labels, given = np.zeros(len(part.asked)), np.zeros(len(part.asked)), np.zeros_like(part.asked)
    for one, samples, sign in ((first, first_of, 1), (second, second_of, -1)):
        influence[samples] += sign * one.influence
        of_labels[samples] += sign * one.of_labels
        given[samples] |= one.given
    both = first_of | second_of
    return Corrected(
        first.value - second.value,
        influence[both],
        of_labels[both],
        part.among(both),
        given[both],
        (first.weight + second.weight) / 2,
        max(first.unit, second.unit),
        max(first.spent, second.spent),
    )


def worth_in_labels(people: Corrected, powered: Corrected) -> int:
    """How many more labels would make people alone as sure as they are with the judge: the effective sample size less
    the labels that there are, 0 or more.
    """
    return max(0, round(people.labels * (people.variance / powered.variance - 1)))


def more_labels(people: Corrected, powered: Corrected, even: float) -> int | None:
    """How many labels more would tell the corrected number from `even`, at this value and with this judge.

    With n labels of T samples its variance is V (1 - r) / n + V r / T, where V is that of one label and r the share of
    it that the judge explains. None where labels on all T samples would not do.
    """
    labels, asked, total = people.labels, people.part.labels, len(people.part.asked)
    if total == asked:
        return None
    one = people.variance * labels
    explained = np.clip((1 - powered.variance / people.variance) * total / (total - asked), 0, 1)
    room = ((powered.value - even) / DEVIATIONS) ** 2 - one * explained / total
    if room <= 0:
        return None
    enough = math.floor(one * (1 - explained) / room) + 1
    return max(1, enough - labels) if enough <= total else None
