"""The `judgelm` command: one subcommand a job. Heavy imports wait until a job needs them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from judgelm import __version__
from judgelm.jsonl import dump_line
from judgelm.llm_judge.arguments import (
    Parser,
    add_evaluate_arguments,
    add_judge_arguments,
    add_prompt_arguments,
    run_main,
)
from judgelm.llm_judge.judge import check_orders
from judgelm.prompt import render_prompt
from judgelm.reading import find_task, read_samples


def build_parser() -> Parser:
    """The command line, from which docs/cli.md is written too."""
    parser = Parser(prog="judgelm", description="Judge the answers of language models with language models.")
    parser.add_argument("--version", action="version", version=f"judgelm {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, help: str, description: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=description)

    judge = add(
        "judge",
        "judge a JSONL file of answers into a folder",
        "Judge a JSONL file of answers. Writes forward.jsonl, reversed.jsonl and run.json; after any interruption the"
        " same command goes on where it stopped.",
    )
    add_judge_arguments(judge)
    judge.set_defaults(run=_judge, question_begin=None, question_end=None)

    evaluate = add(
        "evaluate",
        "compare judgements with a teacher's and under swap",
        "Agreement, precision, recall and F1 against a teacher, consistency and bias under swap; joined on question_id."
        " The last line of the output is one JSON object.",
    )
    add_evaluate_arguments(evaluate)
    evaluate.set_defaults(run=_evaluate)

    prompt = add(
        "prompt",
        "print the prompts a judge would see",
        "Print {question_id, prompt} as JSON Lines, for other engines and for a look. Loads no model.",
    )
    add_prompt_arguments(prompt)
    prompt.set_defaults(run=_prompt)
    return parser


def _judge(args: argparse.Namespace) -> None:
    from judgelm.llm_judge.commands import judge_command

    judge_command(args)


def _evaluate(args: argparse.Namespace) -> None:
    from judgelm.llm_judge.commands import evaluate_command

    evaluate_command(args)


def _prompt(args: argparse.Namespace) -> None:
    task = find_task(args.task).name
    check_orders("reversed" if args.reverse else "forward", task)
    samples = read_samples(
        args.question_file, task, reference_file=args.reference_file, num_answers=args.answer_num, seed=args.seed
    )
    for sample in samples:
        shown = sample.swapped() if args.reverse else sample
        sys.stdout.write(dump_line({"question_id": sample.question_id, "prompt": render_prompt(shown, task)}))


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the command."""

    def command() -> None:
        args = build_parser().parse_args(argv)
        args.run(args)

    run_main(command)
