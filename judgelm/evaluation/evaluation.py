"""A judge's files -> all numbers of it: what `judgelm evaluate` prints and writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from judgelm.errors import located
from judgelm.evaluation.calibrated import read_calibrated
from judgelm.evaluation.grades import read_grades
from judgelm.evaluation.published import Metrics, published_metrics
from judgelm.evaluation.results import JudgedSample, read_files, read_folder
from judgelm.forms import Columns
from judgelm.jsonl import LineFile
from judgelm.judgement import ParseState
from judgelm.samples import PathLike

if TYPE_CHECKING:
    from judgelm.calibration import Calibration
    from judgelm.evaluation.corrections import Corrections
    from judgelm.evaluation.grade_summary import GradeSummary
    from judgelm.evaluation.rates import Rated
    from judgelm.evaluation.summary import Comparison, Summary, SummaryFile


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What can be said of a judge; shares are from 0 to 1."""

    published: Metrics
    """the ten keys of the paper's script as far as there is a truth or a reversed order, then ours and counts: the last
    line of `judgelm evaluate`"""
    summary: Summary
    """every rate with its 95 % interval, and tables"""
    against: Comparison | None = None
    """beside another judge, where one was given"""
    corrected: Corrections | None = None
    """by people's labels of a part, where they were given"""

    @property
    def document(self) -> SummaryFile:
        """What `judgelm evaluate --output` writes."""
        from judgelm.evaluation.summary import SummaryFile

        return SummaryFile(**dict(self.summary), against=self.against, corrected=self.corrected)

    def to_record(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        return self.document.to_record()


@dataclass(frozen=True, slots=True)
class GradeEvaluation:
    """What can be said of grades."""

    numbers: Mapping[str, float | int | None]
    """the rates' values, None for one that is not defined, and counts: the last line of `judgelm evaluate`"""
    summary: GradeSummary
    """every rate with its 95 % interval, by model and by aspect, and corrected where people's grades were given"""

    @property
    def document(self) -> GradeSummary:
        """What `judgelm evaluate --output` writes."""
        return self.summary

    def to_record(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        return self.summary.to_record()


def evaluate(
    folder: PathLike,
    teacher: PathLike | None = None,
    against: PathLike | None = None,
    columns: Columns | None = None,
    human: PathLike | None = None,
    calibration: Calibration | None = None,
) -> Evaluation:
    """All numbers of a folder that `judgelm judge` wrote.

    Args:
        folder: with forward.jsonl, and reversed.jsonl for what the swap says.
        teacher: rows of `question_id` with `text` ("s1 s2" and reasons) or `label` (1, 2, 0 for a tie, null) as the
            truth; without it what the judged rows bring along.
        against: a folder of another judge with the same samples and truths.
        columns: of a teacher's file, or of people's, whose fields have other names.
        human: people's labels of a random part of the samples, which correct the rates: rows of `question_id` and
            `label`.
        calibration: a map of this judge's probabilities (`read_calibration`), which they are calibrated by.

    Raises InputError, in one line, for a file that is missing or damaged, an id that one file has and another lacks,
    where there is nothing to evaluate, and for a map of other judgements.
    """
    samples = read_calibrated(folder, calibration, teacher, columns)
    return _evaluate(samples, folder, teacher, against, columns, human)


def evaluate_files(
    forward: PathLike,
    reversed_: PathLike | None = None,
    teacher: PathLike | None = None,
    against: PathLike | None = None,
    columns: Columns | None = None,
    human: PathLike | None = None,
) -> Evaluation:
    """The same of judgement files, joined by question_id, as `evaluate` says it of a folder."""
    samples = read_files(forward, reversed_, teacher, columns=columns)
    return _evaluate(samples, forward, teacher, against, columns, human)


def evaluate_grades(
    place: PathLike, teacher: PathLike | None = None, columns: Columns | None = None, human: PathLike | None = None
) -> GradeEvaluation:
    """All numbers of a folder that `judgelm judge --task grade` wrote, or of its file.

    Args:
        place: a folder with forward.jsonl, or such a file.
        teacher: rows of `question_id` with `score` (a number) or `text` ("7" and reasons), or `aspects` with a number
            by each aspect's name, as the truth; without it what the graded rows bring along, if anything.
        columns: of a teacher's file, or of people's, whose fields have other names.
        human: people's grades of a random part of the answers, which correct the means: rows of `question_id`, `score`.

    Raises InputError, in one line, for a file that is missing or damaged, one of another task, and an id that the
    teacher lacks.
    """
    from judgelm.evaluation.grade_corrections import summarize_corrected

    samples = read_grades(place, teacher, columns)
    summary = summarize_corrected(samples, human, columns)
    states = [sample.reading.state for sample in samples]
    numbers: dict[str, float | int | None] = {
        **{name: rate.value for name, rate in summary.rates.items()},
        "total": summary.samples,
        "labelled": summary.labelled,
        "unparsed_forward": states.count(ParseState.FAILED),
        "repaired_forward": states.count(ParseState.REPAIRED),
    }
    if teacher is not None:
        numbers["not_judged"] = len(LineFile(teacher)) - summary.samples
    return GradeEvaluation(numbers, summary)


def measure_files(forward: PathLike, reversed_: PathLike | None = None, teacher: PathLike | None = None) -> Metrics:
    """`Evaluation.published` of judgement files alone, which needs no resamples. Raises InputError as `evaluate`."""
    from judgelm.evaluation.rates import Rated

    return _measure(Rated.of(read_files(forward, reversed_, teacher)), forward, teacher)


def measure(rated: Rated, labelled: bool | None = None) -> Metrics:
    """The same of samples. `labelled` says that there is a truth; without it, whether one of them has one.

    Raises ValueError where no sample is left.
    """
    from judgelm.evaluation.rates import totals

    known = bool(rated.labelled.any()) if labelled is None else labelled
    return published_metrics(rated.samples, known) | totals(rated, known)


def _evaluate(
    samples: Sequence[JudgedSample],
    place: PathLike,
    teacher: PathLike | None,
    against: PathLike | None,
    columns: Columns | None,
    human: PathLike | None,
) -> Evaluation:
    from judgelm.evaluation.comparison import compare
    from judgelm.evaluation.pair_corrections import correct_by_labels
    from judgelm.evaluation.rates import Rated
    from judgelm.evaluation.summary import summarize

    rated = Rated.of(samples)
    published = _measure(rated, place, teacher)
    other = None if against is None else read_folder(against, teacher, columns=columns)
    beside = None if other is None else compare(samples, other, (str(place), str(against)))
    corrected = None if human is None else correct_by_labels(samples, human, columns)
    return Evaluation(published, summarize(rated), beside, corrected)


def _measure(rated: Rated, place: PathLike, teacher: PathLike | None) -> Metrics:
    """`not_judged` counts the teacher's rows without a judgement."""
    with located(f"{teacher or place}"):
        by_aspects_alone = any(sample.aspect_truths for sample in rated.samples)
        metrics = measure(rated, True if teacher is not None and not by_aspects_alone else None)
    return metrics if teacher is None else {**metrics, "not_judged": len(LineFile(teacher)) - len(rated.samples)}
