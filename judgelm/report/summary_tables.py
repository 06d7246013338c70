"""A summary, and a comparison of two judges, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from judgelm.evaluation.summary import NO_SHARES, RATE_LABELS, Comparison, Group, Rate, Summary
from judgelm.report.table import render_table
from judgelm.report.terminal import MAX_ROWS
from judgelm.report.words import EXACT_NUMBER, EXACT_SHARE, Form

_ESTIMATE = ("value", "95 % interval", "samples")


def summary_tables(summary: Summary) -> str:
    """Rates with intervals, then agreement by rule for unread judgements, by class, gap, length and category."""
    rates, unparsed = summary.rates, summary.unparsed
    rows = [
        (label, *_cells(rates[name], EXACT_NUMBER if name in NO_SHARES else EXACT_SHARE))
        for name, label in RATE_LABELS.items()
        if name in rates
    ]
    parts = [
        f"{summary.samples} samples of {summary.questions} questions, {summary.labelled} with a truth",
        render_table(("metric", *_ESTIMATE), rows),
    ]
    if unparsed and unparsed.count:
        rules = {"as ties": unparsed.as_tie, "as errors": unparsed.as_error, "left out": unparsed.excluded}
        known = [(label, *_cells(rate)) for label, rate in rules.items() if rate]
        parts.append(render_table((f"agreement, {unparsed.count} unparsed", *_ESTIMATE), known))
    if summary.confusion:
        parts.append(_class_table(summary))
    groups = {"score gap": summary.by_gap, "length of the answers": summary.by_length, "category": summary.by_category}
    parts += [_group_table(label, found) for label, found in groups.items() if found]
    return "\n\n".join(parts)


def comparison_table(comparison: Comparison, names: tuple[str, str]) -> str:
    """Both agreements, their difference, and on how many samples one is right alone."""
    rows = [
        (f"agreement of {names[0]}", *_cells(comparison.first)),
        (f"agreement of {names[1]}", *_cells(comparison.second)),
        ("difference (second - first)", *_cells(comparison.difference)),
        ("both say the same", *_cells(comparison.same_outcome)),
    ]
    return (
        f"{render_table(('comparison', *_ESTIMATE), rows)}\nright: both {comparison.both},"
        f" only first {comparison.only_first}, only second {comparison.only_second}, neither {comparison.neither};"
        f" McNemar's exact p = {comparison.p:.4g}"
    )


def _cells(rate: Rate, form: Form = EXACT_SHARE) -> tuple[str, str, str]:
    """Value, interval and number of samples; "-" for what there is none of."""
    return form.number(rate.value), form.interval(rate, "-"), str(rate.count)


def _class_table(summary: Summary) -> str:
    confusion, classes = summary.confusion or {}, summary.classes or {}
    rows = []
    for outcome, said in confusion.items():
        one = classes[outcome]
        scores = map(EXACT_SHARE.number, (one.precision, one.recall, one.f1))
        rows.append((outcome, *(str(said[name]) for name in (*confusion, "unparsed")), *scores))
    return render_table(
        ("truth", *(f"said {name}" for name in confusion), "unparsed", "precision", "recall", "F1"), rows
    )


def _group_table(label: str, groups: Sequence[Group]) -> str:
    rows = [(group.label, *_cells(group.agreement)) for group in groups[:MAX_ROWS]]
    more = f"\n({len(groups) - MAX_ROWS} more)" if len(groups) > MAX_ROWS else ""
    return render_table((f"agreement by {label}", *_ESTIMATE), rows) + more
