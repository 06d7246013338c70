"""`judgelm prompt`: the prompts a judge would see."""

from __future__ import annotations

import argparse
import sys

from judgelm.commands.choose import choose_criteria, choose_samples
from judgelm.flags import add_criteria_argument, add_input_arguments
from judgelm.jsonl import dump_line
from judgelm.judge.settings import JudgeSettings, check_orders
from judgelm.prompt import render_prompt

HELP = "print the prompts a judge would see"
DESCRIPTION = (
    "Print {question_id, prompt} as JSON Lines, with criteria a line for each aspect, for other engines and for a look."
    " Loads no model."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm prompt`."""
    add_input_arguments(parser)
    add_criteria_argument(parser)
    parser.add_argument("--reverse", action="store_true", help="exchange answers 1 and 2 first")
    parser.add_argument("--seed", type=int, default=0, help="task mmvet: picks among alternative ground truths")


def run(args: argparse.Namespace) -> None:
    """Print them."""
    check_orders("reversed" if args.reverse else "forward", args.task)
    settings = JudgeSettings(args.task, criteria=choose_criteria(args))
    for sample in choose_samples(args):
        shown = sample.swapped() if args.reverse else sample
        for aspect in settings.aspects:
            named = {} if aspect is None else {"aspect": aspect.name}
            prompt = render_prompt(shown, args.task, aspect)
            sys.stdout.write(dump_line({"question_id": sample.question_id, **named, "prompt": prompt}))
