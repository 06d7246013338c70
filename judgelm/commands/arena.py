"""`judgelm arena`: answer files of many models -> all pairs, judged in both orders, and a ranking."""

from __future__ import annotations

import argparse
from dataclasses import replace

from judgelm.commands.choose import choose_judge, choose_settings
from judgelm.commands.judge import CALIBRATED, print_judgements
from judgelm.commands.rank import add_ranking_arguments, choose_ranking, write_ranking
from judgelm.commands.tracked import add_tracking_argument, check_tracking, track_arena
from judgelm.console import at_least
from judgelm.flags import (
    add_answers_arguments,
    add_model_arguments,
    add_run_arguments,
)
from judgelm.prompt_flags import add_calibration_argument, choose_calibration

HELP = "judge many models' answers in pairs and rank them"
DESCRIPTION = (
    "Make pairs from the answer files of two or more models, judge them in both orders and rank the "
    "models. After any interruption the same command goes on where it stopped."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm arena`."""
    add_answers_arguments(parser)
    parser.add_argument(
        "--pairs-per-question",
        type=at_least(1),
        metavar="N",
        help="judge only N pairs of models for each question, drawn by --seed (default: all)",
    )
    parser.add_argument(
        "--output-dir",
        required=True,
        metavar="DIR",
        help="gets questions.jsonl, forward.jsonl, reversed.jsonl, run.json, ranking.json, ranking.svg",
    )
    add_ranking_arguments(parser)
    add_model_arguments(parser)
    add_run_arguments(parser, orders=False)
    add_calibration_argument(parser, CALIBRATED)
    add_tracking_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Pair, judge what is not judged yet, and rank."""
    from judgelm.ranking import run_arena
    from judgelm.report.ranking_table import describe

    check_tracking(args)
    settings = replace(choose_settings(args, "pair", args.scores_only), calibration=choose_calibration(args))
    arena = run_arena(
        args.answers,
        args.output_dir,
        choose_judge(args),
        settings,
        choose_ranking(args),
        pairs_per_question=args.pairs_per_question,
        limit=args.limit,
        model_id=args.model_id,
        keep_judged=args.keep_judged,
        columns=args.columns,
        question_file=args.question_file,
        keep_thinking=args.keep_thinking,
    )
    print_judgements(arena.judged, arena.num_pairs, arena.judge)
    print(f"\n{describe(arena.ranking)}")
    write_ranking(arena.ranking, arena.folder)
    track_arena(args, arena.folder, arena.ranking)
