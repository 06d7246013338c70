"""A judge, or verdicts that are there already, against a benchmark's labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgelm.benchmark.chosen import WAYS, read_rewardbench2
from judgelm.benchmark.files import find_files
from judgelm.benchmark.labelled import Files, Labelled, Split
from judgelm.benchmark.readers import ANSWERS, GRADES, TURNS, read_mt_bench_human
from judgelm.benchmark.sets import Benchmark, find_benchmark
from judgelm.errors import InputError
from judgelm.files import hash_file
from judgelm.jsonl import LineFile
from judgelm.judge import AnyJudge, JudgeChoice, JudgeSettings, Order, judge_folder, prepare
from judgelm.samples import PathLike, Samples, read_samples

if TYPE_CHECKING:
    from judgelm.benchmark.report import BenchmarkReport, Grades, Measured
    from judgelm.evaluation.grade_summary import GradeSummary
    from judgelm.judge.log import OrderFile

REPORT_FILE = "benchmark.json"
MT_BENCH = "mt-bench-human"
BEST_OF_FOUR = "rewardbench2"


@dataclass(frozen=True, slots=True)
class BenchmarkData:
    """A benchmark's labelled samples."""

    name: str
    benchmark: Benchmark
    files: Files
    fetched: bool
    labelled: Labelled
    turn: str | None = None
    """mt-bench-human: one of `TURNS`"""
    by: str | None = None
    """rewardbench2: one of `WAYS`"""

    @property
    def splits(self) -> Mapping[str, Split]:
        """By their names; where the benchmark is one run, by its own."""
        return {split.name or self.name: split for split in self.labelled.splits}


@dataclass(frozen=True, slots=True)
class BenchmarkRun:
    """A judged benchmark."""

    report: BenchmarkReport
    judged: Mapping[str, Mapping[Order, OrderFile]]
    """by split; empty name where the benchmark is one run"""
    judge: JudgeChoice


def check_benchmark(
    name: str,
    answers: PathLike | None = None,
    grades: PathLike | None = None,
    turn: str | None = None,
    by: str | None = None,
) -> Benchmark:
    """The benchmark of that name. Raises InputError for an unknown one, and for what is not for it."""
    benchmark = find_benchmark(name)
    for what, path in ((ANSWERS, answers), (GRADES, grades)):
        if path is not None and benchmark.task != "mmvet":
            raise InputError(f"--{what} is for mm-vet, not for {name}")
    _check_choice("turn", turn, tuple(TURNS), MT_BENCH, name)
    _check_choice("by", by, WAYS, BEST_OF_FOUR, name)
    return benchmark


def _check_choice(what: str, chosen: str | None, known: Sequence[str], of: str, name: str) -> None:
    if chosen is not None and name != of:
        raise InputError(f"--{what} is for {of}, not for {name}")
    if chosen is not None and chosen not in known:
        raise InputError(f"unknown {what} {chosen!r}, expected one of {', '.join(known)}")


def read_benchmark(
    name: str,
    data: PathLike | None = None,
    *,
    answers: PathLike | None = None,
    grades: PathLike | None = None,
    turn: str | None = None,
    by: str | None = None,
) -> BenchmarkData:
    """A benchmark's samples, of its files.

    Args:
        name: one of `BENCHMARKS`.
        data: its file, or a folder of its files (default: fetched once from their public home, and kept).
        answers: mm-vet: the vision model's answers, {"v1_0": "text", ..}.
        grades: mm-vet: grades from 0 to 1 to compare with, {"v1_0": 0.5, ..}.
        turn: mt-bench-human: the turns whose votes count, 1, 2 or both (default: 1).
        by: rewardbench2: find the best answer by ratings or by pairs (default: ratings).

    Raises InputError for an unknown name, files that are not there, cannot be fetched or read, and rows without labels.
    """
    benchmark = check_benchmark(name, answers, grades, turn, by)
    named = {ANSWERS: answers, GRADES: grades}
    given = {what: Path(path).expanduser() for what, path in named.items() if path is not None}
    files = {**find_files(name, data), **given}
    if name == MT_BENCH:
        turn = turn or "1"
        benchmark = replace(benchmark, read=partial(read_mt_bench_human, turns=TURNS[turn]))
    if name == BEST_OF_FOUR:
        by = by or WAYS[0]
        benchmark = replace(benchmark, read=partial(read_rewardbench2, by=by))
    found = benchmark.read(files)
    if not any(split.records for split in found.splits):
        raise InputError(f"benchmark {name}: no row has a label")
    return BenchmarkData(name, benchmark, files, data is None, found, turn, by)


