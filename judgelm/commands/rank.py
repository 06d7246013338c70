"""`judgelm rank`: judgements of many models' answers -> a ranking."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from judgelm.errors import InputError
from judgelm.evaluation.results import JudgedSample, read_files, read_folder
from judgelm.files import write_text
from judgelm.jsonl import dump_json
from judgelm.judgement import Outcome
from judgelm.report.ranking_table import describe

if TYPE_CHECKING:
    from judgelm.ranking.rank import Comparison, Ranking


HELP = "rank many models from pairwise judgements"
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
        " answer1_model_id and answer2_model_id",
    )
    parser.add_argument("--output-dir", metavar="DIR", help="gets ranking.json and ranking.svg")
    add_ranking_arguments(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the intervals and of the order in which Elo reads")


def add_ranking_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags that say how judgements become a ranking."""
    parser.add_argument(
        "--outcomes",
        choices=("hard", "soft"),
        default="hard",
        help="hard: a win where both orders agree, a tie where they contradict; soft: the mean probabilities of win,"
        " tie and loss, which --scoring expected gives",
    )
    parser.add_argument(
        "--length-control",
        action="store_true",
        help="take out what the answers' lengths do: ratings, and win rates at equal length, by logistic regression",
    )


def run(args: argparse.Namespace) -> None:
    """Rank, print, and write where a folder is given."""
    samples = [sample for place in args.judgements for sample in _read(place)]
    ranking = rank_samples(samples, args)
    print(describe(ranking))
    if args.output_dir:
        write_ranking(ranking, Path(args.output_dir).expanduser())


def _read(place: str) -> list[JudgedSample]:
    """Judgements with both models' names; raises InputError that names the first without."""
    samples = read_folder(place) if Path(place).expanduser().is_dir() else read_files(place)
    for sample in samples:
        if sample.known_answer and sample.models[0] is None:
            raise InputError(
                f"{place}: question_id {sample.key} grades one answer beside the right one: nobody is ranked"
            )
        for side, model in enumerate(sample.models, start=1):
            if model is None:
                raise InputError(
                    f"{place}: question_id {sample.key} has no answer{side}_model_id, without which nobody can be"
                    " ranked"
                )
        if sample.models[0] == sample.models[1]:
            raise InputError(f"{place}: question_id {sample.key} compares {sample.models[0]} with itself")
    return samples


def rank_samples(samples: Sequence[JudgedSample], args: argparse.Namespace) -> Ranking:
    """The ranking that the flags ask for. Raises InputError where nothing can be ranked from."""
    from judgelm.ranking.rank import rank

    found = [_comparison(sample, args.outcomes) for sample in samples]
    comparisons = [each for each in found if each is not None]
    if not comparisons and args.outcomes == "soft":
        raise InputError("no judgement has probabilities: --outcomes soft needs those that --scoring expected gives")
    if not comparisons:
        raise InputError("no judgement has scores that can be read: there is nothing to rank from")
    unread = len(found) - len(comparisons)
    return rank(comparisons, args.outcomes, unread, args.length_control, seed=args.seed)


def _comparison(sample: JudgedSample, rule: str) -> Comparison | None:
    """None where a score line could not be read."""
    from judgelm.ranking.rank import Comparison

    first, second = sample.models
    chances = sample.probabilities if rule == "soft" else _certain(sample.outcome_by("agree"))
    if first is None or second is None or chances is None:
        return None
    lengths = (len(sample.answers[0]), len(sample.answers[1]))
    outcomes = (chances[Outcome.WIN], chances[Outcome.TIE], chances[Outcome.LOSE])
    return Comparison(first, second, outcomes, sample.cluster or sample.key, lengths)


def _certain(outcome: Outcome | None) -> Mapping[Outcome, float] | None:
    return None if outcome is None else {each: float(each is outcome) for each in Outcome}


def write_ranking(ranking: Ranking, folder: Path) -> None:
    """ranking.json and ranking.svg."""
    from judgelm.report.ranking_table import matrix_svg

    write_text(folder / "ranking.json", dump_json(ranking.to_record(), indent=2) + "\n")
    write_text(folder / "ranking.svg", matrix_svg(ranking))
    print(f"written to {folder / 'ranking.json'}, {folder / 'ranking.svg'}")
