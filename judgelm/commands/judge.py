"""`judgelm judge`: a file of answers -> a folder of judgements."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from judgelm.commands.choose import check_scoring, choose_judge, choose_samples, choose_second, choose_settings
from judgelm.commands.tracked import add_tracking_argument, check_tracking, track_judged
from judgelm.console import refuse_flags, sureness
from judgelm.errors import InputError
from judgelm.flags import MODEL_NAMES, add_input_arguments, add_model_arguments, add_run_arguments
from judgelm.judge import (
    OUTPUT_FORMATS,
    JudgeChoice,
    JudgeSettings,
    Order,
    check_orders,
    judge_folder,
    prepare,
    write_beside,
)
from judgelm.judge.cascade import Then, judge_cascade
from judgelm.judge.settings import SCORINGS
from judgelm.label_flags import add_labels_argument
from judgelm.prompt_flags import add_calibration_argument, choose_calibration
from judgelm.samples import Samples, has_images

if TYPE_CHECKING:
    from judgelm.judge.log import OrderFile

HELP = "judge a file of answers into a folder"
CALIBRATED = "; records have them beside the judge's own (task pair, --scoring expected)"
DESCRIPTION = (
    "Judge a file of answers. Writes forward.jsonl, reversed.jsonl and run.json; after any "
    "interruption the same command goes on where it stopped."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm judge`."""
    add_model_arguments(parser)
    add_input_arguments(parser)
    parser.add_argument(
        "--output-dir", required=True, metavar="DIR", help="gets forward.jsonl, reversed.jsonl, run.json"
    )
    parser.add_argument(
        "--output-format",
        default=OUTPUT_FORMATS[0],
        choices=OUTPUT_FORMATS,
        help="once all is judged, write it in this format too, beside the JSON Lines (default: these alone)",
    )
    add_run_arguments(parser, scoring=None, default=" (default: sample; with --then expected)")
    add_calibration_argument(parser, CALIBRATED)
    add_tracking_argument(parser)
    _add_second_arguments(parser)


def _add_second_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a second judge, for what the first is unsure of (task pair)")
    group.add_argument(
        "--then",
        metavar="MODEL",
        help=f"judges the pairs on which --model is less sure than --sure, or contradicts itself once the answers are"
        f" exchanged: {MODEL_NAMES}; both judges' runs are kept in DIR/first and DIR/second",
    )
    group.add_argument(
        "--then-engine",
        choices=("hf", "vllm", "openai"),
        help="what runs it; with openai the flags of a server are those of the second judge, or of both (default: that"
        " of the first)",
    )
    group.add_argument(
        "--then-scoring",
        choices=tuple(SCORINGS),
        help="how it judges (default: expected; with --then-engine openai greedy)",
    )
    group.add_argument(
        "--sure",
        type=sureness,
        metavar="S",
        help="probability of the first judge's verdict, the mean of both orders, from which on the second is not asked,"
        " 0.5 to 1; auto: chosen on one half of the labelled questions, of which the second judges all, and reported on"
        " the other",
    )
    add_labels_argument(group, "--sure auto: ")


def run(args: argparse.Namespace) -> None:
    """Judge a file into a folder, then say what came of it."""
    check_orders(args.orders or "forward", args.task)
    _check_second(args)
    check_tracking(args)
    settings = choose_settings(args, args.task, args.scores_only, "sample" if args.then is None else "expected")
    settings = replace(settings, calibration=choose_calibration(args))
    samples = choose_samples(args)[: args.limit]
    if args.output_format == "csv" and has_images(samples):
        raise InputError("--output-format csv: in a cell the parts of images would be a text; parquet can hold them")
    if args.then is not None:
        _run_cascade(args, samples, settings)
        return
    judge = prepare(choose_judge(args))
    found = judge_folder(
        samples,
        args.output_dir,
        judge,
        settings,
        orders=args.orders,
        model_id=args.model_id,
        keep_judged=args.keep_judged,
    )
    print_judgements(found, len(samples), judge)
    _write_beside(found, args.output_format)
    track_judged(args, Path(args.output_dir).expanduser(), found)


def _check_second(args: argparse.Namespace) -> None:
    if args.then is None:
        of_second = ("then_engine", "then_scoring", "sure", "labels")
        refuse_flags(args, of_second, "is about a second judge: --then MODEL names it")
        return
    if args.sure is None:
        raise InputError("--then needs --sure S, from 0.5 to 1, or --sure auto with --labels FILE")
    if args.calibration is not None:
        raise InputError("--calibration is of one judge, --then names a second: they do not go together")
    if args.labels is not None and args.sure != "auto":
        raise InputError(f"--labels are for --sure auto, found --sure {args.sure:g}")
    if args.orders not in (None, "both"):
        raise InputError(f"--then needs both orders, which tell who contradicts itself: found --orders {args.orders}")


def _run_cascade(args: argparse.Namespace, samples: Samples, settings: JudgeSettings) -> None:
    from judgelm.report.juries import cascade_tables, write_cascade
    from judgelm.report.terminal import cost_line

    engine = args.then_engine or args.engine
    scoring = args.then_scoring or ("greedy" if engine == "openai" else "expected")
    for each, how in ((args.engine, settings.scoring), (engine, scoring)):
        check_scoring(args, each, how)
    first, second = (prepare(each) for each in (choose_judge(args, engine), choose_second(args, args.then, engine)))
    made = judge_cascade(
        samples,
        args.output_dir,
        first,
        settings,
        Then(second, replace(settings, scoring=scoring), None if args.sure == "auto" else args.sure, args.labels),
        model_id=args.model_id,
        keep_judged=args.keep_judged,
    )
    print_judgements(made.found, len(samples), replace(first, prices=None))
    _write_beside(made.found, args.output_format)
    write_cascade(made.cascade, Path(args.output_dir).expanduser())
    print(f"\n{cascade_tables(made.cascade)}")
    paid = [judged for judged, judge in ((made.first, first), (made.second, second)) if judge.prices]
    if prices := first.prices or second.prices:
        print(cost_line([each.counts for judged in paid for each in judged.values()], prices))
    track_judged(args, Path(args.output_dir).expanduser(), made.found)


def _write_beside(found: Mapping[Order, OrderFile], output_format: str) -> None:
    if beside := write_beside(found, output_format):
        print(f"and to {', '.join(map(str, beside))}")


def print_judgements(found: Mapping[Order, OrderFile], num_samples: int, judge: JudgeChoice) -> None:
    """What came of a run: the first judgements, counts, cost, and where it stands."""
    from judgelm.report.terminal import MAX_ROWS, cost_line, counts_line, judgement_table

    print(judgement_table({order: each.first(MAX_ROWS) for order, each in found.items()}, num_samples))
    print()
    for order, each in found.items():
        print(counts_line(order, each.counts))
    if judge.prices:
        print(cost_line([each.counts for each in found.values()], judge.prices))
    print(f"written to {', '.join(str(each.path) for each in found.values())}")
    print_note(judge)


def print_note(judge: JudgeChoice) -> None:
    """What a user of this judge must know, where there is something."""
    if judge.note:
        print(f"note: {judge.note}")
