"""What a benchmark says of a judge, and the published numbers beside it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from judgelm.errors import InputError
from judgelm.evaluation.metrics.intervals import Estimate, ratio
from judgelm.evaluation.results import JudgedSample, judgement_text, labelled
from judgelm.evaluation.summary import OF_SCORES, summarize
from judgelm.jsonl import Line
from judgelm.judgement import Judgement
from judgelm.sample import question_key

Measured = dict[str, Any]
"""numbers, and rates as {value, low, high, count}"""


def measure(samples: Sequence[JudgedSample], scored: bool = True) -> Measured:
    """The summary of the rows that have a label; raises InputError where none has.

    `scored` False leaves out what is said of scores: verdicts alone have none.
    """
    kept = labelled(samples)
    if not kept:
        raise InputError("none of the rows judged has a label")
    found = summarize(kept).to_record()
    if not scored:
        found["rates"] = {name: rate for name, rate in found["rates"].items() if name not in OF_SCORES}
    return found


def _by_category(categories: Sequence[str | None], values: Sequence[float]) -> dict[str, dict[str, float | int]]:
    groups: dict[str, list[float]] = defaultdict(list)
    for category, value in zip(categories, values, strict=True):
        if category is not None:
            groups[category].append(float(value))
    return {name: {"value": sum(g) / len(g), "rows": len(g)} for name, g in sorted(groups.items())}


def measure_grades(lines: Sequence[Line]) -> Measured:
    """MM-Vet: the mean grade from 0 to 1 (the answer's score over 10), and beside grades given by others how near.

    None is what is not defined: a grade of nothing, a correlation with grades that are all the same.
    """
    rows = [(line.record, Judgement.parse(judgement_text(line)).scores) for line in lines]
    read = [(record, scores[1] / 10) for record, scores in rows if scores is not None]
    found: Measured = {"rows": len(rows), "unparsed": len(rows) - len(read)}
    if not read:
        return found | {"grade": Estimate(math.nan, None, None, 0).to_record()}
    clusters = [question_key(record["question"]) for record, _ in read]
    found["grade"] = ratio([grade for _, grade in read], clusters).to_record()
    both = [(record["grade"], grade) for record, grade in read if record.get("grade") is not None]
    if both:
        given, ours = np.array(both).T
        found["grade_given"] = float(given.mean())
        found["difference"] = float(np.abs(given - ours).mean())
        varies = np.ptp(given) > 0 and np.ptp(ours) > 0
        found["correlation"] = float(np.corrcoef(given, ours)[0, 1]) if varies else None
    capabilities = [(name, grade) for record, grade in read for name in record.get("capability") or ()]
    names, grades = [name for name, _ in capabilities], [grade for _, grade in capabilities]
    return found | {"by_category": _by_category(names, grades)}
