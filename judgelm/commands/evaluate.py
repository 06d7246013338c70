"""`judgelm evaluate`: judgements -> agreement with a teacher and with themselves."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from judgelm.commands.tracked import add_tracking_argument, check_tracking, track_numbers
from judgelm.console import refuse_flags
from judgelm.errors import InputError
from judgelm.evaluation import (
    Evaluation,
    GradeEvaluation,
    evaluate,
    evaluate_files,
    evaluate_grades,
    judged_task,
)
from judgelm.evaluation.calibrated import check_pairs
from judgelm.flags import add_columns_argument
from judgelm.jsonl import dump_json
from judgelm.label_flags import add_human_argument, check_columns
from judgelm.prompt_flags import add_calibration_argument, choose_calibration
from judgelm.samples import PathLike

if TYPE_CHECKING:
    from judgelm.evaluation.corrections import Corrections

HELP = "compare judgements with a teacher's and under swap"
DESCRIPTION = (
    "Agreement, precision, recall and F1 against a teacher, consistency and bias under swap; of grades (task grade) "
    "correlations with a truth, errors and means. Joined on question_id. The last line of the output is one JSON "
    "object."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm evaluate`."""
    parser.add_argument(
        "folder", nargs="?", metavar="DIR", help="folder that judgelm judge wrote (or --forward and --reversed)"
    )
    parser.add_argument("--forward", metavar="FILE", help="judgements in forward order, where no folder is given")
    parser.add_argument(
        "--reversed", metavar="FILE", help="judgements with answers 1 and 2 exchanged: gives consistency and bias"
    )
    parser.add_argument(
        "--teacher",
        metavar="FILE",
        help="teacher judgements (question_id, text), or people's labels (question_id, label: 1, 2 or 0 for a tie;"
        " annotators: a list of labels): gives agreement, precision, recall, F1; of grades question_id and score or"
        " text (default: what the judged rows bring along)",
    )
    add_human_argument(parser)
    add_columns_argument(parser, "question_id=id,label=winner or, of grades, score=mean")
    add_calibration_argument(parser, ", without judging again; of a folder with its run.json")
    parser.add_argument("--against", metavar="DIR", help="compare with another judge's folder, on the same samples")
    parser.add_argument("--output", metavar="FILE", help="write all numbers with their intervals as JSON")
    add_tracking_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Print all numbers."""
    if (args.folder is None) == (args.forward is None):
        raise InputError("judgelm evaluate takes either a folder that judgelm judge wrote, or --forward FILE")
    if args.folder is not None and args.reversed is not None:
        raise InputError("--reversed goes with --forward; of a folder both orders are read")
    check_columns(args, "teacher", "human")
    if args.calibration is not None and args.folder is None:
        raise InputError("--calibration goes with a folder, whose run.json says whose judgements it holds")
    check_tracking(args)
    place, calibration = args.folder or args.forward, choose_calibration(args)
    if calibration is not None:
        check_pairs(place)
    task = judged_task(place)
    if task == "grade":
        _run_of_grades(args, place)
        return
    if task == "multi" and args.folder is not None:
        _run_of_many(args)
        return
    if args.folder is None:
        evaluation = evaluate_files(args.forward, args.reversed, args.teacher, args.against, args.columns, args.human)
    else:
        evaluation = evaluate(args.folder, args.teacher, args.against, args.columns, args.human, calibration)
    print_evaluation(evaluation, args.teacher, (str(place), str(args.against)))
    if args.output is not None:
        evaluation.document.write(args.output)
    track_numbers(args, place, evaluation.summary.rates)


def _run_of_many(args: argparse.Namespace) -> None:
    """Task multi: mean scores, places, consistency."""
    from judgelm.evaluation.many import read_many
    from judgelm.evaluation.places import summarize_many
    from judgelm.report.many_tables import many_tables

    refuse_flags(args, ("teacher", "human", "against"), f"compares two answers: {args.folder} is of task multi")
    summary = summarize_many(read_many(args.folder))
    print(f"{many_tables(summary)}\n")
    if args.output is not None:
        summary.write(args.output)
    consistency = summary.consistency and summary.consistency.value
    counts = {"total": summary.samples, "unparsed": summary.unparsed.value, "consistency": consistency}
    sys.stdout.write(dump_json(counts) + "\n")
    rates = {"unparsed": summary.unparsed} | ({"consistency": summary.consistency} if summary.consistency else {})
    track_numbers(args, args.folder, rates | {f"score/{each.name}": each.score for each in summary.answers})


def _run_of_grades(args: argparse.Namespace, place: PathLike) -> None:
    holds = f"and {place} holds grades (task grade)"
    refuse_flags(args, ["against"], f"compares two judges of pairs, {holds}")
    refuse_flags(args, ["reversed"], f"is of pairs, {holds}")
    evaluation = evaluate_grades(place, args.teacher, args.columns, args.human)
    print_grades(evaluation, args.teacher)
    if args.output is not None:
        evaluation.document.write(args.output)
    track_numbers(args, place, evaluation.summary.rates)


def print_grades(evaluation: GradeEvaluation, teacher: PathLike | None) -> None:
    """All numbers of grades as tables, and as the last line the rates' values and counts as one JSON object."""
    from judgelm.report.grade_tables import grade_tables

    print(grade_tables(evaluation.summary))
    print_corrections(evaluation.summary.corrected)
    _say_not_judged(evaluation.numbers.get("not_judged"), teacher)
    sys.stdout.write("\n" + dump_json(dict(evaluation.numbers)) + "\n")


def print_corrections(corrected: Corrections | None) -> None:
    """Rates that people's labels corrected, if there are any."""
    if corrected is not None:
        from judgelm.report.corrections import corrected_tables

        print(f"\n{corrected_tables(corrected)}")


def _say_not_judged(count: float | None, teacher: PathLike | None) -> None:
    if count:
        print(f"judgelm: {count} rows of {teacher} have no judgement and do not count", file=sys.stderr)


def print_evaluation(evaluation: Evaluation, teacher: PathLike | None, names: tuple[str, str] = ("", "")) -> None:
    """All numbers as tables, and as the last line the published ones and counts as one JSON object."""
    from judgelm.evaluation.published import PUBLISHED
    from judgelm.evaluation.summary import RATES
    from judgelm.report.alternative import alternative_table
    from judgelm.report.terminal import comparison_table, metrics_table, summary_tables

    print(summary_tables(evaluation.summary))
    if evaluation.summary.alternative is not None:
        print(f"\n{alternative_table(evaluation.summary.alternative)}")
    if evaluation.against is not None:
        print(f"\n{comparison_table(evaluation.against, names)}")
    print_corrections(evaluation.corrected)
    if evaluation.summary.calibration is not None:
        print(f"\nprobabilities are calibrated, by the map {evaluation.summary.calibration}")
    metrics = evaluation.published
    _say_not_judged(metrics.get("not_judged"), teacher)
    # said above, with an interval; the paper's own keys are said by its rules
    said_already = {*RATES, "agreement_both_orders"} - set(PUBLISHED)
    print(f"\n{metrics_table({name: value for name, value in metrics.items() if name not in said_already})}\n")
    sys.stdout.write(dump_json(metrics) + "\n")
