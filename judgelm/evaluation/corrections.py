"""Judged samples and people's labels of a part of them -> rates of the judge alone, of people alone, and corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from judgelm.documents import AnyText, Section
from judgelm.errors import one_line
from judgelm.evaluation.corrected import (
    FEW,
    Corrected,
    Part,
    invert_confusion,
    invert_line,
    more_labels,
    power,
    worth_in_labels,
)
from judgelm.evaluation.metrics.agreement import Codes
from judgelm.evaluation.metrics.intervals import SHARE, Floats, Mask, Span, quotient
from judgelm.evaluation.rate import Rate, rates_of
from judgelm.evaluation.shift import SURE, Shift, Trait, find_shifts

ROUGH = 20
"""questions with labels, below which intervals are rough"""
MOST_LISTED = 5
"""names in a note"""


class CorrectedRate(Section):
    """One number, said four ways; shares are from 0 to 1."""

    name: AnyText
    judge: Rate | None = None
    """of the judge alone, over all samples; null where it says nothing of it"""
    people: Rate | None = None
    """of the labels alone; null where there are none"""
    corrected: Rate | None = None
    """prediction-powered: of people, moved by what the judge says of the others; null with too few labels"""
    weight: float | None = None
    """of the judge in that, from 0, people alone, to 1"""
    inverted: Rate | None = None
    """Rogan and Gladen's: the judge's, taken back through its confusion matrix; null where that is not defined"""
    labels: int
    """samples with a label"""
    worth: int | None = None
    """how many more labels would make people alone as sure as people and judge are"""


class CorrectedPair(CorrectedRate):
    """Two models against each other: the first one's win rate, or of grades its mean less the other's."""

    first: AnyText
    second: AnyText
    told_apart: bool
    """the corrected interval leaves out what is even"""
    more_labels: int | None
    """until they are told apart, at this rate; null where labels on all of these samples would not do"""


class Corrections(Section):
    """What people's labels of a part of the samples make of a judge's rates."""

    samples: int
    labels: int
    """samples with a label"""
    untold: int
    """samples of which the labels' file says null"""
    labelled_questions: int
    """different ones, of the samples with a label"""
    shares: bool
    """whether rates are shares from 0 to 1, not grades"""
    rates: list[CorrectedRate]
    """agreement and each model's win rate, of grades each model's mean"""
    pairs: list[CorrectedPair]
    """each two models that met"""
    shifts: list[Shift]
    """tests of the labelled part against the others"""
    notes: list[AnyText]
    """what a reader of the rates has to know"""


@dataclass(frozen=True, slots=True)
class Judged:
    """Something that the judge and people say of n samples."""

    people: Floats
    """[n], NaN without a label"""
    judge: Floats
    """[n], NaN where it cannot be read"""
    control: Floats
    """[n], what predicts people's best"""
    truth: Codes | None = None
    """[n], places in `OUTCOMES`; None of numbers"""
    said: Codes | None = None
    span: Span = SHARE
    unit: float = 1.0
    """by how much a label differs from the judge where it does"""

    def inverted(self, part: Part, there: Mask) -> Corrected | None:
        """Of some samples."""
        if self.truth is None or self.said is None:
            return invert_line(self.people[there], self.control[there], part, self.unit)
        return invert_confusion(self.truth[there], self.said[there], self.people[there], part)


def judge_alone(judged: Sequence[Judged], sides: Sequence[Mask], clusters: Sequence[str]) -> list[Rate | None]:
    """Of each the judge's rate over some samples [n], those that can be read; None where none can."""
    read = [there & ~np.isnan(each.judge) for each, there in zip(judged, sides, strict=True)]
    statistics = {
        place: quotient(np.where(there, each.judge, 0.0), there, each.span)
        for place, (each, there) in enumerate(zip(judged, read, strict=True))
    }
    found = rates_of(statistics, clusters)
    return [found.get(place) for place in statistics]


class Parts(NamedTuple):
    """What a corrected rate is made of; None with too few labels, and what is not defined."""

    people: Corrected
    powered: Corrected | None = None
    inverted: Corrected | None = None


