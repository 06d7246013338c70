"""What a benchmark says of a judge, and how benchmark.json holds it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pydantic import SerializerFunctionWrapHandler, model_serializer

from judgelm.documents import AnyText, Document, Section, Sparse
from judgelm.errors import InputError, one_line
from judgelm.evaluation.grade_summary import GradeSummary
from judgelm.evaluation.rate import Rate, mean_rate
from judgelm.evaluation.readings import judgement_text
from judgelm.evaluation.results import JudgedSample
from judgelm.evaluation.summary import Summary, summarize
from judgelm.jsonl import Line, Record
from judgelm.judgement import Judgement
from judgelm.sample import question_key

_PAIR_RATES = ("agreement_both", "agreement", "agreement_reversed")
_GRADE_RATES = ("pearson", "mean")
"""the first of them that there is stands for a run"""
_BESIDE = ("agreement", "consistency", "spearman", "kendall", "exact", "unparsed")
"""what else is said of it"""
_SHOWN_ODD = 5
"""rows that cannot be read of which it is said why"""


class DataFile(Section):
    """A file of the benchmark."""

    path: str
    """where it was read"""
    sha256: str


class OddRows(Section):
    """Rows that cannot be read, and what is wrong with the first of them."""

    count: int
    first: list[str]
    """what is wrong with the first five, file and line named"""

    @classmethod
    def of(cls, odd: Sequence[str]) -> OddRows:
        return cls(count=len(odd), first=[one_line(each) for each in odd[:_SHOWN_ODD]])


class Predicted(Section):
    """Verdicts that were scored."""

    file: str
    sha256: str
    vocabulary: str
    """one of `VOCABULARIES`, or results: what each row was worth, as RewardBench publishes it"""
    verdicts: int
    unparsed: int
    odd_rows: OddRows
    not_predicted: dict[str, int]
    """rows without a verdict, by split"""


class Measured(Summary):
    """The summary of a split's labelled rows, and the paper's metrics where it has numbers to compare with."""

    left_out = ("aspects", "published")

    published: dict[str, Any] | None = None
    """the keys of the paper's script"""


class GradeGroup(Section):
    """The mean grade of one capability."""

    value: float
    rows: int


class Grades(Section):
    """MM-Vet: grades from 0 to 1, the answer's score over 10; with `grade_given` and on where others gave grades."""

    rows: int
    unparsed: int
    grade: Rate
    grade_given: float | None = None
    difference: float | None = None
    """mean absolute one"""
    correlation: float | None = None
    """Pearson's; None where it is not defined"""
    by_category: dict[str, GradeGroup] | None = None

    @model_serializer(mode="wrap")
    def _given(self, whole: SerializerFunctionWrapHandler) -> Record:
        """Without what was not given; a correlation that is not defined was."""
        record: Record = whole(self)
        return {name: value for name, value in record.items() if value is not None or name in self.model_fields_set}


class Scores(Section):
    """A benchmark's own score, as its authors compute it, with intervals; 0 to 1."""

    score: Rate
    sections: dict[str, Rate]
    """by name; empty where the benchmark has none"""
    subsets: dict[AnyText, Rate]
    """by name"""


class BenchmarkReport(Sparse, Document):
    """A benchmark's data, and the numbers of each split; shares are from 0 to 1."""

    what = "the report of a benchmark"
    left_out = ("turn", "by", "judge", "predictions", "scores")

    benchmark: str
    files: dict[str, DataFile]
    """by what they are"""
    homes: dict[str, str] | None
    """addresses of the files, where they were fetched"""
    licence: str
    turn: str | None = None
    """mt-bench-human: on which turns people voted, 1, 2 or both"""
    by: str | None = None
    """rewardbench2: ratings or pairs"""
    rows: dict[str, int]
    """by split: its name, or the benchmark's where it is one run"""
    dropped: dict[str, int]
    """rows left out, by reason"""
    odd_rows: OddRows
    judge: str | None = None
    """its name"""
    predictions: Predicted | None = None
    """either these, or a judge"""
    scores: Scores | None = None
    """as the benchmark's authors score it, where they do not just count"""
    metrics: dict[str, Measured | GradeSummary | Grades]
    """by split; of published results none"""


