"""Numbers of benchmarks as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from judgelm.benchmark.report import BenchmarkReport, Measured, Scores
from judgelm.evaluation.grade_summary import GradeSummary
from judgelm.evaluation.summary import Rate
from judgelm.report.grade_tables import grade_tables
from judgelm.report.terminal import estimate_cells, grades_table, published_table, render_table, summary_tables


def report_tables(report: BenchmarkReport, judge: str) -> Iterator[str]:
    """Each split's numbers, then those beside which the authors' own stand, and what was left out."""
    published = {}
    for name, measured in report.metrics.items():
        if isinstance(measured, GradeSummary):
            yield f"{name}\n{grade_tables(measured)}\n"
        elif not isinstance(measured, Measured):
            yield f"{name}\n{grades_table(measured.to_record())}\n"
        else:
            yield f"{name}\n{summary_tables(measured)}\n"
            if measured.published is not None:
                published[name] = measured.published
    if published:
        yield f"{published_table(published, judge)}\n"
    if report.scores is not None:
        yield f"{report.benchmark}, as its authors score it\n{scores_table(report.scores)}\n"
    if any(report.dropped.values()):
        yield f"rows left out: {', '.join(f'{count} {reason}' for reason, count in report.dropped.items() if count)}"


def scores_table(scores: Scores) -> str:
    """The score, the sections, and the subsets."""
    named: list[tuple[str, Rate]] = [("score", scores.score), *scores.sections.items()]
    named += [(f"  {name}", rate) for name, rate in scores.subsets.items()]
    rows = [(label, *estimate_cells(rate)) for label, rate in named]
    return render_table(("", "value", "95 % interval", "rows"), rows)
