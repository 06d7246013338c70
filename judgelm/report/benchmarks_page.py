"""Several benchmarks of one judge -> one HTML page that needs no network, and the same in Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from judgelm.benchmark.report import BenchmarkResult, BenchmarksReport
from judgelm.benchmark.sets import BENCHMARKS
from judgelm.files import write_text
from judgelm.report import pictures
from judgelm.report.benchmark_tables import form_of, label_of, run_name
from judgelm.report.page import Written, render_markdown, render_page
from judgelm.report.words import NUMBER, SHARE, row


def write_benchmarks_page(report: BenchmarksReport, folder: Path) -> Written:
    """Write benchmarks.html and benchmarks.md. Raises InputError where that cannot be done."""
    context = _context(report)
    written = Written(folder / "benchmarks.html", folder / "benchmarks.md")
    write_text(written.page, render_page(context, "benchmarks.html"))
    write_text(written.markdown, render_markdown(context, "benchmarks.md"))
    return written


def _context(report: BenchmarksReport) -> dict[str, Any]:
    shares = [(run_name(one), one.value) for one in report.results if form_of(one.measure).factor == SHARE.factor]
    return {
        "judge": report.judge,
        "results": [
            (label_of(one.measure), row(run_name(one), one.value, form_of(one.measure, SHARE, NUMBER)))
            for one in report.results
        ],
        "picture": pictures.shares(shares, "Benchmarks with their 95 % intervals"),
        "parts": [_part(one) for one in report.results if one.beside],
        "failed": list(report.failed.items()),
        "not_there": report.not_there,
    }


def _part(result: BenchmarkResult) -> dict[str, Any]:
    """What stands beside a run's number: of a score parts, which the data names, else rates."""
    if result.measure == "score":
        rows = [row(name, rate) for name, rate in result.beside.items()]
    else:
        rows = [row(label_of(name), rate, form_of(name, SHARE, NUMBER)) for name, rate in result.beside.items()]
    return {"name": run_name(result), "title": BENCHMARKS[result.benchmark].title, "rows": rows}
