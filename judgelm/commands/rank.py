"""`judgelm rank`: judgements of many models' answers -> a ranking."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from judgelm.flags import add_columns_argument
from judgelm.label_flags import add_human_argument, check_columns
from judgelm.prompt_flags import add_calibration_argument, choose_calibration

if TYPE_CHECKING:
    from judgelm.ranking import RankSettings
    from judgelm.ranking.ranking import Ranking

HELP = "rank many models from judgements of two or more answers, or from grades"
DESCRIPTION = (
    "Win rates, Bradley-Terry and Elo ratings with their intervals, who wins against whom, and which "
    "models cannot be told apart yet. Ratings: 400 points more are odds of ten to one, the mean is "
    "1000."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm rank`."""
    parser.add_argument(
        "--judgements",
        required=True,
        nargs="+",
        metavar="DIR",
        help="folders that judgelm judge wrote, or single files in forward order; the records name the models in"
        " answer1_model_id and answer2_model_id, of many answers (task multi) answer3_model_id .. too, and each two of"
        " a sample are compared; of grades (task grade) in answer_model_id, answer1_model_id or model, and each two"
        " answers to one question are compared",
    )
    parser.add_argument("--output-dir", metavar="DIR", help="gets ranking.json and ranking.svg")
    add_ranking_arguments(parser)
    add_human_argument(parser)
    add_columns_argument(parser, "question_id=id,label=winner")
    add_calibration_argument(parser, ", without judging again; of folders with their run.json")
    parser.add_argument("--seed", type=int, default=0, help="of the intervals and of the order in which Elo reads")


def add_ranking_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that say how judgements become a ranking."""
    parser.add_argument(
        "--outcomes",
        choices=("hard", "soft"),
        default="hard",
        help="hard: a win where both orders agree, a tie where they contradict (of calibrated judgements by the map's"
        " threshold); soft: the mean probabilities of win,"
        " tie and loss, which --scoring expected gives",
    )
    parser.add_argument(
        "--length-control",
        action="store_true",
        help="take out what the answers' lengths do: ratings, and win rates at equal length, by logistic regression",
    )


def choose_ranking(args: argparse.Namespace) -> RankSettings:
    """How judgements become a ranking."""
    from judgelm.ranking import RankSettings

    return RankSettings(args.outcomes, args.length_control, args.seed)


def run(args: argparse.Namespace) -> None:
    """Rank, print, and write where a folder is given."""
    from judgelm.ranking import rank
    from judgelm.report.ranking_table import describe

    check_columns(args, "human")
    ranking = rank(args.judgements, choose_ranking(args), args.human, args.columns, choose_calibration(args))
    print(describe(ranking))
    if ranking.corrected is not None:
        from judgelm.report.corrections import corrected_tables, rating_table

        print(f"\n{rating_table(ranking)}\n\n{corrected_tables(ranking.corrected)}")
    if args.output_dir:
        write_ranking(ranking, Path(args.output_dir).expanduser())


def write_ranking(ranking: Ranking, folder: Path) -> None:
    """ranking.json and ranking.svg."""
    from judgelm.files import write_text
    from judgelm.report.ranking_table import matrix_svg

    ranking.write(folder / "ranking.json", indent=2)
    write_text(folder / "ranking.svg", matrix_svg(ranking))
    print(f"written to {folder / 'ranking.json'}, {folder / 'ranking.svg'}")
