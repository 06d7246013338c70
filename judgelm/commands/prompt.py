"""`judgelm prompt`: the prompts a judge would see."""

from __future__ import annotations

import argparse
import sys

from judgelm.flags import add_input_arguments
from judgelm.jsonl import dump_line
from judgelm.judge.settings import check_orders
from judgelm.prompt import render_prompt
from judgelm.samples import read_samples

HELP = "print the prompts a judge would see"
DESCRIPTION = "Print {question_id, prompt} as JSON Lines, for other engines and for a look. Loads no model."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm prompt`."""
    add_input_arguments(parser)
    parser.add_argument("--reverse", action="store_true", help="exchange answers 1 and 2 first")
    parser.add_argument("--seed", type=int, default=0, help="task mmvet: picks among alternative ground truths")


def run(args: argparse.Namespace) -> None:
    """Print them."""
    check_orders("reversed" if args.reverse else "forward", args.task)
    samples = read_samples(
        args.question_file, args.task, reference_file=args.reference_file, num_answers=args.answer_num, seed=args.seed
    )
    for sample in samples:
        shown = sample.swapped() if args.reverse else sample
        sys.stdout.write(dump_line({"question_id": sample.question_id, "prompt": render_prompt(shown, args.task)}))