def run_benchmark(
    name: str,
    output_dir: PathLike,
    judge: AnyJudge,
    settings: JudgeSettings | None = None,
    *,
    data: PathLike | None = None,
    answers: PathLike | None = None,
    grades: PathLike | None = None,
    turn: str | None = None,
    by: str | None = None,
    orders: str | None = None,
    limit: int | None = None,
    model_id: str | None = None,
    keep_judged: bool = False,
) -> BenchmarkRun:
    """Judge what is not judged yet of a benchmark, compare with its labels, and write benchmark.json.

    Args:
        name, data, answers, grades, turn, by: see `read_benchmark`.
        output_dir: gets questions.jsonl, forward.jsonl, reversed.jsonl, run.json, benchmark.json; with several splits
            each has a folder there. A run that was ended goes on.
        settings: how samples are judged; the task is the benchmark's, and so are criteria where none are given.
        orders: forward, reversed or both (default: both, of grades forward, which have no other).
        limit: judge only the first samples of each split.
        model_id: name of the judge in the records (default: the model's).
        keep_judged: go on though samples were removed, changed or added.

    Raises InputError as `read_benchmark` and `judge_folder` do, and where no row judged has a label.
    """
    found = read_benchmark(name, data, answers=answers, grades=grades, turn=turn, by=by)
    # loaded for the first split that has anything left to judge
    chosen, given = prepare(judge), settings or JudgeSettings()
    judged, place = {}, Path(output_dir).expanduser()
    for split in found.labelled.splits:
        folder = place / split.name
        how = replace(given, task=_task(found, split), criteria=given.criteria or split.criteria)
        samples = _keep_samples(folder, split, how, keep_judged)[:limit]
        asked = None if how.task == "grade" else orders
        judged[split.name] = judge_folder(
            samples, folder, chosen, how, orders=asked, model_id=model_id, keep_judged=keep_judged
        )
    return BenchmarkRun(_report(found, place, model_id or chosen.name), judged, chosen)


def _task(data: BenchmarkData, split: Split) -> str:
    return split.task or data.benchmark.task


def _report(data: BenchmarkData, place: Path, judge: str) -> BenchmarkReport:
    """Of all that is judged; in benchmark.json too."""
    from judgelm.benchmark.report import BenchmarkReport
    from judgelm.benchmark.scored import score_folders

    metrics = {part: _measure(_task(data, split), split, place / split.name) for part, split in data.splits.items()}
    scores = score_folders(data.name, data.labelled.splits, place)
    report = BenchmarkReport(**_describe(data), scores=scores, judge=judge, metrics=metrics)
    return _written(report, place)


def _keep_samples(folder: Path, split: Split, settings: JudgeSettings, keep_judged: bool) -> Samples:
    """A split's samples, in its folder. Answers are judged as the benchmark has them, thoughts included."""
    from judgelm.judge.kept import keep_questions

    questions, reference = folder / "questions.jsonl", split.reference
    keep_questions(questions, split.records, keep_judged, "is of other data")
    if split.references:
        reference = folder / "references.jsonl"
        keep_questions(reference, split.references, keep_judged, "is of other data")
    return read_samples(questions, settings.task, reference_file=reference, seed=settings.seed, keep_thinking=True)


def _measure(task: str, split: Split, folder: Path) -> Measured | GradeSummary | Grades:
    """All that is judged in a split's folder: with a teacher the published metrics too."""
    from judgelm.benchmark.report import measure, measure_grades
    from judgelm.evaluation.evaluation import measure_files
    from judgelm.evaluation.grade_summary import summarize_grades
    from judgelm.evaluation.grades import read_grades
    from judgelm.evaluation.results import order_files, read_folder

    if task == "mmvet":
        return measure_grades(LineFile(folder / "forward.jsonl"))
    if task == "grade":
        return summarize_grades(read_grades(folder))
    samples = read_folder(folder)
    files = order_files(folder)
    if split.teacher is None or "forward" not in files:
        return measure(samples)
    return measure(samples, published=measure_files(files["forward"], files.get("reversed"), split.teacher))


