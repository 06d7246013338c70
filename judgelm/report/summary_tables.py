"""A summary, and a comparison of two judges, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from judgelm.evaluation.summary import NO_SHARES, RATE_LABELS
from judgelm.jsonl import Record
from judgelm.report.terminal import MAX_ROWS, render_table

_UNPARSED = {"as_tie": "as ties", "as_error": "as errors", "excluded": "left out"}
_GROUPS = {"by_gap": "score gap", "by_length": "length of the answers", "by_category": "category"}
_ESTIMATE = ("value", "95 % interval", "samples")


def summary_tables(summary: Record) -> str:
    """Rates with intervals, then agreement by rule for unread judgements, by class, gap, length and category."""
    rates = summary["rates"]
    rows = [
        (label, *_cells(rates[name], name not in NO_SHARES)) for name, label in RATE_LABELS.items() if name in rates
    ]
    parts = [
        f"{summary['samples']} samples of {summary['questions']} questions, {summary['labelled']} with a truth",
        render_table(("metric", *_ESTIMATE), rows),
    ]
    unparsed = summary["unparsed"]
    if unparsed and unparsed["count"]:
        rules = [(label, *_cells(unparsed[name])) for name, label in _UNPARSED.items() if unparsed[name]]
        parts.append(render_table((f"agreement, {unparsed['count']} unparsed", *_ESTIMATE), rules))
    if summary["confusion"]:
        parts.append(_class_table(summary))
    for name, label in _GROUPS.items():
        if summary[name]:
            parts.append(_group_table(label, summary[name]))
    return "\n\n".join(parts)


def comparison_table(comparison: Record, names: tuple[str, str]) -> str:
    """Both agreements, their difference, and on how many samples one is right alone."""
    rows = [
        *(
            (f"agreement of {name}", *_cells(comparison[key]))
            for key, name in zip(("first", "second"), names, strict=True)
        ),
        ("difference (second - first)", *_cells(comparison["difference"])),
        ("both say the same", *_cells(comparison["same_outcome"])),
    ]
    counts = ", ".join(
        f"{key.replace('_', ' ')} {comparison[key]}" for key in ("both", "only_first", "only_second", "neither")
    )
    return (
        f"{render_table(('comparison', *_ESTIMATE), rows)}\nright: {counts}; McNemar's exact p = {comparison['p']:.4g}"
    )


def _cells(estimate: Record, share: bool = True) -> tuple[str, str, str]:
    """Value, interval and number of samples, in per cent for a share; "-" for what there is none of."""
    factor, digits, unit = (100, 2, " %") if share else (1, 3, "")
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    said = "-" if value is None else f"{factor * value:.{digits}f}{unit}"
    interval = "-" if low is None else f"{factor * low:.{digits}f} to {factor * high:.{digits}f}{unit}"
    return said, interval, str(estimate["count"])


def _class_table(summary: Record) -> str:
    outcomes = list(summary["confusion"])
    rows: list[Sequence[str]] = []
    for outcome in outcomes:
        said: dict[str, Any] = summary["confusion"][outcome]
        scores = [_per_cent(summary["classes"][outcome][name]) for name in ("precision", "recall", "f1")]
        rows.append((outcome, *(str(said[name]) for name in (*outcomes, "unparsed")), *scores))
    return render_table(
        ("truth", *(f"said {name}" for name in outcomes), "unparsed", "precision", "recall", "F1"), rows
    )


def _per_cent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _group_table(label: str, groups: Sequence[Record]) -> str:
    rows = [(group["label"], *_cells(group["agreement"])) for group in groups[:MAX_ROWS]]
    more = f"\n({len(groups) - MAX_ROWS} more)" if len(groups) > MAX_ROWS else ""
    return render_table((f"agreement by {label}", *_ESTIMATE), rows) + more
