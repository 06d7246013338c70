"""What a benchmark says of a judge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from judgelm.benchmark.report import GradeGroup, Grades, Measured
from judgelm.errors import InputError
from judgelm.evaluation.metrics.intervals import ratio
from judgelm.evaluation.results import JudgedSample, judgement_text
from judgelm.evaluation.summary import OF_SCORES, Rate, summarize
from judgelm.jsonl import Line, Record
from judgelm.judgement import Judgement
from judgelm.sample import question_key


def measure(samples: Sequence[JudgedSample], scored: bool = True, **more: Any) -> Measured:
    """The summary of the rows that have a label, and `more` beside it; raises InputError where none has.

    `scored` False leaves out what is said of scores: verdicts alone have none.
    """
    kept = [sample for sample in samples if sample.truth is not None]
    if not kept:
        raise InputError("none of the rows judged has a label")
    found = dict(summarize(kept))
    if not scored:
        found["rates"] = {name: rate for name, rate in found["rates"].items() if name not in OF_SCORES}
    return Measured(**found, **more)


def measure_grades(lines: Sequence[Line]) -> Grades:
    """MM-Vet: the mean grade from 0 to 1 (the answer's score over 10), and beside grades given by others how near.

    None is what is not defined: a grade of nothing, a correlation with grades that are all the same.
    """
    rows = [(line.record, Judgement.parse(judgement_text(line)).scores) for line in lines]
    read = [(record, scores[1] / 10) for record, scores in rows if scores is not None]
    unparsed = len(rows) - len(read)
    if not read:
        return Grades(rows=len(rows), unparsed=unparsed, grade=Rate(value=None))
    clusters = [question_key(record["question"]) for record, _ in read]
    grade = Rate.of(ratio([grade for _, grade in read], clusters))
    beside: dict[str, Any] = _beside_given(read)
    return Grades(rows=len(rows), unparsed=unparsed, grade=grade, **beside, by_category=_by_capability(read))


def _beside_given(read: Sequence[tuple[Record, float]]) -> dict[str, float | None]:
    both = [(record["grade"], grade) for record, grade in read if record.get("grade") is not None]
    if not both:
        return {}
    given, ours = np.array(both).T
    varies = np.ptp(given) > 0 and np.ptp(ours) > 0
    return {
        "grade_given": float(given.mean()),
        "difference": float(np.abs(given - ours).mean()),
        "correlation": float(np.corrcoef(given, ours)[0, 1]) if varies else None,
    }


def _by_capability(read: Sequence[tuple[Record, float]]) -> dict[str, GradeGroup]:
    groups: dict[str, list[float]] = defaultdict(list)
    for record, grade in read:
        for name in record.get("capability") or ():
            groups[name].append(grade)
    return {name: GradeGroup(value=sum(g) / len(g), rows=len(g)) for name, g in sorted(groups.items())}
