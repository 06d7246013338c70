"""`judgelm benchmark`: a judge, or verdicts that are there already, against a benchmark's labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgelm.benchmark.files import find_benchmark, find_files
from judgelm.benchmark.sets import ANSWERS, BENCHMARKS, GRADES, Benchmark, Files, Labelled, Part
from judgelm.benchmark.vocabularies import VOCABULARIES
from judgelm.errors import InputError, one_line
from judgelm.files import write_text
from judgelm.flags import (
    add_judging_arguments,
    add_keep_judged_argument,
    add_model_arguments,
    add_orders_argument,
    add_scores_only_argument,
)
from judgelm.jsonl import LineFile, dump_json, dump_line
from judgelm.judge.settings import Order

if TYPE_CHECKING:
    from judgelm.judge.choice import JudgeChoice
    from judgelm.judge.log import OrderFile

HELP = "measure a judge, or verdicts, on a benchmark"
DESCRIPTION = (
    "Judge a public benchmark or your own labelled pairs and compare with the labels; or score "
    "verdicts that are there already. Tables with 95 % intervals; the last line of the output is one "
    "JSON object. After any interruption the same command goes on where it stopped."
)


_SHOWN = 5
"""rows that cannot be read of which it is said why"""
_VERDICTS = "; ".join(f"{name}: {each.help}" for name, each in VOCABULARIES.items())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm benchmark`."""
    known = "; ".join(f"{name}: {each.title} ({each.licence})" for name, each in BENCHMARKS.items())
    parser.add_argument("name", metavar="NAME", help=known)
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="the benchmark's file, or a folder of its files (default: fetched once from its public home and kept in"
        " the user's cache)",
    )
    parser.add_argument(
        "--output-dir",
        metavar="DIR",
        help="gets questions.jsonl, forward.jsonl, reversed.jsonl, run.json, benchmark.json; judgelm-val has a folder"
        " for each setting (needed to judge; with --predictions it gets benchmark.json)",
    )
    group = parser.add_argument_group("verdicts and answers that are there already")
    group.add_argument(
        "--predictions",
        metavar="FILE",
        help="score these verdicts, no model is loaded: question_id and verdict a row, or as PandaLM, JudgeBench,"
        " LLMBar and Auto-J publish them",
    )
    group.add_argument(
        "--vocabulary",
        choices=tuple(VOCABULARIES),
        help=f"what the verdicts of the whole file mean: {_VERDICTS} (default: found from the file's words)",
    )
    group.add_argument(
        "--answers", metavar="FILE", help='mm-vet: the vision model\'s answers, {"v1_0": "text", ..}, which are judged'
    )
    group.add_argument(
        "--grades",
        metavar="FILE",
        help='mm-vet: grades from 0 to 1 to compare with, {"v1_0": 0.5, ..}, lists of runs, or GPT-4\'s files',
    )
    add_model_arguments(parser)
    add_orders_argument(parser)
    add_scores_only_argument(parser)
    add_judging_arguments(parser)
    add_keep_judged_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Judge or score, print a table and as the last line one JSON object, keep the same in benchmark.json."""
    from judgelm.files import hash_file

    benchmark = find_benchmark(args.name)
    _check_flags(args, benchmark)
    more = {ANSWERS: args.answers, GRADES: args.grades}
    named = {name: Path(path).expanduser() for name, path in more.items() if path is not None}
    files: Files = {**find_files(args.name, args.data), **named}
    found = benchmark.read(files)
    if not any(part.records for part in found.parts):
        raise InputError(f"benchmark {args.name}: no row has a label")
    report: dict[str, Any] = {
        "benchmark": args.name,
        "files": {name: {"path": str(path), "sha256": hash_file(path)} for name, path in files.items()},
        "homes": None if args.data else dict(benchmark.homes),
        "licence": benchmark.licence,
        "rows": {part.name or args.name: len(part.records) for part in found.parts},
        "dropped": dict(found.dropped),
        "odd_rows": _odd_rows(found.odd),
    }
    report |= _score_predictions(args, found) if args.predictions else _judge(args, benchmark, found)
    if args.output_dir:
        place = Path(args.output_dir).expanduser() / "benchmark.json"
        write_text(place, dump_json(report, indent=2) + "\n")
        print(f"written to {place.parent}")
    sys.stdout.write(dump_line(report))


def _check_flags(args: argparse.Namespace, benchmark: Benchmark) -> None:
    graded = benchmark.task == "mmvet"
    for name in (ANSWERS, GRADES):
        if vars(args)[name] is not None and not graded:
            raise InputError(f"--{name} is for mm-vet, not for {args.name}")
    if args.predictions is None:
        if args.vocabulary is not None:
            raise InputError("--vocabulary says how --predictions FILE is read")
        if args.output_dir is None:
            raise InputError("--output-dir DIR is needed: judgements are kept there")
    elif graded:
        raise InputError("mm-vet has no verdicts to score: --answers FILE names answers, --grades FILE grades")


def _judge(args: argparse.Namespace, benchmark: Benchmark, found: Labelled) -> dict[str, Any]:
    """Judge each part into its folder, all with one judge."""
    from judgelm.commands.choose import choose_judge
    from judgelm.commands.judge import print_note
    from judgelm.judge.choice import prepare
    from judgelm.report.terminal import cost_line, counts_line

    # loaded for the first part that has anything left to judge
    chosen = prepare(choose_judge(args))
    metrics, counts = {}, []
    for part in found.parts:
        folder = Path(args.output_dir).expanduser() / part.name
        judged = _judge_part(args, benchmark, part, folder, chosen)
        for order, each in judged.items():
            print(f"{part.name}{' ' * bool(part.name)}{counts_line(order, each.counts)}")
        counts += [each.counts for each in judged.values()]
        metrics[part.name or args.name] = _measure_part(benchmark, part, folder)
    _print_metrics(metrics, args.model_id or chosen.model_id)
    _print_dropped(found)
    if chosen.prices:
        print(cost_line(counts, chosen.prices))
    print_note(chosen)
    return {"judge": args.model_id or chosen.name, "metrics": metrics}


def _judge_part(
    args: argparse.Namespace, benchmark: Benchmark, part: Part, folder: Path, judge: JudgeChoice
) -> dict[Order, OrderFile]:
    from judgelm.commands.choose import choose_settings
    from judgelm.judge.folder import judge_folder
    from judgelm.judge.kept import keep_questions
    from judgelm.samples import read_samples

    questions_file = folder / "questions.jsonl"
    keep_questions(questions_file, part.records, args.keep_judged, "is of other data")
    samples = read_samples(questions_file, benchmark.task, reference_file=part.reference, seed=args.seed)[: args.limit]
    return judge_folder(
        samples,
        folder,
        judge,
        choose_settings(args, benchmark.task, args.scores_only),
        orders=args.orders,
        model_id=args.model_id,
        keep_judged=args.keep_judged,
    )


def _measure_part(benchmark: Benchmark, part: Part, folder: Path) -> dict[str, Any]:
    """All that is judged in a part's folder: with a teacher the published metrics too."""
    from judgelm.benchmark.measure import measure, measure_grades
    from judgelm.evaluation.evaluate import evaluate_files
    from judgelm.evaluation.results import read_folder

    if benchmark.task == "mmvet":
        return measure_grades(LineFile(folder / "forward.jsonl"))
    measured = measure(read_folder(folder))
    forward, back = folder / "forward.jsonl", folder / "reversed.jsonl"
    if part.teacher is not None and forward.exists():
        measured["published"] = evaluate_files(forward, back if back.exists() else None, part.teacher)
    return measured


