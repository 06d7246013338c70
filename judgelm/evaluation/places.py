"""Judgements of many answers, task multi: their mean scores, what a place is worth, and whether the orders agree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from judgelm.criteria import READABLE
from judgelm.dialogue import shown_question
from judgelm.documents import AnyText, Document, Section
from judgelm.errors import InputError, one_line
from judgelm.evaluation.images import labelled
from judgelm.evaluation.metrics.intervals import RESAMPLES, Estimate, Span, Statistic, estimates, quotient
from judgelm.evaluation.readings import read_scale
from judgelm.evaluation.results import model_name
from judgelm.evaluation.summary import Rate
from judgelm.jsonl import Line, index_by_id, read_lines, require
from judgelm.judgement import MAX_SCORE
from judgelm.sample import MAX_ANSWERS, question_key, unshow, unshow_fields
from judgelm.samples import PathLike

ORDERS = ("forward", "reversed", *(f"rotated{steps}" for steps in range(1, MAX_ANSWERS)))
_Scores = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ManyAnswers:
    """A question with its answers, and what was said of them in the orders that were judged."""

    question: str
    models: tuple[str, ...]
    """of the answers, in the file's order; "answer 2" where none is named"""
    shown: Mapping[str, _Scores | None]
    """order -> scores in the places that were shown, None where they could not be read"""

    @property
    def scores(self) -> dict[str, _Scores]:
        """Those that were read, in the file's order of answers."""
        return {order: unshow(scores, order) for order, scores in self.shown.items() if scores is not None}

    @property
    def rotated(self) -> list[_Scores]:
        """Scores in the places that were shown, where each answer was read in each place; else nothing."""
        found = [scores for order, scores in self.shown.items() if order != "reversed" and scores is not None]
        return found if len(found) == len(self.models) else []

    @property
    def is_consistent(self) -> bool:
        """All orders were read, and find the same answers best."""
        scores = self.scores
        best = {tuple(k for k, score in enumerate(each) if score == max(each)) for each in scores.values()}
        return len(scores) == len(self.shown) and len(best) == 1


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


def read_many(folder: PathLike) -> list[ManyAnswers]:
    """What `judgelm judge --task multi` wrote, joined by question_id. Raises InputError for other files."""
    return list(index_many(folder).values())


def index_many(folder: PathLike) -> dict[str, ManyAnswers]:
    """The same by the samples' keys."""
    paths = {order: Path(folder).expanduser() / f"{order}.jsonl" for order in ORDERS}
    lines = {order: index_by_id(read_lines(path, finite=False)) for order, path in paths.items() if path.exists()}
    keys = dict.fromkeys(key for by_id in lines.values() for key in by_id)
    return {key: _join({order: by_id[key] for order, by_id in lines.items() if key in by_id}) for key in keys}


def summarize_many(samples: Sequence[ManyAnswers], resamples: int = RESAMPLES, seed: int = 0) -> ManySummary:
    """All numbers of them, with intervals drawn over questions; raises ValueError for no sample."""
    if not samples:
        raise ValueError("there is no sample to summarize")
    span = _span(samples)
    names = dict.fromkeys(name for sample in samples for name in sample.models)
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
    found: dict[Any, Estimate] = estimates(
        {str(key): each for key, each in statistics.items() if each.count},
        [question_key(sample.question) for sample in samples],
        resamples,
        seed,
    )
    said = {key: Rate.of(found[str(key)]) for key in statistics if str(key) in found}
    answers = [AnswerScore(name=name, score=said["answer", name]) for name in names if ("answer", name) in said]
    return ManySummary(
        samples=len(samples),
        questions=len({question_key(sample.question) for sample in samples}),
        orders={order: count for order in ORDERS if (count := sum(order in sample.shown for sample in samples))},
        unparsed=said["unparsed", ""],
        consistency=said.get(("consistency", "")),
        answers=sorted(answers, key=lambda each: -(each.score.value or 0)),
        places=[
            Place(place=place + 1, score=found[str(("place", place))].value, bias=said["bias", place])
            for place in places
        ]
        or None,
    )


def _join(lines: Mapping[str, Line]) -> ManyAnswers:
    shown = {order: _read_scores(line, order) for order, line in lines.items()}
    order, line = next(iter(lines.items()))
    counts = {len(scores) for scores in shown.values() if scores is not None} or {_count_answers(line)}
    if len(counts) > 1:
        raise InputError(f"{line.where}: expected scores of as many answers in each order, found {sorted(counts)}")
    (count,) = counts
    record = labelled(unshow_fields(line.record, order, count))
    named = [model_name(record.get(f"answer{k}_model_id")) or f"answer {k}" for k in range(1, count + 1)]
    return ManyAnswers(shown_question(record, count), tuple(named), shown)


def _count_answers(line: Line) -> int:
    count = 0
    while f"answer{count + 1}_body" in line.record:
        count += 1
    return count


def _read_scores(line: Line, order: str) -> _Scores | None:
    """Expected ones where there are."""
    found = line.record.get("pred_order", "forward")
    if found != order:
        raise InputError(f"{line.where}: expected a {order} judgement, found a {one_line(str(found))} one")
    if require(line, "pred_task", str) != "multi":
        raise InputError(f"{line.where}: expected a judgement of task multi, found {line.record['pred_task']!r}")
    field = "pred_scores" if line.record.get("pred_expected_scores") is None else "pred_expected_scores"
    if require(line, field) is None:
        return None
    scores, most = require(line, field, list), (read_scale(line) or READABLE).most
    for score in scores:
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= most * (1 + 1e-6):
            said = one_line(repr(score))[:60]
            raise InputError(f"{line.where}: field {field!r} must hold numbers from 0 to {most:g}, found {said}")
    return tuple(map(float, scores))


def _span(samples: Sequence[ManyAnswers]) -> Span:
    """What scores lie within: 0 to 10, or where a scale is longer as far as there are."""
    most = max((score for sample in samples for each in sample.scores.values() for score in each), default=0.0)
    return 0.0, max(MAX_SCORE, most)


def _mean_score(samples: Sequence[ManyAnswers], name: str, span: Span) -> Statistic:
    """Of each sample the mean over its orders, and over its answers of that name."""
    means = []
    for sample in samples:
        own = [k for k, model in enumerate(sample.models) if model == name]
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