class BenchmarkResult(Section):
    """What stands for one run of a benchmark."""

    benchmark: str
    split: str
    """empty where the benchmark is one run, or has one score"""
    measure: str
    """what `value` is: score (its authors'), grade, or one of the rates"""
    value: Rate
    beside: dict[AnyText, Rate]
    """sections or subsets of a score, other rates"""


class BenchmarksReport(Document):
    """Several benchmarks of one judge; each has its own benchmark.json in the folder of its name."""

    what = "the report of several benchmarks"

    judge: str
    """its name"""
    results: list[BenchmarkResult]
    failed: dict[str, str]
    """benchmarks that could not be run, and why, in one line"""
    not_there: list[str]
    """benchmarks without data"""


def measure(samples: Sequence[JudgedSample], scored: bool = True, **more: Any) -> Measured:
    """The summary of the rows that have a label, and `more` beside it; raises InputError where none has.

    `scored` False leaves out what is said of scores: verdicts alone have none.
    """
    kept = [sample for sample in samples if sample.truth is not None]
    if not kept:
        raise InputError("none of the rows judged has a label")
    return Measured(**dict(summarize(kept, scored=scored)), **more)


def measure_grades(lines: Sequence[Line]) -> Grades:
    """MM-Vet: the mean grade from 0 to 1 (the answer's score over 10), and beside grades given by others how near.

    None is what is not defined: a grade of nothing, a correlation with grades that are all the same.
    """
    rows = [(line.record, Judgement.parse(judgement_text(line)).scores) for line in lines]
    read = [(record, scores[1] / 10) for record, scores in rows if scores is not None]
    unparsed = len(rows) - len(read)
    if not read:
        return Grades(rows=len(rows), unparsed=unparsed, grade=Rate(value=None))
    clusters = [question_key(record["question"]) for record, _ in read]
    grade = mean_rate([grade for _, grade in read], clusters)
    beside: dict[str, Any] = _beside_given(read)
    return Grades(rows=len(rows), unparsed=unparsed, grade=grade, **beside, by_category=_by_capability(read))


def _beside_given(read: Sequence[tuple[Record, float]]) -> dict[str, float | None]:
    both = [(record["grade"], grade) for record, grade in read if record.get("grade") is not None]
    if not both:
        return {}
    given, ours = np.array(both).T
    varies = np.ptp(given) > 0 and np.ptp(ours) > 0
    return {
        "grade_given": float(given.mean()),
        "difference": float(np.abs(given - ours).mean()),
        "correlation": float(np.corrcoef(given, ours)[0, 1]) if varies else None,
    }


def _by_capability(read: Sequence[tuple[Record, float]]) -> dict[str, GradeGroup]:
    groups: dict[str, list[float]] = defaultdict(list)
    for record, grade in read:
        for name in record.get("capability") or ():
            groups[name].append(grade)
    return {name: GradeGroup(value=sum(g) / len(g), rows=len(g)) for name, g in sorted(groups.items())}


def results_of(report: BenchmarkReport) -> Iterator[BenchmarkResult]:
    """Its authors' score where there is one, else a number for each split."""
    if report.scores is not None:
        scores = report.scores
        beside = scores.sections or scores.subsets
        yield BenchmarkResult(benchmark=report.benchmark, split="", measure="score", value=scores.score, beside=beside)
        return
    for part, measured in report.metrics.items():
        split = "" if part == report.benchmark else part
        if isinstance(measured, Measured | GradeSummary):
            wanted = _GRADE_RATES if isinstance(measured, GradeSummary) else _PAIR_RATES
            measure = next(name for name in wanted if name in measured.rates)
            value = measured.rates[measure]
            beside = {name: measured.rates[name] for name in _BESIDE if name in measured.rates and name != measure}
        else:
            measure, value, beside = "grade", measured.grade, {}
        yield BenchmarkResult(benchmark=report.benchmark, split=split, measure=measure, value=value, beside=beside)
