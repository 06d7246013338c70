"""Tables of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from judgelm.benchmark.sets import PUBLISHED, PUBLISHED_KEYS
from judgelm.evaluation.published import Metrics
from judgelm.evaluation.summary import Rate
from judgelm.report.table import render_table
from judgelm.report.words import Form

_GRADE = Form(".2f", nothing="-", between=", ")
_LABELS = {
    "rows": "rows",
    "unparsed": "unparsed",
    "grade": "mean grade",
    "grade_given": "mean grade that was given",
    "difference": "mean absolute difference",
    "correlation": "correlation (Pearson)",
}


def grades_table(measured: Mapping[str, Any]) -> str:
    """One number a line, grades in per cent; then the capabilities."""
    rows = [(label, _shown(name, measured[name])) for name, label in _LABELS.items() if name in measured]
    for name, group in measured.get("by_category", {}).items():
        rows.append((f"  {name}", f"{_GRADE.number(group['value'])}  of {group['rows']}"))
    return render_table(("metric", "value"), rows)


def _shown(name: str, value: Any) -> str:
    if isinstance(value, dict):
        grade = Rate(**value)
        interval = _GRADE.interval(grade)
        return _GRADE.number(grade.value) + (f"  [{interval}]" if interval else "")
    if isinstance(value, float):
        return f"{value:.3f}" if name == "correlation" else _GRADE.number(value)
    return "-" if value is None else str(value)


def published_table(measured: Mapping[str, Metrics], judge: str) -> str:
    """The paper's table: this judge's published metrics beside those of the released judges, in per cent."""
    rows = []
    for part, metrics in measured.items():
        ours = [f"{100 * metrics[key]:.2f}" if key in metrics else "-" for key in PUBLISHED_KEYS]
        rows.append((judge, part.replace("_", " "), *ours, str(metrics["total_num"])))
        for name, numbers in PUBLISHED[part].items():
            rows.append((f"{name} (published)", part.replace("_", " "), *(f"{n:.2f}" for n in numbers), "5k"))
    return render_table(("judge", "reference", "agreement", "precision", "recall", "F1", "consistency", "rows"), rows)
