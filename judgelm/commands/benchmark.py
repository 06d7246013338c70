"""`judgelm benchmark`: a judge, or verdicts that are there already, against a benchmark's labels."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgelm.benchmark import (
    BENCHMARKS,
    VOCABULARIES,
    check_benchmark,
    run_benchmark,
    run_benchmarks,
    score_predictions,
)
from judgelm.benchmark.chosen import WAYS
from judgelm.benchmark.readers import TURNS
from judgelm.benchmark.several import ALL, BENCHMARKS_FILE
from judgelm.commands.choose import choose_judge, choose_settings
from judgelm.commands.judge import print_note
from judgelm.console import refuse_flags
from judgelm.errors import InputError, one_line
from judgelm.flags import add_model_arguments, add_run_arguments
from judgelm.jsonl import dump_line
from judgelm.judge import prepare
from judgelm.label_flags import add_vocabulary_argument

if TYPE_CHECKING:
    from judgelm.benchmark import BenchmarkRun
    from judgelm.benchmark.report import BenchmarkReport, OddRows, Predicted

HELP = "measure a judge, or verdicts, on a benchmark"
DESCRIPTION = (
    "Judge a public benchmark or your own labelled pairs and compare with the labels; or score "
    "verdicts that are there already. Tables with 95 % intervals; the last line of the output is one "
    "JSON object. After any interruption the same command goes on where it stopped."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm benchmark`."""
    known = "; ".join(f"{name}: {each.title} ({each.licence})" for name, each in BENCHMARKS.items())
    parser.add_argument(
        "name", metavar="NAME", help=f"{known}; {ALL}: each of these that has a folder or a file of its name in --data"
    )
    parser.add_argument(
        "--data",
        metavar="PATH",
        help="the benchmark's file, or a folder of its files (default: fetched once from its public home and kept in"
        " the user's cache)",
    )
    parser.add_argument(
        "--output-dir",
        metavar="DIR",
        help="gets questions.jsonl, forward.jsonl, reversed.jsonl, run.json, benchmark.json; what is judged in several"
        " runs has a folder for each (needed to judge; with --predictions it gets benchmark.json)",
    )
    parser.add_argument(
        "--turn",
        choices=tuple(TURNS),
        help="mt-bench-human: the turns whose votes count (default: 1); of turn 2 whole conversations are judged",
    )
    parser.add_argument(
        "--by",
        choices=WAYS,
        help="rewardbench2: how the best of four answers is found: each is graded alone, or the right one meets each of"
        " the others in a pair (default: ratings); rows of Ties are always graded",
    )
    _add_given(parser)
    add_model_arguments(parser)
    add_run_arguments(parser)


