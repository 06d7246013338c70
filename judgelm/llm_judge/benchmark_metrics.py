"""What a benchmark says of a judge, and the published numbers beside it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from judgelm.jsonl import InputError, Line
from judgelm.llm_judge.intervals import Estimate, ratio
from judgelm.llm_judge.judged import JudgedSample, judgement_text, labelled
from judgelm.llm_judge.metrics import Metrics
from judgelm.llm_judge.report import render_table
from judgelm.llm_judge.summary import OF_SCORES, summarize
from judgelm.sample import question_key
from judgelm.verdict import Judgement

PUBLISHED_KEYS = ("accuracy", "precision", "recall", "f1", "consistency")
PUBLISHED = {
    "without_reference": {
        "JudgeLM-7B": (81.11, 69.67, 78.39, 72.21, 83.57),
        "JudgeLM-13B": (84.33, 73.69, 80.51, 76.17, 85.01),
        "JudgeLM-33B": (89.03, 80.97, 84.76, 82.64, 91.36),
    },
    "with_reference": {
        "JudgeLM-7B": (84.08, 75.92, 82.55, 78.28, 84.46),
        "JudgeLM-13B": (85.47, 77.71, 82.90, 79.77, 87.23),
        "JudgeLM-33B": (89.32, 84.00, 86.21, 84.98, 92.37),
    },
}
"""of the paper, in per cent, by the published rule (arXiv 2310.17631)"""
_LABELS = {
    "rows": "rows",
    "unparsed": "unparsed",
    "grade": "mean grade",
    "grade_given": "mean grade that was given",
    "difference": "mean absolute difference",
    "correlation": "correlation (Pearson)",
}
Measured = dict[str, Any]
"""numbers, and rates as {value, low, high, count}"""


def measure(samples: Sequence[JudgedSample], scored: bool = True) -> Measured:
    """The summary of the rows that have a label; raises InputError where none has.

    `scored` False leaves out what is said of scores: verdicts alone have none.
    """
    kept = labelled(samples)
    if not kept:
        raise InputError("none of the rows judged has a label")
    found = summarize(kept)
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


def grades_table(measured: Mapping[str, Any]) -> str:
    """One number a line, grades in per cent; then the capabilities."""
    rows = [(label, _shown(name, measured[name])) for name, label in _LABELS.items() if name in measured]
    for name, group in measured.get("by_category", {}).items():
        rows.append((f"  {name}", f"{100 * group['value']:.2f} %  of {group['rows']}"))
    return render_table(("metric", "value"), rows)


def _shown(name: str, value: Any) -> str:
    if value is None or (isinstance(value, dict) and value["value"] is None):
        return "-"
    if isinstance(value, dict):
        known = value["low"] is not None
        interval = f"  [{100 * value['low']:.2f}, {100 * value['high']:.2f}]" if known else ""
        return f"{100 * value['value']:.2f} %{interval}"
    if isinstance(value, float):
        return f"{value:.3f}" if name == "correlation" else f"{100 * value:.2f} %"
    return str(value)


def published_table(measured: Mapping[str, Metrics], judge: str) -> str:
    """The paper's table: this judge's published metrics beside those of the released judges, in per cent."""
    rows = []
    for part, metrics in measured.items():
        ours = [f"{100 * metrics[key]:.2f}" if key in metrics else "-" for key in PUBLISHED_KEYS]
        rows.append((judge, part.replace("_", " "), *ours, str(metrics["total_num"])))
        for name, numbers in PUBLISHED[part].items():
            rows.append((f"{name} (published)", part.replace("_", " "), *(f"{n:.2f}" for n in numbers), "5k"))
    return render_table(("judge", "reference", "agreement", "precision", "recall", "F1", "consistency", "rows"), rows)
