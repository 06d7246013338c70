"""A judge, or verdicts that are there already, against a benchmark's labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgelm.benchmark.files import find_files
from judgelm.benchmark.readers import ANSWERS, GRADES, TURNS, Files, Labelled, Split, read_mt_bench_human
from judgelm.benchmark.sets import Benchmark, find_benchmark
from judgelm.errors import InputError
from judgelm.files import hash_file
from judgelm.jsonl import LineFile
from judgelm.judge import JudgeChoice, JudgeSettings, ModelChoice, Order, judge_folder, prepare
from judgelm.samples import PathLike, Samples, read_samples

if TYPE_CHECKING:
    from judgelm.benchmark.report import BenchmarkReport, Grades, Measured
    from judgelm.engine.openai.server import Server
    from judgelm.judge.log import OrderFile

REPORT_FILE = "benchmark.json"
MT_BENCH = "mt-bench-human"


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
    name: str, answers: PathLike | None = None, grades: PathLike | None = None, turn: str | None = None
) -> Benchmark:
    """The benchmark of that name. Raises InputError for an unknown one, files and a turn that are not for it."""
    benchmark = find_benchmark(name)
    for what, path in ((ANSWERS, answers), (GRADES, grades)):
        if path is not None and benchmark.task != "mmvet":
            raise InputError(f"--{what} is for mm-vet, not for {name}")
    if turn is not None and name != MT_BENCH:
        raise InputError(f"--turn is for {MT_BENCH}, not for {name}")
    if turn is not None and turn not in TURNS:
        raise InputError(f"unknown turn {turn!r}, expected one of {', '.join(TURNS)}")
    return benchmark


def read_benchmark(
    name: str,
    data: PathLike | None = None,
    *,
    answers: PathLike | None = None,
    grades: PathLike | None = None,
    turn: str | None = None,
) -> BenchmarkData:
    """A benchmark's samples, of its files.

    Args:
        name: one of `BENCHMARKS`.
        data: its file, or a folder of its files (default: fetched once from their public home, and kept).
        answers: mm-vet: the vision model's answers, {"v1_0": "text", ..}.
        grades: mm-vet: grades from 0 to 1 to compare with, {"v1_0": 0.5, ..}.
        turn: mt-bench-human: the turns whose votes count, 1, 2 or both (default: 1).

    Raises InputError for an unknown name, files that are not there, cannot be fetched or read, and rows without labels.
    """
    benchmark = check_benchmark(name, answers, grades, turn)
    named = {ANSWERS: answers, GRADES: grades}
    given = {what: Path(path).expanduser() for what, path in named.items() if path is not None}
    files = {**find_files(name, data), **given}
    if name == MT_BENCH:
        turn = turn or "1"
        benchmark = replace(benchmark, read=partial(read_mt_bench_human, turns=TURNS[turn]))
    found = benchmark.read(files)
    if not any(split.records for split in found.splits):
        raise InputError(f"benchmark {name}: no row has a label")
    return BenchmarkData(name, benchmark, files, data is None, found, turn)


def run_benchmark(
    name: str,
    output_dir: PathLike,
    judge: ModelChoice | Server | JudgeChoice,
    settings: JudgeSettings | None = None,
    *,
    data: PathLike | None = None,
    answers: PathLike | None = None,
    grades: PathLike | None = None,
    turn: str | None = None,
    orders: str | None = None,
    limit: int | None = None,
    model_id: str | None = None,
    keep_judged: bool = False,
) -> BenchmarkRun:
    """Judge what is not judged yet of a benchmark, compare with its labels, and write benchmark.json.

    Args:
        name, data, answers, grades, turn: see `read_benchmark`.
        output_dir: gets questions.jsonl, forward.jsonl, reversed.jsonl, run.json, benchmark.json; with several splits
            each has a folder there. A run that was ended goes on.
        settings: how samples are judged; the task is the benchmark's.
        orders: forward, reversed or both (default: both, of mm-vet forward).
        limit: judge only the first samples of each split.
        model_id: name of the judge in the records (default: the model's).
        keep_judged: go on though samples were removed, changed or added.

    Raises InputError as `read_benchmark` and `judge_folder` do, and where no row judged has a label.
    """
    from judgelm.benchmark.report import BenchmarkReport
    from judgelm.judge.kept import keep_questions

    found = read_benchmark(name, data, answers=answers, grades=grades, turn=turn)
    # loaded for the first split that has anything left to judge
    chosen, settings = prepare(judge), replace(settings or JudgeSettings(), task=found.benchmark.task)
    metrics: dict[str, Measured | Grades] = {}
    judged, place = {}, Path(output_dir).expanduser()
    for part, split in found.splits.items():
        folder = place / split.name
        questions = folder / "questions.jsonl"
        keep_questions(questions, split.records, keep_judged, "is of other data")
        samples = _read_samples(questions, split, settings)[:limit]
        judged[split.name] = judge_folder(
            samples, folder, chosen, settings, orders=orders, model_id=model_id, keep_judged=keep_judged
        )
        metrics[part] = _measure(found.benchmark, split, folder)
    report = BenchmarkReport(**_describe(found), judge=model_id or chosen.name, metrics=metrics)
    report.write(place / REPORT_FILE, indent=2)
    return BenchmarkRun(report, judged, chosen)


def _read_samples(questions: Path, split: Split, settings: JudgeSettings) -> Samples:
    """Answers are judged as the benchmark has them, thoughts included."""
    return read_samples(
        questions, settings.task, reference_file=split.reference, seed=settings.seed, keep_thinking=True
    )


def _measure(benchmark: Benchmark, split: Split, folder: Path) -> Measured | Grades:
    """All that is judged in a split's folder: with a teacher the published metrics too."""
    from judgelm.benchmark.report import measure, measure_grades
    from judgelm.evaluation.evaluation import measure_files
    from judgelm.evaluation.results import read_folder

    forward, back = folder / "forward.jsonl", folder / "reversed.jsonl"
    if benchmark.task == "mmvet":
        return measure_grades(LineFile(forward))
    samples = read_folder(folder)
    if split.teacher is None or not forward.exists():
        return measure(samples)
    return measure(samples, published=measure_files(forward, back if back.exists() else None, split.teacher))


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
        predictions: rows of `question_id` and `verdict`, or as PandaLM, JudgeBench, LLMBar and Auto-J publish them.
        vocabulary: one of `VOCABULARIES`, what the verdicts mean (default: found from the file's words).
        output_dir: gets benchmark.json.

    Raises InputError as `read_benchmark`, for a file that cannot be read or joined, and where its words are not clear.
    """
    from judgelm.benchmark.predictions import predicted_samples, read_predictions
    from judgelm.benchmark.report import BenchmarkReport, OddRows, Predicted, measure

    if find_benchmark(name).task == "mmvet":
        raise InputError("mm-vet has no verdicts to score: --answers FILE names answers, --grades FILE grades")
    path = Path(predictions).expanduser()
    found = read_benchmark(name, data, turn=turn)
    given = read_predictions(path, vocabulary)
    metrics: dict[str, Measured | Grades] = {}
    left = {}
    for part, split in found.splits.items():
        samples = predicted_samples(split.records, given, path, split.places, found.labelled.rows)
        metrics[part] = measure(samples, scored=False)
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
    report = BenchmarkReport(**_describe(found), predictions=described, metrics=metrics)
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
        **({} if data.turn is None else {"turn": data.turn}),
        "rows": {name: len(split.records) for name, split in data.splits.items()},
        "dropped": dict(data.labelled.dropped),
        "odd_rows": OddRows.of(data.labelled.odd),
    }