def score_predictions(
    name: str,
    predictions: PathLike,
    vocabulary: str | None = None,
    *,
    data: PathLike | None = None,
    turn: str | None = None,
    output_dir: PathLike | None = None,
) -> BenchmarkReport:
    """Compare verdicts that are there already with a benchmark's labels; no model is loaded.

    Args:
        name, data, turn: see `read_benchmark`.
        predictions: rows of `question_id` and `verdict`, or as PandaLM, JudgeBench, LLMBar, Auto-J and RewardBench
            publish them; the last need no data.
        vocabulary: one of `VOCABULARIES`, what the verdicts mean (default: found from the file's words).
        output_dir: gets benchmark.json.

    Raises InputError as `read_benchmark`, for a file that cannot be read or joined, and where its words are not clear.
    """
    from judgelm.benchmark.predictions import predicted_samples, read_predictions
    from judgelm.benchmark.report import BenchmarkReport, OddRows, Predicted, measure
    from judgelm.benchmark.scored import holds_results, score_pairs

    path = Path(predictions).expanduser()
    check_benchmark(name, turn=turn)
    if holds_results(name, path):
        return _score_results(name, path, output_dir)
    _check_has_verdicts(name)
    found = read_benchmark(name, data, turn=turn)
    given = read_predictions(path, vocabulary)
    metrics: dict[str, Measured | GradeSummary | Grades] = {}
    scores, left = None, {}
    for part, split in found.splits.items():
        samples = predicted_samples(split.records, given, path, split.places, found.labelled.rows)
        metrics[part] = measure(samples, scored=False)
        scores = score_pairs(name, split.records, samples)
        left[part] = len(split.records) - len(samples)
    described = Predicted(
        file=str(path),
        sha256=hash_file(path),
        vocabulary=given.vocabulary,
        verdicts=sum(map(len, given.readings.values())),
        unparsed=given.unparsed,
        odd_rows=OddRows.of(given.odd),
        not_predicted=left,
    )
    report = BenchmarkReport(**_describe(found), scores=scores, predictions=described, metrics=metrics)
    return _written(report, output_dir)


def _check_has_verdicts(name: str) -> None:
    task = find_benchmark(name).task
    if task == "mmvet":
        raise InputError("mm-vet has no verdicts to score: --answers FILE names answers, --grades FILE grades")
    if task == "grade":
        raise InputError(
            f"{name} has no verdicts to score"
            + (": --predictions FILE takes results as RewardBench publishes them" * (name == BEST_OF_FOUR))
        )


def _score_results(name: str, path: Path, output_dir: PathLike | None) -> BenchmarkReport:
    """Of results as RewardBench publishes them, which need no data."""
    from judgelm.benchmark.report import BenchmarkReport, OddRows, Predicted
    from judgelm.benchmark.scored import RESULTS, read_results

    scores, count, odd = read_results(name, path)
    described = Predicted(
        file=str(path),
        sha256=hash_file(path),
        vocabulary=RESULTS,
        verdicts=count,
        unparsed=0,
        odd_rows=OddRows.of(odd),
        not_predicted={},
    )
    nothing = BenchmarkData(name, find_benchmark(name), {}, False, Labelled((), {}, count, ()))
    known = _describe(nothing) | {"rows": {name: count}}
    return _written(BenchmarkReport(**known, predictions=described, scores=scores, metrics={}), output_dir)


def _written(report: BenchmarkReport, output_dir: PathLike | None) -> BenchmarkReport:
    if output_dir is not None:
        report.write(Path(output_dir).expanduser() / REPORT_FILE, indent=2)
    return report


def _describe(data: BenchmarkData) -> dict[str, Any]:
    from judgelm.benchmark.report import DataFile, OddRows

    return {
        "benchmark": data.name,
        "files": {name: DataFile(path=str(path), sha256=hash_file(path)) for name, path in data.files.items()},
        "homes": dict(data.benchmark.homes) if data.fetched else None,
        "licence": data.benchmark.licence,
        "turn": data.turn,
        "by": data.by,
        "rows": {name: len(split.records) for name, split in data.splits.items()},
        "dropped": dict(data.labelled.dropped),
        "odd_rows": OddRows.of(data.labelled.odd),
    }
