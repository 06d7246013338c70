"""Numbers of benchmarks as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from judgelm.benchmark.report import BenchmarkReport, BenchmarkResult, BenchmarksReport, Grades, Measured, Scores
from judgelm.evaluation.grade_summary import GRADE_RATES, GradeSummary
from judgelm.evaluation.rate import Rate
from judgelm.evaluation.summary import RATES, Kind
from judgelm.report.grade_tables import grade_tables
from judgelm.report.terminal import estimate_cells, published_table, render_table, summary_tables
from judgelm.report.words import EXACT_NUMBER, EXACT_SHARE, GRADE, Form

_KINDS = {
    **RATES,
    **GRADE_RATES,
    "unparsed": RATES["unparsed"],
    "score": Kind("its authors' score"),
    "grade": Kind("mean grade"),
}


def report_tables(report: BenchmarkReport, judge: str) -> Iterator[str]:
    """Each split's numbers, then those beside which the authors' own stand, and what was left out."""
    published = {}
    for name, measured in report.metrics.items():
        if isinstance(measured, GradeSummary):
            yield f"{name}\n{grade_tables(measured)}\n"
        elif not isinstance(measured, Measured):
            yield f"{name}\n{grades_table(measured)}\n"
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


def grades_table(grades: Grades) -> str:
    """One number a line, grades in per cent; then the capabilities."""
    interval = GRADE.interval(grades.grade)
    rows = [
        ("rows", str(grades.rows)),
        ("unparsed", str(grades.unparsed)),
        ("mean grade", GRADE.number(grades.grade.value) + (f"  [{interval}]" if interval else "")),
    ]
    if grades.grade_given is not None:
        rows += [
            ("mean grade that was given", GRADE.number(grades.grade_given)),
            ("mean absolute difference", GRADE.number(grades.difference)),
            ("correlation (Pearson)", "-" if grades.correlation is None else f"{grades.correlation:.3f}"),
        ]
    groups = (grades.by_category or {}).items()
    rows += [(f"  {name}", f"{GRADE.number(group.value)}  of {group.rows}") for name, group in groups]
    return render_table(("metric", "value"), rows)


def scores_table(scores: Scores) -> str:
    """The score, the sections, and the subsets."""
    named: list[tuple[str, Rate]] = [("score", scores.score), *scores.sections.items()]
    named += [(f"  {name}", rate) for name, rate in scores.subsets.items()]
    rows = [(label, *estimate_cells(rate)) for label, rate in named]
    return render_table(("", "value", "95 % interval", "rows"), rows)


def benchmarks_table(report: BenchmarksReport) -> str:
    """One line for each run, and what could not be run."""
    rows = [
        (run_name(one), label_of(one.measure), *estimate_cells(one.value, form_of(one.measure)))
        for one in report.results
    ]
    parts = [render_table(("benchmark", "measure", "value", "95 % interval", "samples"), rows)] if rows else []
    parts += [f"{name} could not be run: {problem}" for name, problem in report.failed.items()]
    if report.not_there:
        parts.append(f"no data of {', '.join(report.not_there)}")
    return "\n".join(parts)


def run_name(result: BenchmarkResult) -> str:
    """The benchmark's name, with its split's."""
    return result.benchmark + (f", {result.split.replace('_', ' ')}" if result.split else "")


def label_of(measure: str) -> str:
    """It in words."""
    return _KINDS[measure].label


def form_of(measure: str, share: Form = EXACT_SHARE, number: Form = EXACT_NUMBER) -> Form:
    """How it is written."""
    return share if _KINDS[measure].share else number
