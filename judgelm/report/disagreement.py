"""How far a judge is from the truth on a sample, or from itself under swap: which samples to read first."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from judgelm.evaluation.results import JudgedSample
from judgelm.judgement import Outcome
from judgelm.verdict import Reading

MOST_SAMPLES = 200
KINDS = {
    "wrong": "another outcome than the truth",
    "flipped": "outcome does not survive the swap",
    "unread": "a judgement without scores",
}
"""what can be odd about a judged sample"""


def margin(reading: Reading) -> float | None:
    """Points by which answer 1 leads, by expected scores where there are some; None without scores."""
    return None if reading.points is None else reading.points[0] - reading.points[1]


def distance(sample: JudgedSample) -> float:
    """Points between the judge's lead, mean of its orders, and the truth's.

    A truth without scores counts the points on the wrong side; without a truth it is the points between both orders.
    A judgement without scores leads by 0.
    """
    leads = [margin(reading) or 0.0 for reading in sample.readings]
    if sample.truth is None:
        return max(leads) - min(leads)
    lead = sum(leads) / len(leads)
    if sample.truth.scores is not None:
        return abs(lead - (sample.truth.scores[0] - sample.truth.scores[1]))
    if sample.truth.outcome is Outcome.TIE:
        return abs(lead)
    return max(0.0, -sample.truth.outcome.sign * lead)


def kinds(sample: JudgedSample) -> list[str]:
    """Which of `KINDS` apply."""
    read = all(reading.scores is not None for reading in sample.readings)
    wrong = read and sample.truth is not None and sample.outcome_by("agree") is not sample.truth.outcome
    found = {"wrong": wrong, "flipped": sample.consistent is False, "unread": not read}
    return [name for name, applies in found.items() if applies]


def largest(samples: Sequence[JudgedSample], most: int) -> list[JudgedSample]:
    """The `most` samples with the largest distance, those that are odd first where it is the same."""
    return heapq.nlargest(most, samples, key=lambda sample: (distance(sample), len(kinds(sample))))
