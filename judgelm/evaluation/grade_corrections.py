"""Graded answers and people's grades of a part of them -> mean grades, corrected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, islice

import numpy as np

from judgelm.criteria import READABLE
from judgelm.evaluation.corrected import Corrected, Part, difference
from judgelm.evaluation.corrections import (
    CorrectedPair,
    CorrectedRate,
    Corrections,
    Judged,
    Parts,
    compare,
    correct,
    describe,
    judge_alone,
    say,
)
from judgelm.evaluation.grade_summary import GradeSummary, summarize_grades
from judgelm.evaluation.grades import GradedSample
from judgelm.evaluation.labels import read_grade_labels
from judgelm.evaluation.metrics.intervals import Floats, Mask, Statistic
from judgelm.evaluation.rate import Rate, rates_of
from judgelm.evaluation.shift import Trait, describe_samples
from judgelm.forms import Columns
from judgelm.samples import PathLike

_MOST_PAIRS = 100
"""of models that are compared"""
_Made = tuple[CorrectedRate, Parts | None]


def correct_grades(samples: Sequence[GradedSample], labels: Mapping[str, float | None]) -> Corrections:
    """Mean grades of each model, and how far each two are apart, by judge's grades and by people's of a part of them.

    Where no answer has a model's name the mean of all. Raises ValueError for no sample.
    """
    if not samples:
        raise ValueError("there is no grade to correct")
    asked = np.array([sample.key in labels for sample in samples])
    part = Part.of(asked, [sample.cluster for sample in samples])
    judged = _judged(samples, labels)
    names = sorted({sample.model for sample in samples if sample.model is not None})
    models = np.array([-1 if sample.model is None else names.index(sample.model) for sample in samples])
    sides = [(f"mean grade of {name}", models == place) for place, name in enumerate(names)]
    sides = sides or [("mean grade", np.ones(len(samples), dtype=np.bool_))]
    clusters = [sample.cluster for sample in samples]
    alone = judge_alone([judged] * len(sides), [there for _, there in sides], clusters)
    made = [correct(name, judged, there, part, rate) for (name, there), rate in zip(sides, alone, strict=True)]
    by_name = {name: (there, each) for name, (_, there), each in zip(names, sides, made, strict=False)}
    met = islice(combinations(names, 2), _MOST_PAIRS)
    pairs = [_pair(one, other, by_name, judged, part, clusters) for one, other in met]
    return describe(part, judged, [rate for rate, _ in made], pairs, _traits(samples, part))


def summarize_corrected(
    samples: Sequence[GradedSample], human: PathLike | None, columns: Columns | None = None
) -> GradeSummary:
    """All rates, and where there is a file of people's grades what it makes of them. Raises InputError as
    `read_grade_labels`.
    """
    summary = summarize_grades(samples)
    if human is None:
        return summary
    labels = read_grade_labels(human, {sample.key for sample in samples}, samples[0].scale, columns)
    return summary.model_copy(update={"corrected": correct_grades(samples, labels)})


def _judged(samples: Sequence[GradedSample], labels: Mapping[str, float | None]) -> Judged:
    given = [(sample.grade, labels.get(sample.key)) for sample in samples]
    grades, people = np.array(given, dtype=np.float64).T
    read = grades[~np.isnan(grades)]
    scale = samples[0].scale or READABLE
    known = people[~np.isnan(people)].tolist()
    span = (min(scale.least, *known), max(scale.most, *known))
    return Judged(
        people,
        grades,
        np.where(np.isnan(grades), read.mean() if len(read) else 0.0, grades),
        span=span,
        unit=max(1.0, scale.most / READABLE.most),
    )


def _pair(
    one: str,
    other: str,
    made: Mapping[str, tuple[Mask, _Made]],
    judged: Judged,
    part: Part,
    clusters: Sequence[str],
) -> CorrectedPair:
    """By how much the mean of one is above the other's."""
    (ours, (_, mine)), (theirs, (_, yours)) = made[one], made[other]
    name = f"mean grade of {one} less that of {other}"
    judge = _apart(judged, ours, theirs, clusters)
    if mine is None or yours is None:
        return compare(one, other, CorrectedRate(name=name, judge=judge, labels=0), None, 0.0)
    both = [
        None if first is None or second is None else difference(first, second, ours, theirs, part)
        for first, second in zip(mine, yours, strict=True)
    ]
    people = both[0]
    assert isinstance(people, Corrected)
    parts = Parts(people, both[1], both[2])
    reach = judged.span[1] - judged.span[0]
    labels = int(((ours | theirs) & ~np.isnan(judged.people)).sum())
    return compare(one, other, say(name, parts, (-reach, reach), judge, labels), parts, 0.0)


def _apart(judged: Judged, ours: Mask, theirs: Mask, clusters: Sequence[str]) -> Rate | None:
    """The judge's own difference of two means."""
    read = ~np.isnan(judged.judge)
    sides = [those & read for those in (ours, theirs)]
    if not all(those.any() for those in sides):
        return None
    columns = [column for those in sides for column in (np.where(those, judged.judge, 0.0), those)]

    def formula(sums: Floats) -> Floats:
        return np.asarray(sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3])

    reach = judged.span[1] - judged.span[0]
    statistic = Statistic(
        np.stack(columns, axis=1).astype(np.float64), formula, int(sum(map(np.sum, sides))), (-reach, reach)
    )
    return rates_of({"apart": statistic}, clusters)["apart"]


def _traits(samples: Sequence[GradedSample], part: Part) -> list[Trait]:
    groups = {
        "category": [() if sample.category is None else (sample.category,) for sample in samples],
        "model": [() if sample.model is None else (sample.model,) for sample in samples],
    }
    given = describe_samples(part, [len(sample.answer) for sample in samples], groups)
    graded = Trait.grades([sample.grade for sample in samples])
    return given if graded is None else [*given, graded]
