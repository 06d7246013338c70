"""`judgelm judge`: a file of answers -> a folder of judgements."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from judgelm.commands.choose import ChosenJudge, choose_judge
from judgelm.files import hash_file
from judgelm.flags import (
    add_input_arguments,
    add_judging_arguments,
    add_keep_judged_argument,
    add_model_arguments,
    add_orders_argument,
    add_scores_only_argument,
)
from judgelm.judge.log import Judgements
from judgelm.judge.run import RunFiles, run_judge
from judgelm.judge.settings import JudgeSettings, Order, check_orders
from judgelm.report.terminal import MAX_ROWS, cost_line, counts_line, judgement_table
from judgelm.sample import Sample
from judgelm.samples import Samples, find_task, read_samples

HELP = "judge a JSONL file of answers into a folder"
DESCRIPTION = (
    "Judge a JSONL file of answers. Writes forward.jsonl, reversed.jsonl and run.json; after any "
    "interruption the same command goes on where it stopped."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm judge`."""
    add_model_arguments(parser)
    add_input_arguments(parser)
    parser.add_argument(
        "--output-dir", required=True, metavar="DIR", help="gets forward.jsonl, reversed.jsonl, run.json"
    )
    add_orders_argument(parser)
    add_scores_only_argument(parser)
    add_judging_arguments(parser)
    add_keep_judged_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Judge a file into a folder, then say what came of it."""
    task = find_task(args.task).name
    orders = check_orders(args.orders or ("both" if task == "pair" else "forward"), task)
    judge_into_folder(args, task, orders)


def judge_into_folder(args: argparse.Namespace, task: str, orders: Sequence[Order]) -> None:
    """Judge `args.question_file` into `args.output_dir`, and print what came of it."""
    samples = read_questions(args, task)[: args.limit]
    files = RunFiles.in_folder(Path(args.output_dir).expanduser(), orders)
    chosen = choose_judge(args)
    found = judge_samples(args, chosen, task, args.scores_only, samples, files)
    print(judgement_table({order: each.first(MAX_ROWS) for order, each in found.items()}, len(samples)))
    print()
    for order, each in found.items():
        print(counts_line(order, each.counts))
    if chosen.prices:
        print(cost_line([each.counts for each in found.values()], chosen.prices))
    print(f"written to {', '.join(str(path) for path in files.outputs.values())}")
    print_note(chosen)


def read_questions(args: argparse.Namespace, task: str) -> Samples:
    """The samples that the flags ask for."""
    return read_samples(
        args.question_file,
        task,
        reference_file=args.reference_file,
        num_answers=args.answer_num,
        begin=args.question_begin,
        end=args.question_end,
        seed=args.seed,
    )


def judge_samples(
    args: argparse.Namespace,
    chosen: ChosenJudge,
    task: str,
    scores_only: bool,
    samples: Sequence[Sample],
    files: RunFiles,
    **more: Any,
) -> dict[Order, Judgements]:
    """Judge samples of `args.question_file` with the judge that was chosen; `more` must be the same to go on too."""
    described: dict[str, Any] = {
        **chosen.described,
        "question_file_sha256": hash_file(args.question_file),
        "reference_file_sha256": hash_file(args.reference_file) if args.reference_file else None,
        "answer_num": args.answer_num,
        **more,
    }
    settings = JudgeSettings(
        task, scores_only, args.temperature, args.max_new_token, args.seed, chosen.constrained, args.scoring
    )
    model_id = args.model_id or Path(chosen.name).name
    return run_judge(chosen.load, samples, settings, files, described, model_id, args.keep_judged)


def print_note(chosen: ChosenJudge) -> None:
    """What a user of this judge must know, where there is something."""
    if chosen.note:
        print(f"note: {chosen.note}")