def correct(
    name: str, judged: Judged, there: Mask, part: Part, judge: Rate | None
) -> tuple[CorrectedRate, Parts | None]:
    """One rate of some samples [n] of the part, and what it is made of; None where none of them has a label."""
    among, people, control = part.among(there), judged.people[there], judged.control[there]
    known = among.asked & ~np.isnan(people)
    if not known.any():
        return CorrectedRate(name=name, judge=judge, labels=0), None
    alone = power(people, control, among, 0.0, judged.unit)
    if alone.questions < FEW:
        parts = Parts(alone)
    else:
        powered = power(people, control, among, None, judged.unit)
        parts = Parts(alone, powered, judged.inverted(among, there))
    return say(name, parts, judged.span, judge, int(known.sum())), parts


def say(name: str, parts: Parts, span: Span, judge: Rate | None, labels: int) -> CorrectedRate:
    """All four numbers with their intervals. What Rogan and Gladen's interval leaves wholly open is not said."""
    alone, powered, inverted = parts
    total = len(alone.part.asked)
    if inverted is not None and inverted.half >= (span[1] - span[0]) / 2:
        inverted = None
    return CorrectedRate(
        name=name,
        judge=judge,
        people=Rate.of(alone.estimate(span, labels)),
        corrected=None if powered is None else Rate.of(powered.estimate(span, total)),
        weight=None if powered is None else powered.weight,
        inverted=None if inverted is None else Rate.of(inverted.estimate(span, total)),
        labels=labels,
        worth=None if powered is None else worth_in_labels(alone, powered),
    )


def compare(first: str, second: str, rate: CorrectedRate, parts: Parts | None, even: float) -> CorrectedPair:
    """Whether a rate tells two models apart, and what it would take."""
    low, high = (None, None) if rate.corrected is None else (rate.corrected.low, rate.corrected.high)
    apart = low is not None and high is not None and not low <= even <= high
    more = 0 if apart else None
    if not apart and parts is not None and parts.powered is not None:
        more = more_labels(parts.people, parts.powered, even)
    return CorrectedPair(**dict(rate), first=first, second=second, told_apart=apart, more_labels=more)


def describe(
    part: Part, judged: Judged, rates: Sequence[CorrectedRate], pairs: Sequence[CorrectedPair], traits: Sequence[Trait]
) -> Corrections:
    """All that is said, with what a reader has to know; `judged` is one of the rates of all samples."""
    known = part.asked & ~np.isnan(judged.people)
    shifts, labels, questions = find_shifts(part, traits), int(known.sum()), part.questions_of(known)
    return Corrections(
        samples=len(part.asked),
        labels=labels,
        untold=part.labels - labels,
        labelled_questions=questions,
        shares=judged.truth is not None,
        rates=list(rates),
        pairs=list(pairs),
        shifts=shifts,
        notes=[*_warn(shifts), *_notes(part, questions, part.labels - labels), *_left_open([*rates, *pairs])],
    )


def _warn(shifts: Sequence[Shift]) -> list[str]:
    return [
        f"the labelled part is not random: {shift.found} (p = {shift.adjusted:.2g}, Holm's for {len(shifts)} tests)."
        " What is corrected holds for samples like those with labels, not for all that were judged"
        for shift in shifts
        if shift.adjusted < SURE
    ]


def _notes(part: Part, questions: int, untold: int) -> list[str]:
    notes = []
    if untold:
        notes.append(f"{untold} labels are null: what is said holds for samples of which people can tell")
    if questions < FEW:
        notes.append(f"there are labels of {questions} questions: with fewer than {FEW} nothing is corrected")
    elif questions < ROUGH:
        notes.append(f"there are labels of {questions} questions only: too few for intervals to be relied on")
    if part.labels == len(part.asked):
        notes.append("all samples have labels: people alone say what is right, and there is nothing to correct")
    return notes


def _left_open(rates: Sequence[CorrectedRate]) -> list[str]:
    """What some rates do not have, in a line each."""
    few = [rate.name for rate in rates if rate.corrected is None]
    undefined = [rate.name for rate in rates if rate.corrected is not None and rate.inverted is None]
    notes = []
    if few and len(few) < len(rates):
        notes.append(f"labels of fewer than {FEW} questions, not corrected: {_listed(few)}")
    if undefined:
        notes.append(
            f"Rogan-Gladen is not defined where all labels are the same, or where what the judge says hardly depends on"
            f" what people say: {_listed(undefined)}"
        )
    return notes


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return one_line("; ".join(names[:MOST_LISTED])) + more