def _score_predictions(args: argparse.Namespace, found: Labelled) -> dict[str, Any]:
    from judgelm.benchmark.measure import measure
    from judgelm.benchmark.predictions import predicted_samples, read_predictions
    from judgelm.files import hash_file

    path = Path(args.predictions).expanduser()
    predictions = read_predictions(path, args.vocabulary)
    metrics, left = {}, {}
    for part in found.parts:
        name = part.name or args.name
        samples = predicted_samples(part.records, predictions, path, part.places, found.rows)
        metrics[name] = measure(samples, scored=False)
        left[name] = len(part.records) - len(samples)
    _print_metrics(metrics, path.name)
    _print_dropped(found)
    _print_odd(predictions.odd)
    print(f"verdicts read as {predictions.vocabulary}: {VOCABULARIES[predictions.vocabulary].help}")
    verdicts = sum(map(len, predictions.given.values()))
    print(f"{verdicts} verdicts, {predictions.unparsed} unparsed; rows without one: {left}")
    described = {
        "file": str(path),
        "sha256": hash_file(path),
        "vocabulary": predictions.vocabulary,
        "verdicts": verdicts,
        "unparsed": predictions.unparsed,
        "odd_rows": _odd_rows(predictions.odd),
        "not_predicted": left,
    }
    return {"predictions": described, "metrics": metrics}


def _print_metrics(metrics: Mapping[str, dict[str, Any]], judge: str) -> None:
    from judgelm.report.benchmark_tables import grades_table, published_table
    from judgelm.report.summary_tables import summary_tables

    for name, measured in metrics.items():
        print(f"{name}\n{summary_tables(measured) if 'rates' in measured else grades_table(measured)}\n")
    published = {name: measured["published"] for name, measured in metrics.items() if "published" in measured}
    if published:
        print(f"{published_table(published, judge)}\n")


def _print_dropped(found: Labelled) -> None:
    if any(found.dropped.values()):
        print(f"rows left out: {', '.join(f'{count} {reason}' for reason, count in found.dropped.items() if count)}")
    _print_odd(found.odd)


def _print_odd(odd: Sequence[str]) -> None:
    if odd:
        print("\n".join((f"rows left out because they cannot be read: {len(odd)}", *map(_shown, odd[:_SHOWN]))))


def _odd_rows(odd: Sequence[str]) -> dict[str, Any]:
    return {"count": len(odd), "first": [one_line(each) for each in odd[:_SHOWN]]}


def _shown(odd: str) -> str:
    return f"  {one_line(odd)}"
