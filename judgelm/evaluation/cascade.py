"""A cheap judge first, a stronger one where it is unsure: agreement with people against the share that is sent on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from judgelm.documents import AnyText, Document, Section
from judgelm.errors import InputError
from judgelm.evaluation.jury import drawn
from judgelm.evaluation.metrics.agreement import MISSING, Codes, encode
from judgelm.evaluation.metrics.intervals import Floats, Mask, Statistic, quotient
from judgelm.evaluation.rate import Rate, rates_of
from judgelm.evaluation.readings import is_number
from judgelm.evaluation.results import JudgedSample
from judgelm.judgement import Outcome

THRESHOLDS = tuple(round(0.5 + step / 100, 2) for step in range(51))
"""from which one is chosen"""
CURVE = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0)
"""that are reported"""
WITHIN = 0.01
"""by how much a chosen cascade may agree less than the second judge alone"""
_DIFFERENCE = (-1.0, 1.0)


class CascadePoint(Section):
    """A cascade with one threshold, on labelled samples."""

    sure: float
    """samples of which the first judge is less sure are sent on"""
    sent: Rate
    """share of samples that are sent to the second judge: the cost"""
    agreement: Rate
    """how often the cascade's verdict is the truth"""
    to_second: Rate
    """agreement less that of the second judge alone, from -1 to 1, on the same samples"""


class Cascade(Document):
    """Two judges one after the other; shares are from 0 to 1, and a judgement without scores agrees with nothing."""

    what = "the description of a cascade"

    first: AnyText
    second: AnyText
    """names of the judges"""
    samples: int
    labelled: int
    """samples with a truth"""
    contradicting: int
    """samples of which the first judge contradicts itself once the answers are exchanged, or has no scores: all of them
    are sent on"""
    sure: float
    """the threshold"""
    sent: int
    """samples that are sent on"""
    chosen_on: int | None = None
    """labelled samples on which the threshold was chosen; null: it was given"""
    reported_on: int | None = None
    """labelled samples of which all that follows is: where the threshold was chosen, those of the other half of the
    questions; null without labels"""
    point: CascadePoint | None = None
    """with this threshold"""
    first_alone: Rate | None = None
    """its agreement with the truth"""
    second_alone: Rate | None = None
    curve: list[CascadePoint] | None = None
    """by threshold"""


@dataclass(frozen=True)
class Pairs:
    """The verdicts of both judges as arrays [n]; outcomes are places in `OUTCOMES`, or `MISSING`."""

    clusters: Sequence[str]
    truth: Codes
    first: Codes
    second: Codes
    sureness: Floats
    """of the first judge"""

    @classmethod
    def of(
        cls, first: Sequence[JudgedSample], second: Sequence[JudgedSample | None], truths: Sequence[Outcome | None]
    ) -> Pairs:
        """Of the same samples in the same order; None: the second was not asked. Raises InputError where the first
        judge has no probabilities.
        """
        if all(sample.probabilities is None for sample in first):
            raise InputError("the first judge has no probabilities (judgelm judge --scoring expected writes them)")
        return cls(
            [sample.cluster for sample in first],
            encode(truths, MISSING),
            encode([sample.outcome for sample in first], MISSING),
            encode([None if sample is None else sample.outcome for sample in second], MISSING),
            np.array([sureness(sample) for sample in first]),
        )

    def only(self, samples: Mask) -> Pairs:
        """Some of them."""
        truth, first, second = (each[samples] for each in (self.truth, self.first, self.second))
        return Pairs(list(compress(self.clusters, samples)), truth, first, second, self.sureness[samples])

    @property
    def labelled(self) -> Mask:
        return np.asarray(self.truth != MISSING)

    def sent(self, sure: float) -> Mask:
        """Which samples go to the second judge."""
        return np.asarray(self.sureness < sure)

    def right(self, sure: float) -> Floats:
        """1 where the cascade's verdict is the truth, else 0."""
        said = np.where(self.sent(sure), self.second, self.first)
        return np.asarray((said == self.truth) & self.labelled, dtype=np.float64)


