"""What each check of an audit measures: judgements -> an effect a sample; pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from judgelm.audit.perturbations import changed_place, probe_id
from judgelm.audit.probes import PLAIN, RIGHT_REFERENCE, Source
from judgelm.distribution import certain
from judgelm.evaluation.results import JudgedSample, Truth
from judgelm.judgement import Outcome
from judgelm.verdict import Reading

Effects = list[tuple[str, float]]
"""key of each sample that can show the effect, and its effect, -1 to 1; NaN where a judgement could not be read"""
_UNREAD = float("nan")


@dataclass(frozen=True, slots=True)
class Evidence:
    """All judgements of an audit."""

    sources: Sequence[Source]
    judged: Mapping[str, JudgedSample]
    """by `probe_id`"""
    again: Sequence[Mapping[str, JudgedSample]] = ()
    """the plain ones, drawn with different seeds and temperatures"""

    def find(self, probe: str) -> Iterator[tuple[Source, JudgedSample]]:
        """The rows of which there is this probe."""
        for source in self.sources:
            judged = self.judged.get(probe_id(probe, source.key))
            if judged is not None:
                yield source, judged


def position(evidence: Evidence) -> Effects:
    """How much more often the answer shown first is preferred than the one shown second, over both orders.

    Reversed judgements speak of the answers in the file's order: there answer 2 was shown first.
    """
    return [
        (source.key, _lead(_mean([preference(judged.forward, 1), preference(judged.reversed, 2)])))
        for source, judged in evidence.find(PLAIN)
    ]


def inconsistency(evidence: Evidence) -> Effects:
    """Whether the two orders have different outcomes."""
    return [
        (source.key, _UNREAD if judged.consistent is None else float(not judged.consistent))
        for source, judged in evidence.find(PLAIN)
    ]


def beside_itself(evidence: Evidence, *, probe: str) -> Effects:
    """How much more often the changed answer is preferred than the same answer unchanged."""
    return [
        (source.key, _lead(mean_preference(judged, changed_place(source.sample))))
        for source, judged in evidence.find(probe)
    ]


def beside_other(evidence: Evidence, *, probe: str) -> Effects:
    """How much more often the changed answer is preferred to the question's other answer than the unchanged one is, in
    the orders in which the changed one was judged.
    """
    found: Effects = []
    for source, judged in evidence.find(probe):
        place, plain = changed_place(source.sample), evidence.judged[probe_id(PLAIN, source.key)]
        orders = [(judged.forward, plain.forward), (judged.reversed, plain.reversed)]
        gains = [preference(new, place) - preference(old, place) for new, old in orders if new is not None]
        found.append((source.key, _mean(gains)))
    return found


def longer(evidence: Evidence) -> Effects:
    """How much more often the longer answer (in characters) is preferred than the truth prefers it."""
    found: Effects = []
    for source, judged in evidence.find(PLAIN):
        first, second = map(len, source.sample.answers)
        if source.truth is not None and first != second:
            found.append((source.key, _beyond_truth(judged, source.truth, 1 if first > second else 2)))
    return found


def own(evidence: Evidence) -> Effects:
    """How much more often the judge's own answer is preferred than the truth prefers it."""
    return [
        (source.key, _beyond_truth(judged, source.truth, source.own))
        for source, judged in evidence.find(PLAIN)
        if source.truth is not None and source.own is not None
    ]


def agreement_lost(evidence: Evidence, *, before: str, after: str) -> Effects:
    """By how much the agreement with the truth is lower in one probe than in another."""
    found: Effects = []
    for source, judged in evidence.find(before):
        other = evidence.judged.get(probe_id(after, source.key))
        if other is not None:
            found.append((source.key, _agreement(judged, source, before) - _agreement(other, source, after)))
    return found


def unstable(evidence: Evidence) -> Effects:
    """How often two of the drawn judgements have different outcomes; those that cannot be read are left out."""
    found: Effects = []
    for source in evidence.sources:
        drawn = [each[probe_id(PLAIN, source.key)].forward for each in evidence.again]
        outcomes = [reading.outcome for reading in drawn if reading is not None and reading.outcome is not None]
        found.append((source.key, _mean([one is not other for one, other in itertools.combinations(outcomes, 2)])))
    return found


def preference(reading: Reading | None, place: int) -> float:
    """How often the answer in this place is preferred to the other, 0 to 1, a tie counting half; NaN where it is not
    read. Without scoring `expected` the outcome is sure.
    """
    if reading is not None and reading.probabilities is not None:
        return _preferred(reading.probabilities, place)
    return _UNREAD if reading is None or reading.outcome is None else _preferred(certain(reading.outcome), place)


def mean_preference(judged: JudgedSample, place: int) -> float:
    """The mean over the orders judged; NaN if one could not be read."""
    return _mean([preference(reading, place) for reading in judged.readings])


def _preferred(given: Mapping[Outcome, float], place: int) -> float:
    return given[Outcome.WIN if place == 1 else Outcome.LOSE] + given[Outcome.TIE] / 2


def _beyond_truth(judged: JudgedSample, truth: Truth, place: int) -> float:
    return mean_preference(judged, place) - _preferred(certain(truth.outcome), place)


def _agreement(judged: JudgedSample, source: Source, probe: str) -> float:
    """The probability of the true outcome; without scoring `expected` 1 or 0 for the outcome of both orders.

    A teacher who saw the reference may have judged otherwise: that is the truth where the judge sees it too.
    """
    truth = source.truth_with_reference if probe == RIGHT_REFERENCE else source.truth
    if truth is None:
        return _UNREAD
    if judged.probabilities is not None:
        return judged.probabilities[truth.outcome]
    return _UNREAD if judged.outcome is None else float(judged.outcome is truth.outcome)


def _lead(share: float) -> float:
    """How much more often than the other, -1 to 1."""
    return 2 * share - 1


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else _UNREAD
