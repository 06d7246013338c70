"""`judgelm judge`: a file of answers -> a folder of judgements."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from judgelm.commands.choose import choose_judge, choose_samples, choose_settings
from judgelm.errors import InputError
from judgelm.flags import add_input_arguments, add_model_arguments, add_run_arguments
from judgelm.judge import (
    OUTPUT_FORMATS,
    JudgeChoice,
    Order,
    check_orders,
    judge_folder,
    prepare,
    write_beside,
)
from judgelm.prompt_flags import add_calibration_argument, choose_calibration
from judgelm.samples import has_images

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
    add_run_arguments(parser)
    add_calibration_argument(parser, CALIBRATED)


def run(args: argparse.Namespace) -> None:
    """Judge a file into a folder, then say what came of it."""
    check_orders(args.orders or "forward", args.task)
    settings = replace(choose_settings(args, args.task, args.scores_only), calibration=choose_calibration(args))
    samples = choose_samples(args)[: args.limit]
    if args.output_format == "csv" and has_images(samples):
        raise InputError("--output-format csv: in a cell the parts of images would be a text; parquet can hold them")
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
    if beside := write_beside(found, args.output_format):
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