def sureness(sample: JudgedSample) -> float:
    """The probability of a judge's verdict, the mean of the orders judged; 0 where it contradicts itself under the swap
    or has no scores, so that any threshold sends the sample on.
    """
    given = sample.probabilities
    read = all(reading.scores is not None for reading in sample.readings)
    return 0.0 if given is None or not read or sample.consistent is False else max(given.values())


def check_sure(sure: float) -> float:
    """Raises InputError for what is no threshold."""
    if not is_number(sure) or not 0.5 <= sure <= 1:
        raise InputError(f"sure {sure!r}: expected a number from 0.5 to 1, or auto")
    return float(sure)


def choose_sure(pairs: Pairs) -> float:
    """The lowest of `THRESHOLDS`, the cheapest, with which the cascade agrees with people as often as the second judge
    alone, up to `WITHIN`; 1 where none does.
    """
    least = float(((pairs.second == pairs.truth) & pairs.labelled).sum())
    slack = WITHIN * float(pairs.labelled.sum()) + 1e-9
    return next((sure for sure in THRESHOLDS if pairs.right(sure).sum() >= least - slack), THRESHOLDS[-1])


def halves(pairs: Pairs) -> tuple[Mask, Mask]:
    """The labelled samples, all of one question in the same half. Raises InputError for fewer than two questions."""
    known = set(compress(pairs.clusters, pairs.labelled))
    if len(known) < 2:
        raise InputError(f"sure auto needs labels of two questions or more, found {len(known)}")
    first = set(sorted(known, key=drawn)[: len(known) // 2])
    chosen = np.array([cluster in first for cluster in pairs.clusters])
    return chosen & pairs.labelled, ~chosen & pairs.labelled


def measure_cascade(pairs: Pairs, names: tuple[str, str], sure: float | None = None) -> Cascade:
    """A cascade with the threshold `sure`, of all labelled samples; without, with one that is chosen on one half of the
    labelled questions and reported on the other.

    Intervals of 95 % draw whole questions. Raises InputError for what is no threshold, and where labels are too few.
    """
    chosen_on, reported = None, pairs.labelled
    if sure is None:
        on, reported = halves(pairs)
        sure, chosen_on = choose_sure(pairs.only(on)), int(on.sum())
    sure = check_sure(sure)
    described = Cascade(
        first=names[0],
        second=names[1],
        samples=len(pairs.truth),
        labelled=int(pairs.labelled.sum()),
        contradicting=int((pairs.sureness == 0).sum()),
        sure=sure,
        sent=int(pairs.sent(sure).sum()),
    )
    if not reported.any():
        return described
    there = pairs.only(reported)
    alone = {"first_alone": there.first, "second_alone": there.second}
    agreements = {name: quotient(said == there.truth, np.ones(len(said))) for name, said in alone.items()}
    return described.model_copy(
        update={
            "chosen_on": chosen_on,
            "reported_on": int(reported.sum()),
            "point": measure_points(there, [sure])[0],
            **rates_of(agreements, there.clusters),
            "curve": measure_points(there, CURVE),
        }
    )


def measure_points(pairs: Pairs, thresholds: Sequence[float]) -> list[CascadePoint]:
    """Cost and agreement by threshold, of labelled samples, all from the same draws."""
    everyone = np.ones(len(pairs.truth))
    second = (pairs.second == pairs.truth).astype(np.float64)
    statistics: dict[tuple[float, str], Statistic] = {}
    for sure in thresholds:
        right = pairs.right(sure)
        statistics |= {
            (sure, "sent"): quotient(pairs.sent(sure), everyone),
            (sure, "agreement"): quotient(right, everyone),
            (sure, "to_second"): quotient(right - second, everyone, _DIFFERENCE),
        }
    found = rates_of(statistics, pairs.clusters)
    names = ("sent", "agreement", "to_second")
    return [CascadePoint(sure=sure, **{name: found[sure, name] for name in names}) for sure in thresholds]
