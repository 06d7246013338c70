"""The `judgelm` command: one subcommand a job. Heavy imports wait until a job needs them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from judgelm import __version__
from judgelm.console import Parser, run_main
from judgelm.jsonl import dump_line
from judgelm.llm_judge import arena_command, audit_command, benchmark_command, rank_command, report_command
from judgelm.llm_judge.arguments import (
    add_check_arguments,
    add_evaluate_arguments,
    add_judge_arguments,
    add_merge_arguments,
    add_prompt_arguments,
)
from judgelm.llm_judge.judge import check_orders
from judgelm.prompt import render_prompt
from judgelm.reading import find_task, read_samples
from judgelm.serve.arguments import add_serve_arguments


def build_parser() -> Parser:
    """The command line, from which docs/cli.md is written too."""
    parser = Parser(prog="judgelm", description="Judge the answers of language models with language models.")
    parser.add_argument("--version", action="version", version=f"judgelm {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, help: str, description: str, **settings: Any) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=description, **settings)

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

    benchmark = add(
        "benchmark",
        "measure a judge, or verdicts, on a benchmark",
        "Judge a public benchmark or your own labelled pairs and compare with the labels; or score verdicts that are"
        " there already. Tables with 95 % intervals; the last line of the output is one JSON object. After any"
        " interruption the same command goes on where it stopped.",
    )
    benchmark_command.add_arguments(benchmark)
    benchmark.set_defaults(run=benchmark_command.run)

    report = add(
        "report",
        "write a page about a judged folder",
        "Write one HTML page about D, a folder of judgelm judge, that needs no network, and the same in Markdown:"
        " agreement, position, calibration, and the samples to read. The folder's audit.json and ranking.json are shown"
        " too where there are any.",
    )
    report_command.add_arguments(report)
    report.set_defaults(run=report_command.run)

    rank = add(
        "rank",
        "rank many models from pairwise judgements",
        "Win rates, Bradley-Terry and Elo ratings with their intervals, who wins against whom, and which models cannot"
        " be told apart yet. Ratings: 400 points more are odds of ten to one, the mean is 1000.",
    )
    rank_command.add_arguments(rank)
    rank.set_defaults(run=rank_command.run)

    arena = add(
        "arena",
        "judge many models' answers in pairs and rank them",
        "Make pairs from the answer files of two or more models, judge them in both orders and rank the models. After"
        " any interruption the same command goes on where it stopped.",
    )
    arena_command.add_arguments(arena)
    arena.set_defaults(run=arena_command.run)

    audit = add(
        "audit",
        "measure a judge's biases",
        "Measure what moves a judge that should not: position, length, format, references, self-preference, injected"
        " instructions, chance. Each check has an effect, its 95 % interval over questions and a verdict against a"
        " threshold. Writes audit.json; after any interruption the same command goes on where it stopped.",
    )
    audit_command.add_arguments(audit)
    audit.set_defaults(run=audit_command.run)

    train = add(
        "train",
        "fine-tune a judge on this machine",
        "Fine-tune a judge on teacher judgements, on the GPUs of this machine or its CPU. All other flags are those of"
        " the training script: judgelm train --help lists them. A second start with the same flags goes on from the"
        " last checkpoint.",
        add_help=False,
    )
    train.add_argument("--lora", action="store_true", help="train a LoRA adapter instead of the whole model")
    train.add_argument("--nproc", type=int, metavar="N", help="processes (default: one for each GPU, else one)")
    train.set_defaults(run=_train, parser=train)

    train_data = add("train-data", "look at training rows", "Look at training rows before they are trained on.")
    checks = train_data.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=Parser)
    check = checks.add_parser(
        "check",
        help="count what a training file holds",
        description="Count rows, skipped rows, scores, double rows and questions shared with a validation file. Exit"
        " code 1 where a share is above its threshold.",
    )
    add_check_arguments(check)
    check.set_defaults(run=_check)

    merge = add(
        "merge",
        "merge a LoRA adapter into its base",
        "Write a model folder in which an adapter's update is part of the weights: it loads faster, and where peft is"
        " not known.",
    )
    add_merge_arguments(merge)
    merge.set_defaults(run=_merge)

    serve = add(
        "serve",
        "serve judges: a web page and an API",
        "Start a controller, a worker for each model, the API and the web page, each a process with its own log, and"
        " stop them all with Ctrl-C.",
    )
    add_serve_arguments(serve)
    serve.set_defaults(run=_serve)

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


def _train(args: argparse.Namespace) -> None:
    from judgelm.train.launch import launch

    if {"-h", "--help"} & set(args.flags):
        args.parser.print_help()
        print("\nflags of the training script:\n")
    launch(args.flags, args.lora, args.nproc)


def _serve(args: argparse.Namespace) -> None:
    from judgelm.serve.launch import serve_command

    serve_command(args)


def _check(args: argparse.Namespace) -> None:
    from judgelm.train.commands import check_command

    check_command(args)


def _merge(args: argparse.Namespace) -> None:
    from judgelm.train.commands import merge_command

    merge_command(args)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the command."""

    def command() -> None:
        parser = build_parser()
        args, flags = parser.parse_known_args(argv)
        if flags and args.command != "train":
            parser.error(f"unrecognized arguments: {' '.join(flags)}")
        args.flags = flags
        args.run(args)

    run_main(command, argv=argv)
