"""Numbers of many answers as tables for a terminal."""

from __future__ import annotations

from judgelm.errors import one_line
from judgelm.evaluation.places import ManySummary
from judgelm.evaluation.rate import Rate
from judgelm.report.terminal import estimate_cells, render_table
from judgelm.report.words import EXACT_NUMBER


def many_rates(summary: ManySummary) -> list[tuple[str, Rate]]:
    """What is said of the judgements, in words."""
    rates = [("judgements that could not be read", summary.unparsed)]
    if summary.consistency is not None:
        rates.append(("orders that find the same answers best", summary.consistency))
    return rates


def many_tables(summary: ManySummary) -> str:
    """Mean scores, and what places are worth, of judgements of many answers."""
    tables = [
        f"{summary.samples} samples, {summary.questions} questions; "
        + ", ".join(f"{order} {count}" for order, count in summary.orders.items()),
        render_table(
            ("rate", "", "95 % interval", "samples"),
            [(name, *estimate_cells(rate)) for name, rate in many_rates(summary)],
        ),
        render_table(
            ("answers of", "mean score", "95 % interval", "samples"),
            [(one_line(each.name), *estimate_cells(each.score, EXACT_NUMBER)) for each in summary.answers],
        ),
    ]
    if summary.places:
        header = ("shown in", "mean score", "above all places", "95 % interval", "samples")
        form = EXACT_NUMBER
        rows = [(f"place {e.place}", form.number(e.score), *estimate_cells(e.bias, form)) for e in summary.places]
        tables.append(render_table(header, rows))
    return "\n\n".join(tables)
