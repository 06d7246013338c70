"""`judgelm calibrate`: a judged folder and labels -> a map of its probabilities."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from judgelm.calibration import METHODS
from judgelm.flags import add_columns_argument
from judgelm.label_flags import add_labels_argument, check_columns

if TYPE_CHECKING:
    from judgelm.evaluation.calibration_map import CalibrationFile

HELP = "fit a map from a judge's probabilities to what labels bear out"
DESCRIPTION = (
    "Fit a map of P(win), P(tie) and P(lose) on labelled judgements, and a threshold for ties; both are checked on"
    " questions that they were not fitted on. The map goes with --calibration to judge, evaluate, rank, arena and"
    " serve."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `judgelm calibrate`."""
    parser.add_argument("folder", metavar="D", help="a folder that judgelm judge --scoring expected wrote, task pair")
    add_labels_argument(parser)
    add_columns_argument(parser, "question_id=id,label=winner")
    parser.add_argument("--output", required=True, metavar="MAP.json", help="gets the map")
    parser.add_argument(
        "--method",
        choices=tuple(METHODS),
        help="; ".join(f"{name}: {what}" for name, what in METHODS.items())
        + " (default: isotonic from 1000 labelled questions on)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the parts that questions are split into, and of the intervals"
    )


def run(args: argparse.Namespace) -> None:
    """Fit, check, print and write."""
    from judgelm.evaluation.calibrate import calibrate

    check_columns(args, "labels")
    found = calibrate(args.folder, args.labels, args.method, args.columns, args.seed)
    print_map(found, args.method is not None)
    found.write(args.output)
    print(f"written to {args.output}")


def print_map(found: CalibrationFile, chosen: bool) -> None:
    """The map in words, and what it did on questions that it was not fitted on."""
    from judgelm.evaluation.calibrate import ISOTONIC_FROM, LEAST_QUESTIONS
    from judgelm.evaluation.calibration_map import TemperatureMap
    from judgelm.evaluation.metrics.maps import TEMPERATURES
    from judgelm.report.terminal import calibration_table

    why = "" if chosen else f" (isotonic from {ISOTONIC_FROM:,} labelled questions on)"
    counts = ", ".join(f"{count} {name}" for name, count in found.outcomes.items())
    print(f"{found.labels} labels of {found.questions} questions: {counts}")
    print(f"method {found.map.method}{why}: {found.in_words}")
    print(f"\n{calibration_table(found)}\n")
    print(f"each fifth of the questions by a map of the others; the map itself is of all {found.questions}")
    if isinstance(found.map, TemperatureMap) and found.map.temperature > 0.99 * TEMPERATURES[1]:
        said = "warning: no temperature is too high, so its probabilities say nothing of who is better by these labels"
        print(f"judgelm: {said}", file=sys.stderr)
    gained = found.checked["brier"].difference
    if gained.high is None or gained.high >= 0:
        said = "warning: on other questions the map does not surely lower the Brier score"
        few = "" if found.questions >= 4 * LEAST_QUESTIONS else "; more labels would say more"
        print(f"judgelm: {said}{few}", file=sys.stderr)
