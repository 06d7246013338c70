"""`judgelm arena`: answer files of many models -> all pairs, judged in both orders, and a ranking."""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from judgelm.answers import combine_lines, index_answers
from judgelm.commands.rank import add_ranking_arguments, rank_samples, write_ranking
from judgelm.console import at_least
from judgelm.errors import InputError
from judgelm.evaluation.results import read_folder
from judgelm.flags import add_judging_arguments, add_keep_judged_argument, add_model_arguments, add_scores_only_argument
from judgelm.jsonl import Line, Record, read_text
from judgelm.report.ranking_table import describe

HELP = "judge many models' answers in pairs and rank them"
DESCRIPTION = (
    "Make pairs from the answer files of two or more models, judge them in both orders and rank the "
    "models. After any interruption the same command goes on where it stopped."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm arena`."""
    parser.add_argument(
        "--answers",
        required=True,
        nargs="+",
        metavar="FILE",
        help="a file for each model: question_id, question_body, text, and maybe model (default: the file's name); or"
        " as AlpacaEval and Arena-Hard write them",
    )
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
    add_scores_only_argument(parser)
    add_judging_arguments(parser)
    add_keep_judged_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Pair, judge what is not judged yet, and rank."""
    from judgelm.commands.choose import choose_judge, choose_settings
    from judgelm.commands.judge import print_judgements
    from judgelm.judge.choice import prepare
    from judgelm.judge.folder import judge_folder
    from judgelm.judge.kept import keep_questions
    from judgelm.samples import read_samples

    if args.outcomes == "soft" and args.scoring != "expected":
        raise InputError("--outcomes soft needs --scoring expected, which gives probabilities")
    folder = Path(args.output_dir).expanduser()
    questions = folder / "questions.jsonl"
    pairs = make_pairs(args.answers, args.pairs_per_question, args.seed)
    keep_questions(questions, pairs, args.keep_judged, "holds other pairs")
    samples = read_samples(questions, seed=args.seed)[: args.limit]
    judge = prepare(choose_judge(args))
    settings = choose_settings(args, "pair", args.scores_only)
    found = judge_folder(samples, folder, judge, settings, model_id=args.model_id, keep_judged=args.keep_judged)
    print_judgements(found, len(samples), judge)
    ranking = rank_samples(read_folder(folder), args)
    print(f"\n{describe(ranking)}")
    write_ranking(ranking, folder)


def make_pairs(answer_files: Sequence[str], pairs_per_question: int | None = None, seed: int = 0) -> list[Record]:
    """A judge sample for each question and pair of models; the id 17/1-3 is question 17, files 1 and 3.

    Raises InputError where the files do not answer the same questions, or two are of one model.
    """
    if len(answer_files) < 2:
        raise InputError(f"an arena needs two or more answer files, found {len(answer_files)}")
    indexes = index_answers(answer_files)
    names = [_model_name(path, index) for path, index in zip(answer_files, indexes, strict=True)]
    for one, other in combinations(range(len(names)), 2):
        if names[one] == names[other]:
            raise InputError(f"{answer_files[one]} and {answer_files[other]} are both of model {names[one]}")
    records = []
    for key in indexes[0]:
        for one, other in _draw(key, len(names), pairs_per_question, seed):
            record = combine_lines([indexes[one][key], indexes[other][key]])
            models = {"answer1_model_id": names[one], "answer2_model_id": names[other]}
            records.append(record | models | {"question_id": f"{key}/{one + 1}-{other + 1}"})
    return records


def _draw(key: str, num_models: int, most: int | None, seed: int) -> list[tuple[int, int]]:
    pairs = list(combinations(range(num_models), 2))
    if most is None or most >= len(pairs):
        return pairs
    return sorted(random.Random(f"{seed}:{key}").sample(pairs, most))


def _model_name(path: str, index: Mapping[str, Line]) -> str:
    """The name in the file, else the file's own."""
    first, *rest = index.values()
    given = first.record.get("model")
    name = Path(path.removesuffix(".gz")).stem if given is None else read_text(first, "model")
    for line in rest:
        if line.record.get("model") != given:
            raise InputError(
                f"{line.where}: model is {line.record.get('model')!r}, in line {first.number} {given!r}"
                " (expected one model a file)"
            )
    return name
