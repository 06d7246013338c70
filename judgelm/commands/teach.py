"""`judgelm teach`: answer files of many models and a teacher -> what a judge is trained and measured on."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from judgelm.commands.choose import choose_judge, choose_model, choose_server, choose_settings, with_cache
from judgelm.errors import InputError, one_line
from judgelm.flags import (
    MODEL_NAMES,
    add_answers_arguments,
    add_engine_argument,
    add_run_arguments,
)
from judgelm.judge import AnyJudge, ModelChoice

if TYPE_CHECKING:
    from judgelm.engine.openai.server import Server
    from judgelm.teaching import TeachReport

HELP = "have a teacher judge many models' answers, and write training rows"
DESCRIPTION = (
    "Pair the answers of two or more models, have a teacher judge each pair in both orders, with and without a "
    "reference, and write what a judge learns from: train.jsonl, and of other questions validation.jsonl. After any "
    "interruption the same command goes on where it stopped."
)
_FILE = re.compile(r".+\.(jsonl|json|csv|tsv|parquet)(\.gz)?", re.IGNORECASE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm teach`."""
    add_answers_arguments(parser)
    parser.add_argument("--teacher", required=True, dest="model", metavar="MODEL", help=f"who judges: {MODEL_NAMES}")
    add_engine_argument(parser)
    parser.add_argument("--model-id", metavar="NAME", help="name of the teacher in the rows (default: the model's)")
    parser.add_argument(
        "--output-dir",
        required=True,
        metavar="DIR",
        help="gets train.jsonl, validation.jsonl, teacher.jsonl, references.jsonl and teach.json, and in `judged` all"
        " that the teacher said",
    )
    _add_row_arguments(parser)
    parser.add_argument(
        "--task", default="pair", choices=("pair", "grade"), help="two answers are compared, or each is graded alone"
    )
    add_run_arguments(parser, orders=False)


def _add_row_arguments(parser: argparse.ArgumentParser) -> None:
    """How rows are made."""
    parser.add_argument(
        "--references",
        metavar="MODEL|FILE",
        help="the teacher judges with a reference too: those of a file (question_id, reference; or a file of answers),"
        " or those that this model writes, behind the same engine as the teacher (default: without a reference alone)",
    )
    parser.add_argument(
        "--pairs",
        type=_pairs,
        metavar="all|N",
        help="pairs of answers to each question; with N all models are drawn equally often, by --seed (default: all)",
    )
    parser.add_argument(
        "--inconsistent",
        default="drop",
        choices=("drop", "keep", "tie"),
        help="a pair of which the teacher says another thing once the answers are exchanged: leave it out, keep what"
        " was said of the order written, or make it a tie",
    )
    parser.add_argument(
        "--validation",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of the questions that are kept for measuring, none of them a near double of one that is trained on",
    )


def _pairs(value: str) -> int | None:
    if value == "all":
        return None
    try:
        if (found := int(value)) > 0:
            return found
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected all or a whole number from 1 on, found {value!r}")


def run(args: argparse.Namespace) -> None:
    """Pair, judge what is not judged yet, and write the rows."""
    from judgelm.teaching import TeachSettings, teach

    report = teach(
        args.answers,
        args.output_dir,
        choose_judge(args),
        TeachSettings(args.pairs, args.inconsistent, args.validation),
        choose_settings(args, args.task, args.scores_only),
        references=None if args.references is None else _choose_references(args),
        model_id=args.model_id,
        limit=args.limit,
        keep_judged=args.keep_judged,
        columns=args.columns,
        question_file=args.question_file,
        keep_thinking=args.keep_thinking,
    )
    print("\n".join(_lines(report)))
    print(f"written to {args.output_dir}")


def _choose_references(args: argparse.Namespace) -> str | AnyJudge:
    """A file, where one is there or the name is that of one; else the model that writes them."""
    name = args.references
    if Path(name).expanduser().is_file():
        return str(name)
    if _FILE.fullmatch(name):
        raise InputError(f"{name}: no such file")
    # a question is a message, whatever form a judge is asked in; another model has prices of its own
    if args.engine == "openai":
        server = choose_server(args)
        writer: Server | ModelChoice = replace(
            server, model=name, api="chat", prices=server.prices if name == args.model else None
        )
    else:
        writer = replace(choose_model(args, name), constrained=False, prompt_format="chat")
    return with_cache(args, writer)


def _lines(report: TeachReport) -> list[str]:
    """What came of it."""
    names = ", ".join(f"{one_line(each.name)} {each.first}+{each.second}" for each in report.models)
    judged = [("without reference", report.without_reference), ("with reference", report.with_reference)]
    lines = [
        f"questions {report.questions}, near doubles {report.near_doubles}, with too few answers"
        f" {report.left_out_questions}; answers equal {report.equal_answers}, empty {report.empty_answers}",
        f"shown first + second: {names}",
    ]
    if (found := report.references) is not None:
        lines.append(f"references {found.questions} of {report.questions}{_why(found.left_out)}")
    for name, numbers in judged:
        if numbers is not None:
            known = {rate: found.value for rate, found in numbers.rates.items() if found.value is not None}
            rates = [
                f", {rate} {100 * known[rate]:.1f} %"
                for rate in ("consistency", "bias_first", "bias_second")
                if rate in known
            ]
            lines.append(f"{name}: judged {numbers.judged}{''.join(rates)}{_why(numbers.left_out)}")
    for name, half in (("train", report.train), ("validation", report.validation)):
        lines.append(f"{name}: rows {half.rows}, questions {half.questions}, with a reference {half.with_reference}")
    cost = "" if report.cost is None else f"cost: {report.cost:.4f}, "
    return [*lines, f"{cost}prompt tokens {report.prompt_tokens}, generated tokens {report.generated_tokens}"]


def _why(left_out: dict[str, int]) -> str:
    said = ", ".join(f"{why} {count}" for why, count in left_out.items() if count)
    return f"; left out: {said}" if said else ""
