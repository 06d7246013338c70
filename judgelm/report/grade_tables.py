"""Numbers of grades as tables for a terminal."""

from __future__ import annotations

from judgelm.evaluation.grade_summary import GRADE_RATES, GradedModel, GradeSummary
from judgelm.report.terminal import aspect_tables, cut_table, rates_table
from judgelm.report.words import EXACT_NUMBER, SHARE

MODEL_RATES = {
    "mean": "mean grade",
    "spread": "spread",
    "unparsed": "unparsed",
    "bias": "bias",
    "mae": "mean abs. error",
}
"""what is said of each model, those that there are"""


def grade_tables(summary: GradeSummary) -> str:
    """Rates with intervals, then the models, then aspects side by side."""
    counts = f"{summary.samples} grades of {summary.questions} questions, {summary.labelled} with a truth"
    parts = [
        f"{counts}; scale {summary.scale[0]} to {summary.scale[1]}",
        rates_table(GRADE_RATES, summary.rates),
    ]
    if summary.by_model:
        parts.append(_model_table(summary.by_model))
    if summary.aspects:
        parts.append(aspect_tables(GRADE_RATES, summary.rates, [(each.name, each.rates) for each in summary.aspects]))
    return "\n\n".join(parts)


def _model_table(models: list[GradedModel]) -> str:
    names = [name for name in MODEL_RATES if any(name in model.rates for model in models)]
    rows = [(model.name, str(model.samples), *(said(model, name) for name in names)) for model in models]
    return cut_table(("model", "grades", *(MODEL_RATES[name] for name in names)), rows)


def said(model: GradedModel, name: str) -> str:
    """One of `MODEL_RATES` with its interval."""
    form = SHARE if GRADE_RATES[name].share else EXACT_NUMBER
    return form.both(model.rates[name]) if name in model.rates else "-"