def _add_given(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("verdicts and answers that are there already")
    group.add_argument(
        "--predictions",
        metavar="FILE",
        help="score these verdicts, no model is loaded: question_id and verdict a row, or as PandaLM, JudgeBench,"
        " LLMBar and Auto-J publish them; of rewardbench and rewardbench2 also results as they publish them, which"
        " need no data",
    )
    add_vocabulary_argument(group, "verdicts of the whole file", "the")
    group.add_argument(
        "--answers", metavar="FILE", help='mm-vet: the vision model\'s answers, {"v1_0": "text", ..}, which are judged'
    )
    group.add_argument(
        "--grades",
        metavar="FILE",
        help='mm-vet: grades from 0 to 1 to compare with, {"v1_0": 0.5, ..}, lists of runs, or GPT-4\'s files',
    )


def run(args: argparse.Namespace) -> None:
    """Judge or score, print a table and as the last line one JSON object, keep the same in benchmark.json."""
    if args.name == ALL:
        _judge_all(args)
        return
    check_benchmark(args.name, args.answers, args.grades, args.turn, args.by)
    if not args.predictions and args.vocabulary is not None:
        raise InputError("--vocabulary says how --predictions FILE is read")
    if args.predictions and args.by is not None:
        raise InputError("--by says what a judge is asked; --predictions FILE has been judged")
    if not args.predictions and args.output_dir is None:
        raise InputError("--output-dir DIR is needed: judgements are kept there")
    report = _score(args) if args.predictions else _judge(args)
    if args.output_dir:
        print(f"written to {Path(args.output_dir).expanduser()}")
    sys.stdout.write(dump_line(report.to_record()))


def _judge(args: argparse.Namespace) -> BenchmarkReport:
    from judgelm.report.terminal import counts_line

    settings = choose_settings(args, "pair", args.scores_only)
    found = run_benchmark(
        args.name,
        args.output_dir,
        choose_judge(args),
        settings,
        data=args.data,
        answers=args.answers,
        grades=args.grades,
        **_how(args),
    )
    for name, judged in found.judged.items():
        for order, each in judged.items():
            print(f"{name}{' ' * bool(name)}{counts_line(order, each.counts)}")
    _print_report(found.report, args.model_id or found.judge.model_id)
    if found.judge.prices:
        print(_cost(found, found.judge.prices))
    print_note(found.judge)
    return found.report


def _how(args: argparse.Namespace) -> dict[str, Any]:
    """What is said of one benchmark, and of all alike."""
    return {name: getattr(args, name) for name in ("turn", "by", "orders", "limit", "model_id", "keep_judged")}


def _cost(found: BenchmarkRun, prices: tuple[float, float]) -> str:
    from judgelm.report.terminal import cost_line

    return cost_line([each.counts for judged in found.judged.values() for each in judged.values()], prices)


def _judge_all(args: argparse.Namespace) -> None:
    """Raises InputError once all is written, where a benchmark could not be run."""
    from judgelm.report.benchmark_tables import benchmarks_table
    from judgelm.report.benchmarks_page import write_benchmarks_page

    refuse_flags(args, ("predictions", "vocabulary", "answers", "grades"), f"is for one benchmark, not for {ALL}")
    if args.data is None or args.output_dir is None:
        raise InputError(f"{ALL} needs --data DIR, with a folder or a file for each benchmark, and --output-dir DIR")
    judge = prepare(choose_judge(args))
    report = run_benchmarks(
        args.data,
        args.output_dir,
        judge,
        choose_settings(args, "pair", args.scores_only),
        on_end=_say_end,
        **_how(args),
    )
    place = Path(args.output_dir).expanduser()
    written = write_benchmarks_page(report, place)
    print(f"{benchmarks_table(report)}\n")
    print_note(judge)
    print(f"written to {written.page}, {written.markdown} and {place / BENCHMARKS_FILE}")
    sys.stdout.write(dump_line(report.to_record()))
    if report.failed:
        raise InputError(f"{len(report.failed)} benchmarks could not be run: {', '.join(report.failed)}")


def _say_end(name: str, found: BenchmarkRun | InputError) -> None:
    if isinstance(found, InputError):
        said = f"could not be run: {one_line(str(found))}"
    else:
        said = "done" + (f", {_cost(found, found.judge.prices)}" if found.judge.prices else "")
    print(f"judgelm: {name}: {said}", file=sys.stderr)


def _score(args: argparse.Namespace) -> BenchmarkReport:
    report = score_predictions(
        args.name, args.predictions, args.vocabulary, data=args.data, turn=args.turn, output_dir=args.output_dir
    )
    given = report.predictions
    _print_report(report, Path(args.predictions).name)
    if given is not None:
        _print_odd(given.odd_rows)
        _print_predicted(given)
    return report


def _print_predicted(given: Predicted) -> None:
    if given.vocabulary not in VOCABULARIES:
        print(f"{given.verdicts} rows of published {given.vocabulary}")
        return
    print(f"verdicts read as {given.vocabulary}: {VOCABULARIES[given.vocabulary].help}")
    print(f"{given.verdicts} verdicts, {given.unparsed} unparsed; rows without one: {given.not_predicted}")


def _print_report(report: BenchmarkReport, judge: str) -> None:
    from judgelm.report.benchmark_tables import report_tables

    for table in report_tables(report, judge):
        print(table)
    _print_odd(report.odd_rows)


def _print_odd(odd: OddRows) -> None:
    if odd.count:
        print(f"rows left out because they cannot be read: {odd.count}", *odd.first, sep="\n  ")
