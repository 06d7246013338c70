"""Judgements of many answers, task multi: their mean scores, what a place is worth, and whether the orders agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from judgelm.documents import AnyText, Document, Section
from judgelm.evaluation.many import ORDERS, ManyAnswers
from judgelm.evaluation.metrics.intervals import RESAMPLES, Span, Statistic, quotient
from judgelm.evaluation.rate import Rate, rates_of
from judgelm.judgement import MAX_SCORE


class Place(Section):
    """What it is worth for an answer to be shown in a place."""

    place: int
    """the first is 1"""
    score: float
    """mean of all answers there"""
    bias: Rate
    """that mean less the same answers' mean over all places"""


class AnswerScore(Section):
    """How a model's answers, or all answers of a number, are scored."""

    name: AnyText
    score: Rate
    """mean over the questions, of each the mean of all orders"""


class ManySummary(Document):
    """summary.json of judgements of task multi."""

    what = "a summary of judgelm evaluate, task multi"

    task: Literal["multi"] = "multi"
    """tells it from a summary of pairs"""
    samples: int
    questions: int
    orders: dict[str, int]
    """judgements in each order"""
    unparsed: Rate
    """share of judgements that could not be read"""
    consistency: Rate | None = None
    """share of the samples judged in several orders in which all of these find the same answers best"""
    answers: list[AnswerScore]
    """the best first"""
    places: list[Place] | None = None
    """of the samples in which each answer was read in each place (orders all)"""


def summarize_many(samples: Sequence[ManyAnswers], resamples: int = RESAMPLES, seed: int = 0) -> ManySummary:
    """All numbers of them, with intervals drawn over questions; raises ValueError for no sample."""
    if not samples:
        raise ValueError("there is no sample to summarize")
    span = _span(samples)
    names = dict.fromkeys(name for sample in samples for name in sample.names)
    several = [len(sample.shown) > 1 for sample in samples]
    statistics: dict[tuple[str, Any], Statistic] = {
        ("unparsed", ""): quotient(
            [sum(scores is None for scores in sample.shown.values()) for sample in samples],
            [len(sample.shown) for sample in samples],
        ),
        ("consistency", ""): quotient([sample.is_consistent for sample in samples], several),
        **{("answer", name): _mean_score(samples, name, span) for name in names},
    }
    places = range(max((len(sample.models) for sample in samples if sample.rotated), default=0))
    wide = span[1] - span[0]
    for place in places:
        shown = [_in_place(sample, place) for sample in samples]
        there = [each is not None for each in shown]
        statistics["place", place] = quotient([each[0] if each else 0.0 for each in shown], there, span)
        statistics["bias", place] = quotient([each[1] if each else 0.0 for each in shown], there, (-wide, wide))
    said = rates_of(statistics, [sample.cluster for sample in samples], resamples, seed)
    answers = [AnswerScore(name=name, score=said["answer", name]) for name in names if ("answer", name) in said]
    return ManySummary(
        samples=len(samples),
        questions=len({sample.cluster for sample in samples}),
        orders={order: count for order in ORDERS if (count := sum(order in sample.shown for sample in samples))},
        unparsed=said["unparsed", ""],
        consistency=said.get(("consistency", "")),
        answers=sorted(answers, key=lambda each: -(each.score.value or 0)),
        places=[
            Place(place=place + 1, score=score, bias=said["bias", place])
            for place in places
            if (score := said["place", place].value) is not None
        ]
        or None,
    )


def _span(samples: Sequence[ManyAnswers]) -> Span:
    """What scores lie within: 0 to 10, or where a scale is longer as far as there are."""
    most = max((score for sample in samples for each in sample.scores.values() for score in each), default=0.0)
    return 0.0, max(MAX_SCORE, most)


def _mean_score(samples: Sequence[ManyAnswers], name: str, span: Span) -> Statistic:
    """Of each sample the mean over its orders, and over its answers of that name."""
    means = []
    for sample in samples:
        own = [k for k, model in enumerate(sample.names) if model == name]
        given = [each[k] for each in sample.scores.values() for k in own]
        means.append(math.fsum(given) / len(given) if given else None)
    there = [mean is not None for mean in means]
    return quotient([mean or 0.0 for mean in means], there, span)


def _in_place(sample: ManyAnswers, place: int) -> tuple[float, float] | None:
    """The mean score of all answers in a place, and by how much it is above that of all places."""
    if place >= len(sample.models) or not sample.rotated:
        return None
    table = np.array(sample.rotated)
    mean = float(table[:, place].mean())
    return mean, mean - float(table.mean())
